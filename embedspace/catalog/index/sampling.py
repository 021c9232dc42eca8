"""A fixed sample of a modality's items, on which the background of every query is measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.index.exact import cosines
from embedspace.catalog.index.runs import Rows, Run, item_starts

__all__ = ["SAMPLE", "Sample", "Watcher", "sample_of"]

SAMPLE = 4096
"""Items of a sample: all items of a smaller gallery."""
_SAMPLE_ROWS = 4 * SAMPLE
_CHUNK = 1 << 16


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
    items = rows.items
    share = 1.0
    while 4 * SAMPLE < items * share:
        share /= 2  # in steps, so that what a run remembers goes on being of use
    if items <= SAMPLE and rows.living <= _SAMPLE_ROWS:
        return _sample(rows, rows.positions(rows.living_seq()), earlier)
    while True:
        hashes, sizes, spans = _candidates(rows, share)
        if share == 1.0 or len(hashes) >= SAMPLE:
            break
        share = min(1.0, 4 * share)
    order = np.argsort(hashes, kind="stable")[:SAMPLE]
    kept = max(1, int(np.searchsorted(np.cumsum(sizes[order]), _SAMPLE_ROWS, side="right"))) if len(order) else 0
    chosen = _ranges(*spans[np.sort(order[:kept])].T)
    return _sample(rows, rows.living_among(chosen), earlier)


def _sample(rows: Rows, chosen: NDArray[np.int64], earlier: Sample | None) -> Sample:
    seq = rows.seq_of(chosen)
    item = np.concatenate(
        [run.rows.item[its] for _, run, its in rows.pieces(chosen) if its is not None] or [np.zeros(0, np.int64)]
    )
    if earlier is not None and np.array_equal(seq, earlier.seq):
        return Sample(chosen, seq, earlier.starts, earlier.vectors)
    vectors = [run.take(its) for _, run, its in rows.pieces(chosen) if its is not None]
    return Sample(chosen, seq, item_starts(item), np.concatenate(vectors) if vectors else np.zeros((0, 1), np.float32))


def _candidates(rows: Rows, share: float) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
    """Return hash, living rows and (n, 2) span of the living items whose hash is among the lowest share of all."""
    hashes, sizes, spans = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], [np.zeros((0, 2), np.int64)]
    for first, run in zip(rows.firsts.tolist(), rows.runs, strict=False):
        hashed, low, high = _lowest(run, share)
        size = high - low
        if run.alive is not None and len(low):
            alive = run.alive[_ranges(low, high)].astype(np.int64)
            size = np.add.reduceat(alive, np.concatenate([[0], np.cumsum(size)[:-1]]))
        lives = size > 0
        hashes.append(hashed[lives])
        sizes.append(size[lives])
        spans.append(np.stack([low, high], axis=1)[lives] + first)
    return np.concatenate(hashes), np.concatenate(sizes), np.concatenate(spans)


def _lowest(run: Run, share: float) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
    """Return hash, first row and end of a run's items, dead or alive, with the lowest hashes; these are remembered."""
    remembered = run.__dict__.setdefault("lowest", {})
    if share not in remembered:
        limit = np.uint64(min(share * 2.0**64, 2.0**64 - 2048))
        hashes, groups = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        for begin in range(0, len(run.starts), _CHUNK):
            hashed = _scattered(run.rows.item[run.starts[begin : begin + _CHUNK]])
            low = np.arange(len(hashed)) if share == 1.0 else np.flatnonzero(hashed < limit)
            hashes.append(hashed[low])
            groups.append(low + begin)
        chosen = np.concatenate(groups)
        remembered[share] = np.concatenate(hashes), run.starts[chosen], run.ends(chosen)
    found: tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]] = remembered[share]
    return found


def _ranges(low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the numbers of all spans [low, high), one after the other."""
    size = high - low
    ends = np.cumsum(size)
    found: NDArray[np.int64] = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(low - (ends - size), size)
    return found


def _scattered(numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return numbers that look random, each a function of one given number (the finaliser of SplitMix64)."""
    mixed = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


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
