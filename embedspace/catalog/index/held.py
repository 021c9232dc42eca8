"""What the local index holds of one modality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.index.ann.built import AnnIndex
from embedspace.catalog.index.runs import SMALL, Chosen, Rows, Run
from embedspace.catalog.index.sampling.sample import Sample
from embedspace.catalog.index.upkeep import Stamp
from embedspace.catalog.store.vectors import SegmentRows

__all__ = ["Held", "changed_runs", "with_part"]

_FILTERS = 8


@dataclass(slots=True)
class Held:
    """One modality at one state of the catalog.

    Attributes:
        rows: Its segments: runs of packed parts, then those in memory.
        packed: How many runs are of parts.
        ann: Its FAISS index, where it has one.
        stamp: Tells which index file was looked at last.
        sample: Of its items; drawn by the first search.
        stale: The sample before the latest change.
        filters: What recent filters leave of it.
    """

    rows: Rows
    packed: int = 0
    ann: AnnIndex | None = None
    stamp: Stamp = None
    sample: Sample | None = None
    stale: Sample | None = None
    filters: list[tuple[NDArray[np.int64], Chosen]] = field(default_factory=list)

    def chosen(self, allowed: NDArray[np.int64]) -> Chosen:
        """Return what a filter leaves; the same array, given again, costs nothing."""
        for sequence, chosen in self.filters:
            if sequence is allowed:
                return chosen
        chosen = self.rows.chosen(allowed)
        self.filters = [*self.filters[1 - _FILTERS :], (allowed, chosen)]
        return chosen


def changed_runs(old: Held | None, added: Sequence[SegmentRows], removed: Sequence[NDArray[np.int64]]) -> list[Run]:
    """Return the runs of a modality with what was added and removed; those that searches still read stay as is."""
    runs = list(old.rows.runs) if old else []
    if parts := [rows for rows in added if len(rows)]:
        new = Run(SegmentRows.joined(parts))
        last = runs[-1] if old and len(runs) > old.packed else None
        if last is not None and len(last) < SMALL:
            runs[-1] = _joined(last, new)
        else:
            runs.append(new)
    for gone in removed:
        runs = [run.without(run.positions(gone)) for run in runs]
    return runs


def with_part(one: Held, run: Run, last_seq: int) -> Rows:
    """Return the rows of a modality with those of a part, up to a number, in place of those in memory."""
    waiting = one.rows.runs[one.packed :]
    gone = [seen.rows.seq[~seen.alive] for seen in waiting if seen.alive is not None]
    written = run.without(run.positions(np.concatenate([*gone, np.zeros(0, np.int64)])))
    newer = [rest for rest in (seen.after(last_seq) for seen in waiting) if len(rest)]
    return Rows([*one.rows.runs[: one.packed], written, *newer])


def _joined(one: Run, other: Run) -> Run:
    if one.alive is None and other.alive is None:
        return Run(SegmentRows.joined([one.rows, other.rows]))
    alive = [np.ones(len(run), np.bool_) if run.alive is None else run.alive for run in (one, other)]
    return Run(SegmentRows.joined([one.rows, other.rows]), np.concatenate(alive))
