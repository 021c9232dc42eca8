"""Exact search: the best segment of each of the best items, block by block, never a whole query-by-corpus matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.index.runs import Rows
from embedspace.catalog.index.sampling.drawn import item_starts

__all__ = ["DECIMALS", "Best", "Watch", "best_few", "best_items", "best_of", "cosines"]

_BLOCK = 16384
_QUERIES = 64
_FEW = 4
_UNTHREADED = 8192
"""BLAS multiplies a matrix of so many numbers with a vector in the thread that asks."""
DECIMALS = 6
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
    results: list[Best] = []
    pieces = list(rows.pieces(subset))
    for first in range(0, len(queries), _QUERIES):
        some = queries[first : first + _QUERIES]
        merges = [_Merge(k) for _ in range(len(some))]
        seen = 0
        for offset, run, chosen in pieces:
            starts = run.starts if chosen is None else item_starts(run.rows.item[chosen])
            count = len(run) if chosen is None else len(chosen)
            for begin, end, within in _bounds(starts, count):
                numbers = np.arange(begin, end) if chosen is None else chosen[begin:end]
                scores = cosines(some, run.block(begin, end) if chosen is None else run.take(numbers))
                best = scores if len(within) == end - begin else np.maximum.reduceat(scores, within, axis=1)
                if watch is not None:
                    watch(first, seen, best)
                seen += len(within)
                _search_block(scores, best, within, numbers + offset, merges)
        results.extend(merge.finish(rows) for merge in merges)
    return results


def best_few(rows: Rows, query: NDArray[np.float32], k: int, subset: NDArray[np.int64]) -> Best:
    """Return what `best_items` does, of one query and a few rows, in as few steps as can be.

    An index that has just been scanned has left nothing of this in the processor's caches: steps cost more than
    numbers.

    Args:
        rows: What is searched.
        query: (embed_dim,) float32 unit row.
        k: Items wanted.
        subset: Ascending rows to search.
    """
    if not len(subset) or not rows.undivided:
        return best_items(rows, query[None], k, subset)[0]
    found = [cosines(query[None], run.take(its))[0] for _, run, its in rows.pieces(subset) if its is not None]
    scores = np.round(found[0] if len(found) == 1 else np.concatenate(found), DECIMALS)
    if len(scores) > k:
        kept = scores >= np.partition(scores, -k)[-k]
        subset, scores = subset[kept], scores[kept]
    key = rows.key_of(subset)
    order = np.lexsort((key[:, 1], key[:, 0], -scores))[:k]
    return Best(subset[order], scores[order])


def cosines(queries: NDArray[np.float32], block: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (Q, n) products; a few queries without the threads of BLAS, whose waking costs more than the product."""
    if len(queries) > _FEW:
        return queries @ block.T
    count, embed_dim = block.shape
    step = max(1, _UNTHREADED // max(embed_dim, 1))
    whole = count - count % step
    scores = np.empty((len(queries), count), np.float32)
    for query, row in zip(queries, scores, strict=True):
        if whole:
            np.matmul(block[:whole].reshape(-1, step, embed_dim), query, out=row[:whole].reshape(-1, step))
        np.vecdot(block[whole:], query, out=row[whole:])
    return scores


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
        return np.flatnonzero(scores >= floor - 10.0**-DECIMALS)

    def add(self, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> None:
        """Keep candidates."""
        self.rows.append(rows)
        self.scores.append(scores)

    def finish(self, rows: Rows) -> Best:
        """Return the best."""
        if not self.rows:
            return Best(np.zeros(0, np.int64), np.zeros(0, np.float32))
        return best_of(np.concatenate(self.rows), np.concatenate(self.scores), rows, self.k)


def best_of(numbers: NDArray[np.int64], scores: NDArray[np.float32], rows: Rows, k: int) -> Best:
    """Sort candidates, one per item, by score and then by content id; return the first k."""
    rounded = np.round(scores, DECIMALS)
    key = rows.key_of(numbers)
    order = np.lexsort((key[:, 1], key[:, 0], -rounded))[:k]
    return Best(numbers[order], rounded[order])
