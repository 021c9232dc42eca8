"""Batches of pairs from cached features: balanced over sources, one random caption an item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedspace.errors import ConfigError

__all__ = ["CaptionTable", "PairBatches", "PairSource"]


@dataclass(frozen=True)
class CaptionTable:
    """The text features of every distinct caption.

    Attributes:
        index: Caption -> row.
        features: (M, text_dim) float16 or float32 unit rows of the frozen text backbone.
    """

    index: Mapping[str, int]
    features: NDArray[np.floating]

    def rows(self, captions: Sequence[str]) -> NDArray[np.int64]:
        """Return the rows of some captions, (len(captions),)."""
        return np.array([self.index[c] for c in captions], dtype=np.int64)


@dataclass(frozen=True)
class PairSource:
    """The items of one source.

    Attributes:
        name: Name of the source.
        features: (N, feature_dim) cached features; several views are rows of the same item, see `views`.
        views: (N_items, V) rows of `features` that show item i.
        captions: For each item, rows of the caption table; the first is the best.
        weight: Share of a batch that this source fills, relative to the others.
        item_weights: Relative weight of each item within the source; uniform where None.
    """

    name: str
    features: NDArray[np.floating]
    views: NDArray[np.int64]
    captions: list[NDArray[np.int64]]
    weight: float = 1.0
    item_weights: NDArray[np.float64] | None = None


class PairBatches:
    """Draws `(features, text)` batches from several sources.

    Args:
        sources: The sources; each batch holds them in proportion to their weights.
        captions: The table that the sources' caption rows point into.
        batch_size: Pairs a batch.
        first_caption: Probability of the best caption rather than any of the item's.

    Raises:
        ConfigError: If no source has an item.
    """

    def __init__(
        self, sources: Sequence[PairSource], captions: CaptionTable, batch_size: int, first_caption: float = 0.6
    ) -> None:
        self.sources = [s for s in sources if len(s.views)]
        if not self.sources:
            raise ConfigError(
                f"no item to train on in {', '.join(s.name for s in sources) or 'no source at all'}: name sources in "
                "the recipe whose corpora, captions and features are made"
            )
        self.captions = captions
        self.batch_size = batch_size
        self.first_caption = first_caption
        self._text = torch.from_numpy(np.asarray(captions.features, dtype=np.float32))
        weights = np.array([s.weight for s in self.sources], dtype=np.float64)
        self._share = weights / weights.sum()
        self._item_share = [
            None if s.item_weights is None else s.item_weights / s.item_weights.sum() for s in self.sources
        ]

    def draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return features (B, feature_dim) float32 and text features (B, text_dim) float32 of one batch."""
        random = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator).item()))
        counts = random.multinomial(self.batch_size, self._share)
        features, texts = [], []
        for source, share, count in zip(self.sources, self._item_share, counts, strict=True):
            items = random.choice(len(source.views), size=count, p=share, replace=True)
            view = random.integers(source.views.shape[1], size=count)
            features.append(np.asarray(source.features[source.views[items, view]], dtype=np.float32))
            texts.append(np.array([self._caption(source.captions[i], random) for i in items], dtype=np.int64))
        rows = torch.from_numpy(np.concatenate(texts))
        return torch.from_numpy(np.concatenate(features)), self._text[rows]

    def _caption(self, rows: NDArray[np.int64], random: np.random.Generator) -> int:
        if len(rows) == 1 or random.random() < self.first_caption:
            return int(rows[0])
        return int(rows[random.integers(len(rows))])
