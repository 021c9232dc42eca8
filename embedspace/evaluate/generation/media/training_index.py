"""Training items of a generator by their latents: which of them a thing is most like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedspace.evaluate.generation.media.medium import Content, Medium
from embedspace.generate.latents.generator import LatentGenerator

__all__ = ["TrainingIndex"]

_CHUNK = 32


class TrainingIndex:
    """Training items by their latents: which of them a thing is most like.

    Likeness is the correlation of latents less the neighbours' mean, as the generator itself reports it; a picture's
    mirror image counts as the picture.

    Args:
        generator: Its neighbours are training items that it keeps; `add` adds what else it was trained on.
        medium: The generator's.
    """

    def __init__(self, generator: LatentGenerator, medium: Medium) -> None:
        self._generator, self._medium = generator, medium
        self._mean = generator.neighbours.latents.flatten(1).mean(dim=0).numpy()
        self.items = list(generator.neighbours.items)
        self._rows = self._unit(generator.neighbours.latents)

    def add(self, items: Sequence[str], rows: NDArray[np.float32]) -> None:
        """Add training items by their ids and what `rows_of` gives for them."""
        self.items += items
        self._rows = np.concatenate([self._rows, rows])

    def rows_of(self, contents: Sequence[Content]) -> NDArray[np.float32]:
        """Return (N, C * H * W) unit rows of contents' latents."""
        rows = [self._unit(self._latents(part)) for part in _chunks(contents)]
        return np.concatenate(rows) if rows else self._rows[:0]

    def __len__(self) -> int:
        """Return the number of training items."""
        return len(self.items)

    def _latents(self, contents: Sequence[Content]) -> Tensor:
        with torch.inference_mode():
            return self._generator.autoencoder.encode(self._medium.inputs(contents))

    def _unit(self, latents: Tensor) -> NDArray[np.float32]:
        flat = latents.flatten(1).numpy() - self._mean
        rows: NDArray[np.float32] = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
        return rows

    def nearest(self, contents: Sequence[Content]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return numbers and similarities (N,) of the training items that contents are most like."""
        numbers, values = [], []
        for part in _chunks(contents):
            with torch.inference_mode():
                inputs = self._medium.inputs(part)
                mirrored = self._medium.mirrored(inputs)
                views = [self._generator.autoencoder.encode(x) for x in (inputs, mirrored) if x is not None]
            found = np.max([self._unit(view) @ self._rows.T for view in views], axis=0)  # (B, M)
            numbers.append(found.argmax(axis=1))
            values.append(found.max(axis=1))
        if not numbers:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        return np.concatenate(numbers), cast("NDArray[np.float32]", np.concatenate(values))


def _chunks(contents: Sequence[Content]) -> list[Sequence[Content]]:
    return [contents[start : start + _CHUNK] for start in range(0, len(contents), _CHUNK)]
