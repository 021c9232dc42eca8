"""Parts that follow each other become one, in the background: many writes leave few files, and searches few runs.

Parts of about the same size are merged eight at a time, so that a row is copied once for every eightfold growth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from embedspace.catalog.index.packed import PackedFacts
from embedspace.catalog.index.parts import BATCH, Part, Parts, write_part
from embedspace.catalog.index.runs import Run
from embedspace.catalog.store.vectors import SegmentRows

__all__ = ["merge_due", "merged_part", "merged_runs"]

_FAN = 8
"""So many parts of a size become one."""
_SMALLEST = 32_768
"""Up to so many rows, and up to eight times as many, and so on, parts are of a size."""


def merge_due(parts: Parts) -> int | None:
    """Return from which part on all should be one; `None` where they are few enough."""
    counts = [part.packed.count for part in parts.parts]
    limit = _SMALLEST
    while len(counts) >= _FAN:
        first = len(counts)
        while first and counts[first - 1] <= limit:
            first -= 1
        if len(counts) - first >= _FAN:
            return first
        if not first:
            return None
        limit *= _FAN
    return None


def merged_part(folder: Path, facts: PackedFacts, seen: Sequence[Mapping[str, Run]]) -> Part:
    """Write the living rows of some parts as one, and map it.

    Args:
        folder: The catalog's folder.
        facts: What the part is of: up to which segment it is complete, and as of how many deletions.
        seen: Modality -> run of each part, in their order.

    Raises:
        OSError: If it cannot be written.
    """
    runs = {name: [its[name] for its in seen if name in its] for its in seen for name in its}
    counts = {name: sum(run.living for run in its) for name, its in sorted(runs.items())}
    counts = {name: count for name, count in counts.items() if count}
    return write_part(folder, facts, counts, {name: _living(runs[name]) for name in counts})


def merged_runs(part: Part, seen: Sequence[Mapping[str, Run]], now: Sequence[Mapping[str, Run]]) -> dict[str, Run]:
    """Return modality -> run of a merged part, without what was deleted since its parts were seen.

    Args:
        part: What `merged_part` wrote.
        seen: What it was given.
        now: The same runs as they are now.
    """
    made = dict(part.runs())
    for before, after in zip(seen, now, strict=True):
        for name, run in after.items():
            if name in made and run.living < before[name].living:
                gone = np.setdiff1d(before[name].living_rows().seq, run.living_rows().seq, assume_unique=True)
                made[name] = made[name].without(made[name].positions(gone))
    return made


def _living(runs: Sequence[Run]) -> Iterator[SegmentRows]:
    """Yield the living rows in batches as parts have them, whatever the borders of the runs."""
    waiting: list[SegmentRows] = []
    for run in runs:
        for first in range(0, len(run), BATCH):
            waiting.append(run.between(first, first + BATCH).living_rows())
            if sum(map(len, waiting)) >= BATCH:
                joined = SegmentRows.joined(waiting)
                yield joined.between(0, BATCH)
                waiting = [joined.between(BATCH, len(joined))]
    if rest := [rows for rows in waiting if len(rows)]:
        yield SegmentRows.joined(rest)
