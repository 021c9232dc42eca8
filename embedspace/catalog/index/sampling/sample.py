"""A fixed sample of a modality's items, on which the background of every query is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.index.exact import cosines
from embedspace.catalog.index.runs import Rows, Run
from embedspace.catalog.index.sampling.drawn import DRAWN, HIGHEST, SAMPLE, item_starts, spans_rows
from embedspace.catalog.store.vectors import widened

__all__ = ["SAMPLE", "Sample", "Watcher", "sample_of"]

_SAMPLE_ROWS = 4 * SAMPLE


@dataclass(frozen=True, slots=True)
class Sample:
    """Some of the living items of one modality.

    Attributes:
        rows: (m,) int64, ascending: all their living rows.
        seq: (m,) int64: the sequence numbers of these rows.
        starts: (n,) int64: where each item begins among them.
        vectors: (m, embed_dim) float32.
    """

    rows: NDArray[np.int64]
    seq: NDArray[np.int64]
    starts: NDArray[np.int64]
    vectors: NDArray[np.float32]

    def scores(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (Q, n) best score of every item of the sample."""
        scores = cosines(queries, self.vectors)
        return scores if len(self.starts) == len(self.rows) else np.maximum.reduceat(scores, self.starts, axis=1)

    def positions(self, rows: Rows) -> NDArray[np.int64]:
        """Return (n,) ascending numbers of the sample's items among all living items, in the order of their rows."""
        living, seen = [], 0
        for first, run, chosen in rows.pieces(None):
            starts = run.starts if chosen is None else chosen[item_starts(run.rows.item[chosen])]
            living.append(starts + first)
            seen += len(starts)
        return np.searchsorted(np.concatenate(living), self.rows[self.starts])


def sample_of(rows: Rows, earlier: Sample | None = None) -> Sample:
    """Draw at most `SAMPLE` living items by a hash of their numbers, fewer where they have many segments.

    The draw is fixed: an item that is added or removed changes it by that item alone, and a filter not at all.

    Args:
        rows: One modality.
        earlier: Its sample before its latest change, whose vectors are taken over where they are the same.
    """
    if rows.items <= SAMPLE and rows.living <= _SAMPLE_ROWS:
        return _sample(rows, rows.positions(rows.living_seq()), earlier)
    count = DRAWN
    while True:
        hashes, sizes, spans, complete = _candidates(rows, count)
        if complete or len(hashes) >= SAMPLE or sizes.sum() > _SAMPLE_ROWS:
            break
        count *= 4
    order = np.argsort(hashes, kind="stable")[:SAMPLE]
    kept = max(1, int(np.searchsorted(np.cumsum(sizes[order]), _SAMPLE_ROWS, side="right"))) if len(order) else 0
    chosen = spans_rows(*spans[np.sort(order[:kept])].T)
    return _sample(rows, rows.living_among(chosen), earlier)


def _sample(rows: Rows, chosen: NDArray[np.int64], earlier: Sample | None) -> Sample:
    found = [_read(run, its) for _, run, its in rows.pieces(chosen) if its is not None]
    seq = np.concatenate([one.seq for one in found] or [np.zeros(0, np.int64)])
    item = np.concatenate([one.item for one in found] or [np.zeros(0, np.int64)])
    if earlier is not None and np.array_equal(seq, earlier.seq):
        return Sample(chosen, seq, earlier.starts, earlier.vectors)
    vectors = np.concatenate([one.vectors() for one in found] or [np.zeros((0, 1), np.float32)])
    return Sample(chosen, seq, item_starts(item), vectors)


class _Read(NamedTuple):
    seq: NDArray[np.int64]
    item: NDArray[np.int64]
    vectors: Callable[[], NDArray[np.float32]]


def _read(run: Run, some: NDArray[np.int64]) -> _Read:
    """Read rows of a run: from what was drawn of it where it lies together."""
    drawn = run.drawn(DRAWN) if DRAWN in run.draws else None
    if drawn is not None and drawn.rows is not None and len(drawn.rows.seq):
        its, rows = drawn.rows, spans_rows(drawn.low, drawn.high)
        at = np.minimum(np.searchsorted(rows, some), len(rows) - 1)
        if np.array_equal(rows[at], some):
            return _Read(its.seq[at], its.item[at], lambda: widened(np.take(its.vectors, at, axis=0)))
    return _Read(run.rows.seq[some], run.rows.item[some], lambda: run.take(some))


def _candidates(rows: Rows, count: int) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64], bool]:
    """Return hash, living rows and (n, 2) span of the living items with the lowest hashes, and whether that is all."""
    draws = [run.drawn(count) for run in rows.runs]
    bound = min((one.bound for one in draws), default=HIGHEST)
    hashes, sizes, spans = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], [np.zeros((0, 2), np.int64)]
    for first, run, one in zip(rows.firsts.tolist(), rows.runs, draws, strict=False):
        its = one.hashes <= bound
        hashed, low, high = one.hashes[its], one.low[its], one.high[its]
        size = high - low
        if run.alive is not None and len(low):
            alive = run.alive[spans_rows(low, high)].astype(np.int64)
            size = np.add.reduceat(alive, np.concatenate([[0], np.cumsum(size)[:-1]]))
        lives = size > 0
        hashes.append(hashed[lives])
        sizes.append(size[lives])
        spans.append(np.stack([low, high], axis=1)[lives] + first)
    return np.concatenate(hashes), np.concatenate(sizes), np.concatenate(spans), bool(bound == HIGHEST)


class Watcher:
    """Gathers the scores of a sample's items while `best_items` scans."""

    def __init__(self, queries: int, positions: NDArray[np.int64]) -> None:
        """Watch a scan.

        Args:
            queries: How many search at once.
            positions: Ascending positions of the items to keep among those that are scanned.
        """
        self._positions = positions
        self._blocks: list[list[NDArray[np.float32]]] = [[] for _ in range(queries)]

    def __call__(self, query: int, item: int, scores: NDArray[np.float32]) -> None:
        """Keep what belongs to the sample of (q, n) scores, of which the first is that of a query and an item."""
        low, high = np.searchsorted(self._positions, [item, item + scores.shape[1]])
        for number, row in enumerate(scores[:, self._positions[low:high] - item], query):
            self._blocks[number].append(row)

    def scores(self) -> NDArray[np.float32]:
        """Return (Q, n) scores."""
        return np.stack([np.concatenate(blocks) for blocks in self._blocks])
