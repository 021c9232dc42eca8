"""Which items of a run a sample may draw: those with the lowest hashes, together, as a large part stores them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["DRAWN", "HIGHEST", "SAMPLE", "Drawn", "DrawnRows", "draw", "item_starts", "scattered", "spans_rows"]

SAMPLE = 4096
"""Items of a sample: all items of a smaller gallery."""
DRAWN = SAMPLE + SAMPLE // 2
"""Items that are drawn of each run, so that some may be deleted."""
_ROWS = 4
HIGHEST = np.uint64(2**64 - 1)


@dataclass(frozen=True, slots=True)
class DrawnRows:
    """Copies of the rows of drawn items, side by side.

    Attributes:
        seq: (m,) int64 segment numbers.
        item: (m,) int64 item numbers.
        vectors: (m, embed_dim) float16.
    """

    seq: NDArray[np.int64]
    item: NDArray[np.int64]
    vectors: NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Drawn:
    """The items of a run with the lowest hashes, dead ones included.

    Attributes:
        hashes: (n,) uint64, of each item's number.
        low: (n,) int64, ascending: first row of each item.
        high: (n,) int64 the row after its last one.
        bound: Every item with a hash up to this one was drawn.
        rows: Their rows; `None` where those of the run have to be read.
    """

    hashes: NDArray[np.uint64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    bound: np.uint64
    rows: DrawnRows | None = None


def item_starts(item: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each item begins, given the item number of every row."""
    if not len(item):
        return np.zeros(0, np.int64)
    return np.concatenate([[0], np.flatnonzero(item[1:] != item[:-1]) + 1]).astype(np.int64)


def draw(item: NDArray[np.int64], starts: NDArray[np.int64], count: int) -> Drawn:
    """Draw the items with the lowest hashes of a run: the same ones whatever else there is.

    Args:
        item: (N,) item number of every row.
        starts: (n,) first row of every item.
        count: Items wanted; fewer where they have more than `_ROWS` rows per item.
    """
    hashes = scattered(item[starts])
    ends = np.append(starts[1:], len(item))
    order = np.argpartition(hashes, count - 1)[:count] if len(hashes) > count else np.arange(len(hashes))
    order = order[np.argsort(hashes[order])]
    rows = np.cumsum(ends[order] - starts[order])
    groups = order[: max(1, int(np.searchsorted(rows, _ROWS * count, side="right")))]
    bound = HIGHEST if len(groups) == len(hashes) else hashes[groups[-1]]
    groups = np.sort(groups)
    return Drawn(hashes[groups], starts[groups], ends[groups], bound)


def spans_rows(low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the numbers of all spans [low, high), one after the other."""
    size = high - low
    ends = np.cumsum(size)
    found: NDArray[np.int64] = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(low - (ends - size), size)
    return found


def scattered(numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return numbers that look random, each a function of one given number (the finaliser of SplitMix64)."""
    mixed = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
