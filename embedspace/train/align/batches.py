"""Items and captions as training draws them: rows of frozen towers, or media that tuned ones read at every step."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from embedspace.encoders.tower import TowerEncoder
from embedspace.train.align.media import prepared_of
from embedspace.train.align.model import Inputs

__all__ = ["Batch", "Items", "Texts", "draw"]


@dataclass(frozen=True)
class Items:
    """The items of one modality and split.

    Attributes:
        modality: Modality of all of them.
        captions: For each item numbers of its captions, the best first.
        encoder: Reads the media at every step, where its tower is tuned.
        media: Media of each item.
        rows: (M, feature_dim) of a frozen tower.
        views: For each item its rows.
    """

    modality: str
    captions: list[NDArray[np.int64]]
    encoder: TowerEncoder | None = None
    media: Sequence[Any] = ()
    rows: Tensor | None = None
    views: Sequence[NDArray[np.int64]] = ()

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.captions)

    def inputs(self, items: NDArray[np.int64], dice: NDArray[np.float64]) -> Inputs:
        """Return what the model encodes.

        Args:
            items: (B,) numbers of items.
            dice: (B,) in [0, 1), each chooses a view; 0 is the first.
        """
        if self.rows is not None:
            chosen = [self.views[i][int(d * len(self.views[i]))] for i, d in zip(items, dice, strict=True)]
            return self.rows[torch.from_numpy(np.array(chosen, np.int64))].float()
        assert self.encoder is not None
        parts = [prepared_of(self.encoder, self.media[i]) for i in items]
        return [part[int(d * len(part))] for part, d in zip(parts, dice, strict=True)]


@dataclass(frozen=True)
class Texts:
    """All captions.

    Attributes:
        captions: The texts.
        rows: (C, feature_dim) of the text tower as it came.
        encoder: Reads them at every step, where its tower is tuned.
    """

    captions: list[str]
    rows: Tensor
    encoder: TowerEncoder | None = None

    def inputs(self, captions: NDArray[np.int64]) -> Inputs:
        """Return what the model encodes of (B,) numbers of captions."""
        if self.encoder is None:
            return self.rows[torch.from_numpy(captions)].float()
        return [prepared_of(self.encoder, self.captions[k])[0] for k in captions]

    def likeness(self, captions: NDArray[np.int64]) -> Tensor:
        """Return the (B, B) cosines of captions by the text tower as it came, its rows centred.

        Towers differ in how alike all their rows are; about their mean, one threshold means nearly the same for all.
        """
        rows = F.normalize(self.rows[torch.from_numpy(captions)].float() - self.mean, dim=-1)
        return rows @ rows.T

    @functools.cached_property
    def mean(self) -> Tensor:
        """(feature_dim,) mean of the rows."""
        return self.rows.float().mean(dim=0)


@dataclass(frozen=True)
class Batch:
    """Numbers of items (B,), the dice that choose their views (B,), and numbers of their captions (B,)."""

    items: NDArray[np.int64]
    dice: NDArray[np.float64]
    captions: NDArray[np.int64]


def draw(items: Items, size: int, first_caption: float, generator: torch.Generator) -> Batch:
    """Draw a batch; no item is drawn twice where there are enough.

    Args:
        items: To draw from.
        size: Size of the batch.
        first_caption: Probability of an item's first caption rather than any of its captions.
        generator: Source of randomness.
    """
    random = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator).item()))
    chosen = random.choice(len(items), size=size, replace=len(items) < size)
    dice, first, which = random.random(size), random.random(size) < first_caption, random.random(size)
    known = [items.captions[i] for i in chosen]
    captions = [k[0] if f else k[int(w * len(k))] for k, f, w in zip(known, first, which, strict=True)]
    return Batch(chosen, dice, np.array(captions, np.int64))
