"""Exact search: the best segment of each of the best items, block by block, never a whole query-by-corpus matrix."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.store.vectors import SegmentRows

__all__ = ["Best", "Rows", "Watch", "best_items", "best_of"]

_BLOCK = 16384
_QUERIES = 64
_FEW = 4
_DECIMALS = 6
"""Scores that agree to this many decimals are ties, broken by content id: a matrix product is no more exact."""


Watch = Callable[[int, int, NDArray[np.float32]], None]
"""Told of each block's scores: number of its first query, of its first item, and (q, n) best score of every item."""


@dataclass(frozen=True, slots=True)
class Best:
    """The best items of one query, best first.

    Attributes:
        rows: (n,) row of each item's best segment.
        scores: (n,) float32 cosines, descending.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]


class Rows:
    """Rows of one modality behind one numbering: packed ones (maybe on disk) first, newer ones after them."""

    def __init__(self, base: SegmentRows, tail: SegmentRows, *, in_memory_bytes: int = 512 << 20) -> None:
        """Join two runs of rows.

        Args:
            base: Packed rows.
            tail: Rows newer than the packed ones.
            in_memory_bytes: Up to this much float32 is kept, so that a warm search converts nothing.
        """
        self.base, self.tail = base, tail
        joined = [
            np.concatenate([getattr(base, name), getattr(tail, name)]) if len(tail.seq) else getattr(base, name)
            for name in ("seq", "item", "key")
        ]
        self.seq, self.item, self.key = joined
        self.alive: NDArray[np.bool_] | None = None
        self._float32: NDArray[np.float32] | None = None
        self._keep = 4 * len(self.seq) * base.vectors.shape[1] <= in_memory_bytes
        self._starts: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """Return the number of rows, dead ones included."""
        return len(self.seq)

    def with_alive(self, alive: NDArray[np.bool_] | None) -> Rows:
        """Return the same rows with others of them deleted; a search that reads these is not disturbed."""
        other = copy.copy(self)
        other.alive = alive
        return other

    @property
    def starts(self) -> NDArray[np.int64]:
        """First row of every item."""
        if self._starts is None:
            self._starts = _starts(self.item)
        return self._starts

    def positions(self, sequence: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the ascending rows that have these ascending sequence numbers, of those that some row has."""
        if not len(self):
            return np.zeros(0, np.int64)
        at = np.minimum(np.searchsorted(self.seq, sequence), len(self) - 1)
        found: NDArray[np.int64] = at[self.seq[at] == sequence]
        return found

    def block(self, first: int, last: int) -> NDArray[np.float32]:
        """Return rows first to last as (n, embed_dim) float32."""
        if self._keep:
            if self._float32 is None:
                self._float32 = np.concatenate([self.base.vectors, self.tail.vectors], dtype=np.float32)
            return self._float32[first:last]
        middle = len(self.base.seq)
        if last <= middle:
            return self.base.vectors[first:last].astype(np.float32)
        if first >= middle:
            return self.tail.vectors[first - middle : last - middle].astype(np.float32)
        parts = [self.base.vectors[first:], self.tail.vectors[: last - middle]]
        return np.concatenate(parts, dtype=np.float32)

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return some rows, ascending, as (n, embed_dim) float32."""
        if self._float32 is not None:
            return self._float32[rows]
        middle = int(np.searchsorted(rows, len(self.base.seq)))
        return np.concatenate(
            [self.base.vectors[rows[:middle]], self.tail.vectors[rows[middle:] - len(self.base.seq)]], dtype=np.float32
        )


def _starts(item: NDArray[np.int64]) -> NDArray[np.int64]:
    if not len(item):
        return np.zeros(0, np.int64)
    return np.concatenate([[0], np.flatnonzero(item[1:] != item[:-1]) + 1]).astype(np.int64)


def _bounds(starts: NDArray[np.int64], count: int) -> list[tuple[int, int, NDArray[np.int64]]]:
    """Cut rows into blocks at the borders of items: (first, last, starts within the block)."""
    blocks, cut = [], 0
    while cut < len(starts):
        stop = int(np.searchsorted(starts, starts[cut] + _BLOCK, side="right"))
        stop = max(stop - 1, cut + 1) if stop < len(starts) else len(starts)
        last = int(starts[stop]) if stop < len(starts) else count
        blocks.append((int(starts[cut]), last, starts[cut:stop] - starts[cut]))
        cut = stop
    return blocks


def best_items(
    rows: Rows,
    queries: NDArray[np.float32],
    k: int,
    subset: NDArray[np.int64] | None = None,
    watch: Watch | None = None,
) -> list[Best]:
    """Return the k items closest to each query, each by its best segment.

    Args:
        rows: What is searched.
        queries: (Q, embed_dim) float32 unit rows.
        k: Items wanted per query.
        subset: Ascending rows to search; all where `None`.
        watch: Told of every item's score.

    Returns:
        One `Best` per query; ties are broken by content id.
    """
    if subset is None and rows.alive is not None:
        subset = np.flatnonzero(rows.alive).astype(np.int64)
    starts = rows.starts if subset is None else _starts(rows.item[subset])
    count = len(rows) if subset is None else len(subset)
    results: list[Best] = []
    for first in range(0, len(queries), _QUERIES):
        some = queries[first : first + _QUERIES]
        merges = [_Merge(k) for _ in range(len(some))]
        seen = 0
        for begin, end, within in _bounds(starts, count):
            numbers = np.arange(begin, end) if subset is None else subset[begin:end]
            block = rows.block(begin, end) if subset is None else rows.take(numbers)
            scores = _cosines(some, block)
            best = scores if len(within) == end - begin else np.maximum.reduceat(scores, within, axis=1)
            if watch is not None:
                watch(first, seen, best)
            seen += len(within)
            _search_block(scores, best, within, numbers, merges)
        results.extend(merge.finish(rows.key) for merge in merges)
    return results


def _cosines(queries: NDArray[np.float32], block: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (Q, n) products; a few queries without the threads of BLAS, whose waking costs more than the product."""
    if len(queries) <= _FEW:
        return np.stack([np.vecdot(block, query) for query in queries])
    return queries @ block.T


