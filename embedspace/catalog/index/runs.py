"""The rows of one modality: runs of segments, mapped from disk or in memory, behind one numbering.

A run stays as it is; what is deleted is noted beside it. The segments of one item lie in one run, as neighbours.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.index.sampling.drawn import Drawn, draw, item_starts
from embedspace.catalog.store.vectors import SegmentRows, widened

__all__ = ["SMALL", "Chosen", "Rows", "Run"]

SMALL = 16384
"""Up to this many rows are compared with numpy, as float32 that is kept; more with FAISS, as the float16 they are."""


class Run:
    """Segments of one modality, and which of them live.

    Attributes:
        rows: The segments.
        alive: (N,) which of them were not deleted; all where `None`.
        living: How many that are.
        draws: How many items were asked for -> those with the lowest hashes, as far as that is known.
    """

    def __init__(self, rows: SegmentRows, alive: NDArray[np.bool_] | None = None) -> None:
        """Take segments as they are."""
        self.rows, self.alive = rows, alive
        self.living = len(rows) if alive is None else int(np.count_nonzero(alive))
        self.draws: dict[int, Drawn] = {}

    def __len__(self) -> int:
        """Return the number of rows, dead ones included."""
        return len(self.rows)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First row of every item, dead ones included."""
        return item_starts(self.rows.item)

    @cached_property
    def items(self) -> int:
        """How many items live."""
        if self.alive is None:
            return len(self.starts)
        return int(np.count_nonzero(np.logical_or.reduceat(self.alive, self.starts))) if len(self) else 0

    @cached_property
    def _float32(self) -> NDArray[np.float32]:
        return self.rows.vectors.astype(np.float32)

    def positions(self, sequence: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the ascending rows that have these ascending sequence numbers, of those that some row has."""
        low, high = np.searchsorted(sequence, self.bounds)
        return self.within(sequence[low:high])

    @cached_property
    def bounds(self) -> tuple[int, int]:
        """The first sequence number, and the one after the last."""
        seq = self.rows.seq
        return (int(seq[0]), int(seq[-1]) + 1) if len(seq) else (0, 0)

    def within(self, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return what `positions` does, of numbers within `bounds`."""
        first, end = self.bounds
        if end - first == len(self):  # without a gap
            return wanted - first
        seq = self.rows.seq
        at = np.searchsorted(seq, wanted)
        found: NDArray[np.int64] = at[seq[at] == wanted]
        return found

    def mask(self, sequence: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return (N,) which living rows have one of these ascending sequence numbers."""
        found = np.zeros(len(self), np.bool_)
        found[self.positions(sequence)] = True
        if self.alive is not None:
            found &= self.alive
        return found

    def without(self, positions: NDArray[np.int64]) -> Run:
        """Return the run with rows deleted; a search that reads this one is not disturbed."""
        alive = np.ones(len(self), np.bool_) if self.alive is None else self.alive.copy()
        gone = positions[alive[positions]]
        if not len(gone):
            return self
        alive[gone] = False
        other = copy.copy(self)
        other.alive, other.living = alive, self.living - len(gone)
        other.items, end = self.items, 0
        for row in gone.tolist():
            if row >= end:
                low, end = self._span(row)
                other.items -= not alive[low:end].any()
        return other

    def _span(self, row: int) -> tuple[int, int]:
        """Return the first row of an item, and the one after its last, given any of its rows."""
        item, low, high = self.rows.item, row, row + 1
        while low and item[low - 1] == item[row]:
            low -= 1
        while high < len(self) and item[high] == item[row]:
            high += 1
        return low, high

    def drawn(self, count: int) -> Drawn:
        """Return so many items with the lowest hashes, dead ones included; remembered."""
        if count not in self.draws:
            self.draws[count] = draw(self.rows.item, self.starts, count)
        return self.draws[count]

    def living_rows(self) -> SegmentRows:
        """Return the segments that live."""
        if self.alive is None:
            return self.rows
        return SegmentRows(*(getattr(self.rows, name)[self.alive] for name in ("seq", "item", "key", "vectors")))

    def after(self, seq: int) -> Run:
        """Return the rows with a higher sequence number."""
        first = int(np.searchsorted(self.rows.seq, seq, side="right"))
        if not first:
            return self
        return self.between(first, len(self))

    def between(self, first: int, last: int) -> Run:
        """Return rows first to last."""
        return Run(self.rows.between(first, last), None if self.alive is None else self.alive[first:last])

    def block(self, first: int, last: int) -> NDArray[np.float32]:
        """Return rows first to last as (n, embed_dim) float32."""
        if len(self) <= SMALL:
            return self._float32[first:last]
        return widened(self.rows.vectors[first:last])

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return some rows as (n, embed_dim) float32."""
        if "_float32" in self.__dict__:
            return self._float32[rows]
        return widened(np.take(self.rows.vectors, rows, axis=0))


class Chosen:
    """Which living rows a filter leaves.

    Attributes:
        masks: One (N,) array for each run.
        counts: How many rows of each.
        bits: What an index was told about it, by the index's last sequence number.
    """

    def __init__(self, masks: Sequence[NDArray[np.bool_]]) -> None:
        """Keep masks."""
        self.masks = masks
        self.counts = [int(np.count_nonzero(mask)) for mask in masks]
        self.count = sum(self.counts)
        self.bits: dict[int, NDArray[np.uint8]] = {}

    def positions(self) -> NDArray[np.int64]:
        """Return the ascending rows."""
        return np.flatnonzero(np.concatenate(self.masks)) if self.masks else np.zeros(0, np.int64)

    def among(self, rows: Rows, some: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of some ascending rows that were chosen."""
        return rows.among(some, self.masks)

    def last(self, rows: Rows) -> Chosen:
        """Return the choice among the last of the rows, as `Rows.after` numbers them."""
        masks = self.masks[len(self.masks) - len(rows.runs) :]
        return Chosen([mask[len(mask) - len(run) :] for mask, run in zip(masks, rows.runs, strict=True)])


class Rows:
    """Runs behind one numbering, in the order of their sequence numbers."""

    def __init__(self, runs: Sequence[Run]) -> None:
        """Join runs; none of them is empty."""
        self.runs = tuple(runs)
        self.firsts = np.concatenate([[0], np.cumsum([len(run) for run in self.runs])]).astype(np.int64)
        self._later: tuple[int, Rows | None] = (-1, None)

    @classmethod
    def of(cls, *parts: SegmentRows) -> Rows:
        """Return rows that all live."""
        return cls([Run(part) for part in parts if len(part)])

    def __len__(self) -> int:
        """Return the number of rows, dead ones included."""
        return int(self.firsts[-1])

    @property
    def living(self) -> int:
        """How many rows live."""
        return sum(run.living for run in self.runs)

    @property
    def items(self) -> int:
        """How many items live."""
        return sum(run.items for run in self.runs)

    @cached_property
    def undivided(self) -> bool:
        """Whether every item has one segment."""
        return all(run.items == run.living for run in self.runs)

    @property
    def embed_dim(self) -> int:
        """Length of the vectors; 0 without any."""
        return self.runs[0].rows.vectors.shape[1] if self.runs else 0

    @property
    def last_seq(self) -> int:
        """The highest sequence number; 0 where there is none."""
        return self.runs[-1].bounds[1] - 1 if self.runs else 0

    @cached_property
    def seq(self) -> NDArray[np.int64]:
        """(N,) sequence numbers."""
        return self._joined("seq")

    @cached_property
    def item(self) -> NDArray[np.int64]:
        """(N,) item numbers."""
        return self._joined("item")

    def _joined(self, name: str) -> NDArray[np.int64]:
        parts: list[NDArray[np.int64]] = [getattr(run.rows, name) for run in self.runs]
        return parts[0] if len(parts) == 1 else np.concatenate([*parts, np.zeros(0, np.int64)])

    def living_seq(self) -> NDArray[np.int64]:
        """Return the ascending sequence numbers of what lives."""
        parts = [run.rows.seq if run.alive is None else run.rows.seq[run.alive] for run in self.runs]
        return parts[0] if len(parts) == 1 else np.concatenate([*parts, np.zeros(0, np.int64)])

    def seq_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the sequence numbers of rows in any order."""
        return self._gathered("seq", rows, np.zeros(len(rows), np.int64))

    def key_of(self, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return the (n, 2) content ids of rows in any order."""
        return self._gathered("key", rows, np.zeros((len(rows), 2), np.uint64))

    def _gathered(self, name: str, rows: NDArray[np.int64], out: NDArray[Any]) -> NDArray[Any]:
        if len(self.runs) == 1:
            return np.asarray(getattr(self.runs[0].rows, name)[rows])
        owners = np.searchsorted(self.firsts, rows, side="right") - 1
        for number in set(owners.tolist()):
            its = owners == number
            out[its] = getattr(self.runs[number].rows, name)[rows[its] - self.firsts[number]]
        return out

    def positions(self, sequence: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the ascending rows that have these ascending sequence numbers, of those that some row has."""
        if len(self.runs) == 1:
            return self.runs[0].positions(sequence)
        cuts = np.searchsorted(sequence, self._bounds).tolist()
        found = [
            run.within(sequence[low:high]) + first
            for low, high, first, run in zip(cuts[::2], cuts[1::2], self.firsts.tolist(), self.runs, strict=False)
            if low < high
        ]
        return found[0] if len(found) == 1 else np.concatenate([*found, np.zeros(0, np.int64)])

    @cached_property
    def _bounds(self) -> NDArray[np.int64]:
        """(2 runs,) first sequence number of each run, and the one after its last."""
        return np.asarray([bound for run in self.runs for bound in run.bounds], np.int64)

    def pieces(self, subset: NDArray[np.int64] | None) -> Iterator[tuple[int, Run, NDArray[np.int64] | None]]:
        """Yield number of its first row, run, and which of its rows to search; `None` says all.

        Args:
            subset: Ascending rows; all that live where `None`.
        """
        for number, run in enumerate(self.runs):
            first = int(self.firsts[number])
            if subset is None:
                yield first, run, None if run.alive is None else np.flatnonzero(run.alive)
                continue
            low, high = np.searchsorted(subset, [first, first + len(run)])
            if low < high:
                yield first, run, subset[low:high] - first

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return some rows, ascending, as (n, embed_dim) float32."""
        found = [run.take(its) for _, run, its in self.pieces(rows) if its is not None]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def living_among(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of the ascending rows that live."""
        masks = [run.alive for run in self.runs]
        return rows if all(mask is None for mask in masks) else self.among(rows, masks)

    def among(self, rows: NDArray[np.int64], masks: Sequence[NDArray[np.bool_] | None]) -> NDArray[np.int64]:
        """Return those of the ascending rows that the masks of their runs hold; `None` holds all."""
        kept = []
        for number, mask in enumerate(masks):
            first, last = self.firsts[number], self.firsts[number + 1]
            low, high = np.searchsorted(rows, [first, last])
            its = rows[low:high]
            kept.append(its if mask is None else its[mask[its - first]])
        return np.concatenate([*kept, np.zeros(0, np.int64)])

    def chosen(self, sequence: NDArray[np.int64]) -> Chosen:
        """Return the living rows that have one of these ascending sequence numbers."""
        return Chosen([run.mask(sequence) for run in self.runs])

    def after(self, seq: int) -> Rows:
        """Return the rows with a higher sequence number: the last of these ones; remembered, as every search asks."""
        known, found = self._later
        if known != seq or found is None:
            runs = [run.after(seq) for run in self.runs if run.bounds[1] > seq + 1]
            found = Rows([run for run in runs if len(run)])
            self._later = seq, found
        return found
