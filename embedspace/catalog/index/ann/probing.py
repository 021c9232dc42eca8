"""How thoroughly an index is searched: measured on held-out queries of every modality of the catalog."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.index.ann.built import AnnIndex
from embedspace.catalog.index.ann.search import search_index
from embedspace.catalog.index.runs import Rows
from embedspace.catalog.index.scan import scan_items

__all__ = ["Effort", "HeldOut", "held_out", "measured", "probed_for"]

_QUERIES = 128
_K = 10


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Queries, and what an exact search finds for them.

    Attributes:
        queries: Modality of the queries -> (Q, embed_dim) float32 unit rows.
        truth: Modality of the queries -> for each query the rows of the ten nearest items, itself left out.
        own: Modality of the queries -> for each query its own row; -1 where it is of another modality.
    """

    queries: dict[str, NDArray[np.float32]]
    truth: dict[str, list[NDArray[np.int64]]]
    own: dict[str, NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Effort:
    """What one way of searching gives.

    Attributes:
        nprobe: Cells visited.
        overfetch: Candidates per wanted hit.
        recall: Modality of the queries -> share of the exact ten best that are found.
        milliseconds: Of processor time, per query.
    """

    nprobe: int
    overfetch: int
    recall: dict[str, float]
    milliseconds: float

    @property
    def least(self) -> float:
        """Recall of the least lucky modality of queries."""
        return min(self.recall.values(), default=1.0)


def held_out(rows: Mapping[str, Rows], modality: str, seed: int) -> HeldOut:
    """Draw queries from every modality, and search one of them exactly.

    Args:
        rows: Modality -> all rows of the catalog.
        modality: What is searched.
        seed: Seed of the draw.
    """
    found = HeldOut({}, {}, {})
    for name, its in rows.items():
        living = its.positions(its.living_seq())
        if not len(living):
            continue
        drawn = np.sort(np.random.default_rng(seed).permutation(living)[:_QUERIES])
        queries = its.take(drawn)
        queries /= np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-12)
        own = drawn if name == modality else np.full(len(drawn), -1)
        best = scan_items(rows[modality], queries, _K + 1)
        found.queries[name], found.own[name] = queries, own
        found.truth[name] = [one.rows[one.rows != at][:_K] for one, at in zip(best, own, strict=True)]
    return found


def measured(ann: AnnIndex, rows: Rows, held: HeldOut, nprobe: int, overfetch: int) -> Effort:
    """Search with so many cells and candidates."""
    settings = dataclasses.replace(ann.settings, nprobe=nprobe)
    tried = dataclasses.replace(ann, settings=settings, overfetch=overfetch)
    recall, queries, started = {}, 0, time.process_time()
    for name, vectors in held.queries.items():
        hits = wanted = 0
        for query, truth, own in zip(vectors, held.truth[name], held.own[name], strict=True):
            found = search_index(tried, rows, query[None], _K + 1)[0].rows
            hits += len(np.intersect1d(found[found != own][:_K], truth))
            wanted += len(truth)
        recall[name] = hits / max(wanted, 1)
        queries += len(vectors)
    return Effort(nprobe, overfetch, recall, (time.process_time() - started) * 1e3 / max(queries, 1))


def probed_for(ann: AnnIndex, rows: Rows, held: HeldOut, target: float, overfetch: int) -> Effort:
    """Return the least effort, within a tenth, that reaches a recall with queries of every modality; else the most."""
    ladder = [1]
    while ladder[-1] < ann.cells:
        ladder.append(min(ann.cells, max(ladder[-1] + 1, round(1.1 * ladder[-1]))))
    low, high = 0, len(ladder) - 1
    best: Effort | None = None
    while low < high:
        middle = (low + high) // 2
        effort = measured(ann, rows, held, ladder[middle], overfetch)
        if effort.least >= target:
            best, high = effort, middle
        else:
            low = middle + 1
    if best is None or best.nprobe != ladder[high]:
        best = measured(ann, rows, held, ladder[high], overfetch)
    return best
