"""A fixed sample of a modality's items, on which the background of every query is measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.index.exact import Rows

__all__ = ["SAMPLE", "Sample", "Watcher", "sample_of"]

SAMPLE = 4096
"""Items of a sample: all items of a smaller gallery."""
_SAMPLE_ROWS = 4 * SAMPLE


@dataclass(frozen=True, slots=True)
class Sample:
    """Some of the living items of one modality.

    Attributes:
        positions: (n,) int64, ascending: which of the living items, in the order of their rows.
        rows: (m,) int64, ascending: all their rows.
    """

    positions: NDArray[np.int64]
    rows: NDArray[np.int64]


def sample_of(rows: Rows) -> Sample:
    """Draw at most `SAMPLE` living items by a hash of their numbers, fewer where they have many segments.

    The draw is fixed: an item that is added or removed changes it by that item alone, and a filter not at all.
    """
    living = np.arange(len(rows)) if rows.alive is None else np.flatnonzero(rows.alive)
    if not len(living):
        return Sample(np.zeros(0, np.int64), np.zeros(0, np.int64))
    item = rows.item[living]
    starts = np.concatenate([[0], np.flatnonzero(item[1:] != item[:-1]) + 1])
    sizes = np.diff(np.append(starts, len(item)))
    if len(starts) <= SAMPLE and len(item) <= _SAMPLE_ROWS:
        return Sample(np.arange(len(starts)), living.astype(np.int64))
    order = np.argsort(_scattered(item[starts]), kind="stable")[:SAMPLE]
    kept = max(1, int(np.searchsorted(np.cumsum(sizes[order]), _SAMPLE_ROWS, side="right")))
    positions = np.sort(order[:kept]).astype(np.int64)
    chosen = np.zeros(len(starts), np.bool_)
    chosen[positions] = True
    return Sample(positions, living[np.repeat(chosen, sizes)].astype(np.int64))


def _scattered(numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return numbers that look random, each a function of one given number (the finaliser of SplitMix64)."""
    mixed = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


class Watcher:
    """Gathers the scores of a sample's items while `best_items` scans."""

    def __init__(self, queries: int, positions: NDArray[np.int64] | None = None) -> None:
        """Watch a scan.

        Args:
            queries: How many search at once.
            positions: Ascending positions of the items to keep among those that are scanned; all where `None`.
        """
        self._positions = positions
        self._blocks: list[list[NDArray[np.float32]]] = [[] for _ in range(queries)]

    def __call__(self, query: int, item: int, scores: NDArray[np.float32]) -> None:
        """Keep what belongs to the sample of (q, n) scores, of which the first is that of a query and an item."""
        if self._positions is not None:
            low, high = np.searchsorted(self._positions, [item, item + scores.shape[1]])
            scores = scores[:, self._positions[low:high] - item]
        for number, row in enumerate(scores, query):
            self._blocks[number].append(row)

    def scores(self) -> NDArray[np.float32]:
        """Return (Q, n) scores."""
        return np.stack([np.concatenate(blocks) for blocks in self._blocks])
