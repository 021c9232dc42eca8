"""What the generators know: names of the training split with their vectors.

It answers three questions: is a vector near anything known, which training items lie beside it, and what is the nearest
vector that a text could have had.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from embedspace.encoders.quantize import from_rows, to_rows8
from embedspace.errors import WeightsError
from embedspace.generate.base import Neighbour, read_config
from embedspace.media.source import one_line

__all__ = ["Memory", "load_memory"]

_FILE = "memory.safetensors"
_TEMPERATURE = 0.05
"""Of the shares of names: as the caption head projects."""


class Memory:
    """Captions of training items and their centred text vectors.

    Args:
        vectors: (M, embed_dim) unit rows.
        captions: M texts.
        items: M ids of a training item that has the caption.
        nearest: Source modality -> cosine with the nearest caption below which a vector counts as unknown.
        pictured: Places of the captions that pictures bear, ascending; all where `None`.
    """

    def __init__(
        self,
        vectors: NDArray[np.float32],
        captions: Sequence[str],
        items: Sequence[str],
        nearest: Mapping[str, float] | None = None,
        pictured: Sequence[int] | None = None,
    ) -> None:
        if not len(vectors) == len(captions) == len(items):
            raise WeightsError(f"{len(vectors)} vectors, {len(captions)} captions and {len(items)} ids do not match")
        self.vectors = vectors
        self.captions = list(captions)
        self.items = list(items)
        self.nearest = dict(nearest or {})
        self.pictured = None if pictured is None else np.asarray(pictured, np.int64)
        if self.pictured is not None and not np.isin(self.pictured, np.arange(len(captions))).all():
            raise WeightsError(f"pictured captions: places outside 0 to {len(captions) - 1}")

    def __len__(self) -> int:
        """Return the number of captions."""
        return len(self.captions)

    def cosines(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (N, M) cosines of centred unit rows (N, embed_dim)."""
        found: NDArray[np.float32] = vectors @ self.vectors.T
        return found

    def is_known(self, vectors: NDArray[np.float32], modality: str) -> NDArray[np.bool_]:
        """Return (N,) whether each centred vector is as near to a caption as those of known things are."""
        threshold = self.nearest.get(modality, min(self.nearest.values(), default=-1.0))
        known: NDArray[np.bool_] = self.cosines(vectors).max(axis=1) >= threshold
        return known

    def neighbours(self, vector: NDArray[np.float32], k: int) -> tuple[Neighbour, ...]:
        """Return the k nearest training items of a centred vector (embed_dim,), nearest first."""
        row = self.cosines(vector[None])[0]
        order = np.argsort(-row, kind="stable")[:k]
        return tuple(Neighbour(self.items[i], self.captions[i], float(row[i])) for i in order)

    def names(self, vector: NDArray[np.float32], k: int) -> list[tuple[str, float]]:
        """Return the k nearest captions of a centred vector with their shares, a softmax of the cosines."""
        beside = self.neighbours(vector, k)
        weights = np.exp((np.array([n.similarity for n in beside]) - beside[0].similarity) / _TEMPERATURE)
        return [(n.caption, float(w)) for n, w in zip(beside, weights / weights.sum(), strict=True)]

    def readings(self, vectors: NDArray[np.float32], k: int, temperature: float) -> NDArray[np.float32]:
        """Return the names that pictures, centred vectors (N, embed_dim), may have: (N, k, embed_dim), likeliest first.

        A row's direction is the name's vector, its length the name's share: softmax(cosine / temperature) among the k
        nearest names that pictures bear. Names of songs or recipes, which no picture is called, take no part.
        """
        names = self.vectors if self.pictured is None else self.vectors[self.pictured]
        cosines = vectors @ names.T
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]  # (N, k)
        logits = np.take_along_axis(cosines, order, axis=1).astype(np.float64) / temperature
        shares = np.exp(logits - logits[:, :1])
        shares /= shares.sum(axis=1, keepdims=True)
        rows: NDArray[np.float32] = (names[order] * shares[..., None]).astype(np.float32)
        return rows

    def project(self, vectors: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
        """Return the text vectors that centred vectors (N, embed_dim) stand for, unit rows.

        Each is the mean of the captions' vectors weighted by softmax(cosine / temperature): it lies where texts lie.

        Source: Li et al. 2023 (DeCap, https://arxiv.org/abs/2303.03032), equation 3.
        """
        logits = self.cosines(vectors).astype(np.float64) / temperature
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        rows = (weights / weights.sum(axis=1, keepdims=True)) @ self.vectors
        unit: NDArray[np.float32] = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(
            np.float32
        )
        return unit

    def settle(
        self, vectors: NDArray[np.float32], sigma: NDArray[np.float32], temperature: float, settled: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Project the vectors whose noise is larger than what a projected vector has; leave the others as they are.

        Args:
            vectors: (N, embed_dim) centred unit rows.
            sigma: (N,) noise in each.
            temperature: Of `project`; 0 leaves every vector as it is.
            settled: Noise that is then assumed in a projected vector.

        Returns:
            Vectors and noise, of the same shapes.
        """
        noisy = np.asarray(sigma) > settled
        if temperature <= 0 or not noisy.any():
            return vectors, sigma
        rows, noise = vectors.copy(), np.array(sigma, np.float32)
        rows[noisy], noise[noisy] = self.project(vectors[noisy], temperature), settled
        return rows, noise

    def save(self, folder: Path, text_head: str) -> None:
        """Write memory.safetensors and memory.json; `text_head` is the checksum of the head that made the vectors."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(to_rows8({"vectors": torch.from_numpy(self.vectors)}), folder / _FILE)
        about = {
            "format": 1,
            "text_head": text_head,
            "nearest": self.nearest,
            "captions": self.captions,
            "items": self.items,
            **({} if self.pictured is None else {"pictured": self.pictured.tolist()}),
        }
        (folder / "memory.json").write_text(json.dumps(about, ensure_ascii=False) + "\n", "utf-8")


@lru_cache(maxsize=2)
def load_memory(folder: Path) -> Memory:
    """Read what `Memory.save` wrote.

    Raises:
        WeightsError: If it is missing or damaged.
    """
    about = read_config(folder / "memory.json")
    try:
        vectors = from_rows(load_file(folder / _FILE))["vectors"].float()
        rows = torch.nn.functional.normalize(vectors, dim=1).numpy()
        return Memory(rows, about["captions"], about["items"], about["nearest"], about.get("pictured"))
    except (SafetensorError, KeyError, TypeError, AttributeError, OSError) as error:
        raise WeightsError(f"{folder / _FILE}: not the memory of generators: {one_line(error)}") from error