def _search_block(
    scores: NDArray[np.float32],
    best: NDArray[np.float32],
    starts: NDArray[np.int64],
    numbers: NDArray[np.int64],
    merges: list[_Merge],
) -> None:
    single = best is scores
    ends = np.append(starts[1:], scores.shape[1])
    for query, merge in enumerate(merges):
        groups = merge.candidates(best[query])
        at = starts[groups]
        if not single:
            spans = zip(at, ends[groups], strict=True)
            at = np.asarray([low + int(np.argmax(scores[query, low:high])) for low, high in spans], np.int64)
        merge.add(numbers[at], best[query, groups])


class _Merge:
    """The k best of one query over the blocks seen so far, with what ties with the last of them."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.rows: list[NDArray[np.int64]] = []
        self.scores: list[NDArray[np.float32]] = []
        self.floor = -np.inf

    def candidates(self, scores: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return which of a block's items can still be among the best."""
        floor = self.floor
        if len(scores) > self.k:
            floor = max(floor, float(np.partition(scores, -self.k)[-self.k]))
        self.floor = floor
        return np.flatnonzero(scores >= floor - 10.0**-_DECIMALS)

    def add(self, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> None:
        """Keep candidates."""
        self.rows.append(rows)
        self.scores.append(scores)

    def finish(self, key: NDArray[np.uint64]) -> Best:
        """Return the best."""
        if not self.rows:
            return Best(np.zeros(0, np.int64), np.zeros(0, np.float32))
        return best_of(np.concatenate(self.rows), np.concatenate(self.scores), key, self.k)


def best_of(rows: NDArray[np.int64], scores: NDArray[np.float32], key: NDArray[np.uint64], k: int) -> Best:
    """Sort candidates, one per item, by score and then by content id; return the first k."""
    rounded = np.round(scores, _DECIMALS)
    order = np.lexsort((key[rows, 1], key[rows, 0], -rounded))[:k]
    return Best(rows[order], rounded[order])
