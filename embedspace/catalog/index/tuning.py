"""Ways of searching one index, measured on held-out queries, and the one that is kept."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from embedspace.catalog.index.ann.built import AnnIndex
from embedspace.catalog.index.ann.probing import HeldOut, held_out, probed_for
from embedspace.catalog.index.runs import Rows
from embedspace.catalog.index.scan import scan_items
from embedspace.catalog.index.upkeep import Upkeep

__all__ = ["Tried", "tune_index"]

_OVERFETCH = (8, 20, 40)


@dataclass(frozen=True, slots=True)
class Tried:
    """One way of searching a modality.

    Attributes:
        modality: What was searched.
        way: "exact", or kind of the index and how it stores a vector.
        nprobe: Cells visited; 0 where there are none.
        overfetch: Candidates per wanted hit; 0 where there are none.
        recall: Share of the exact ten best that were found, for the modality of queries where it is least.
        milliseconds: Of processor time per query.
        bytes_per_vector: What is kept for it beside the database: float16 vectors, and the index.
        chosen: Whether searches are done so from now on.
    """

    modality: str
    way: str
    nprobe: int
    overfetch: int
    recall: float
    milliseconds: float
    bytes_per_vector: float
    chosen: bool = False


def tune_index(
    upkeep: Upkeep, rows: Mapping[str, Rows], modality: str, ann: AnnIndex | None, target: float
) -> tuple[list[Tried], AnnIndex | None]:
    """Measure ways of searching one modality; keep the fastest that reaches a recall, and write it to the index file.

    Args:
        upkeep: What keeps the catalog's index up to date.
        rows: Modality -> all its rows.
        modality: What is tuned; only IVF indexes have something to tune.
        ann: Its index, where it has one.
        target: Share of the exact ten best that is wanted with queries of every modality.

    Returns:
        What was measured, exact search first, and the index as it is searched now.
    """
    its = rows[modality]
    held = held_out(rows, modality, upkeep.settings.seed + 1)  # not the queries that the index was set by
    vector = 2.0 * its.embed_dim
    tried = [Tried(modality, "exact", 0, 0, 1.0, _exact_milliseconds(its, held), vector)]
    if ann is None or ann.shell is None:
        tried[0] = dataclasses.replace(tried[0], chosen=ann is None)
        return tried, ann
    stamp = upkeep.stamp(modality)
    width = vector + (stamp[2] / max(ann.size, 1) if stamp else 0.0)
    for overfetch in sorted({*_OVERFETCH, ann.overfetch}):
        effort = probed_for(ann, its, held, target, overfetch)
        way = f"{upkeep.settings.index}, {ann.kind}"
        tried.append(Tried(modality, way, effort.nprobe, overfetch, effort.least, effort.milliseconds, width))
    good = [one for one in tried[1:] if one.recall >= target] or [max(tried[1:], key=lambda one: one.recall)]
    best = min(good, key=lambda one: one.milliseconds)
    tried[tried.index(best)] = dataclasses.replace(best, chosen=True)
    changed = dataclasses.replace(ann, nprobe=best.nprobe, overfetch=best.overfetch, recall=best.recall)
    return tried, upkeep.written(modality, changed)


def _exact_milliseconds(rows: Rows, held: HeldOut) -> float:
    queries = np.concatenate([some[:8] for some in held.queries.values()])
    started = time.process_time()
    for query in queries:
        scan_items(rows, query[None], 10)
    return (time.process_time() - started) * 1e3 / max(len(queries), 1)
