"""Approximate search: candidates of a FAISS index and the rows that are newer, all scored with the catalog's vectors.

An index knows sequence numbers only. It proposes candidates; `exact` scores them again with the catalog's own vectors,
searches newer rows beside it, and never sees a deleted one, because only rows that the catalog still has are scored.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.index.ann.built import AnnIndex
from embedspace.catalog.index.exact import Best, best_few, best_items
from embedspace.catalog.index.gpu import MOST_CANDIDATES, device_number
from embedspace.catalog.index.runs import SMALL, Chosen, Rows
from embedspace.catalog.index.scan import scan_items

__all__ = ["cheapest_search", "exact_is_cheaper", "search_index"]

_MAX_CANDIDATES = 1 << 14
_LEAST_PROBED = 8
_BYTE_COST = {"none": 1.0, "fp16": 1.0, "sq8": 0.5, "pq4": 0.15}
"""What one dimension of a vector in a visited cell costs, as a share of one in an exact scan."""
_GATHERED = 4.0
"""What a dimension of a vector costs that is fetched by itself."""


def _probed(ann: AnnIndex, share: float = 1.0) -> int:
    """Return how many cells to visit where a filter leaves a share of the rows: the nearest lie farther apart."""
    usual: int = ann.settings.nprobe or ann.nprobe or max(_LEAST_PROBED, ann.cells // 8)
    return min(ann.cells, round(usual / float(np.sqrt(max(share, 1e-4)))), _most(ann))


def exact_is_cheaper(ann: AnnIndex, rows: Rows, chosen: Chosen, k: int) -> bool:
    """Return whether scanning what a filter leaves is likely to take less time than the index.

    Args:
        ann: An index over the older of the rows.
        rows: All rows.
        chosen: What the filter leaves.
        k: Items wanted.
    """
    if ann.settings.exact_below:
        return chosen.count <= ann.settings.exact_below
    few = chosen.count <= len(rows) / 16  # those are copied together
    scanned = _GATHERED * chosen.count if few else max(chosen.count, len(rows) / 4)
    gathered = _GATHERED * k * ann.overfetch
    if not ann.cells:
        return scanned <= _GATHERED * max(ann.settings.ef_search, k * ann.overfetch) * ann.settings.hnsw_m
    probed = _probed(ann, chosen.count / max(len(rows), 1))
    visited = probed / ann.cells * ann.size * _BYTE_COST[ann.kind]
    return bool(scanned <= 2 * ann.cells + visited + gathered)


def _parameters(ann: AnnIndex, candidates: int, nprobe: int, rows: Rows, chosen: Chosen | None) -> Any:  # noqa: ANN401
    faiss: Any = importlib.import_module("faiss")

    on_gpu = device_number(ann.settings.device) is not None  # there a filter is no part of the search
    among = {} if chosen is None or on_gpu else {"sel": faiss.IDSelectorBitmap(_bits(rows, chosen, ann.built_at))}
    if ann.settings.index == "hnsw":
        return faiss.SearchParametersHNSW(efSearch=max(ann.settings.ef_search, candidates), **among)
    return faiss.SearchParametersIVF(nprobe=nprobe, **among) if among else _visiting(nprobe)


@functools.lru_cache(maxsize=64)
def _visiting(nprobe: int) -> Any:  # noqa: ANN401
    faiss: Any = importlib.import_module("faiss")

    return faiss.SearchParametersIVF(nprobe=nprobe)


def _most(ann: AnnIndex) -> int:
    """Return how many cells, or candidates, the index can be asked for at once."""
    return _MAX_CANDIDATES if device_number(ann.settings.device) is None else MOST_CANDIDATES


def _bits(rows: Rows, chosen: Chosen, last_seq: int) -> NDArray[np.uint8]:
    """Return a bitmap over sequence numbers; a choice remembers it."""
    if last_seq not in chosen.bits:
        marks = np.zeros(last_seq + 1, np.bool_)
        for run, mask in zip(rows.runs, chosen.masks, strict=True):
            seq = run.rows.seq[mask]
            marks[seq[seq <= last_seq]] = True
        chosen.bits[last_seq] = np.packbits(marks, bitorder="little")
    return chosen.bits[last_seq]


def search_index(
    ann: AnnIndex, rows: Rows, queries: NDArray[np.float32], k: int, chosen: Chosen | None = None
) -> list[Best]:
    """Return the k best items per query: candidates of the index and of the newer rows, all scored exactly.

    Args:
        ann: An index over the older of the rows.
        rows: All rows.
        queries: (Q, embed_dim) float32 unit rows.
        k: Items wanted.
        chosen: Which rows may be found; all living ones where `None`.
    """
    fresh = rows.after(ann.built_at)
    newer: list[Best] = []
    if len(fresh):
        newer = scan_items(fresh, queries, k, None if chosen is None else chosen.last(fresh))
    wanted = np.arange(len(queries))
    found: dict[int, Best] = {}
    most = min(ann.size, _most(ann))
    candidates = min(max(k * ann.overfetch, 16), most)
    nprobe = _probed(ann, 1.0 if chosen is None else chosen.count / max(len(rows), 1))
    deepest = min(ann.cells, _most(ann))
    while len(wanted):
        parameters = _parameters(ann, candidates, nprobe, rows, chosen)
        _, ids = ann.index.search(queries[wanted], candidates, params=parameters)
        ids.sort(axis=1)
        for query, proposed in zip(wanted.tolist(), ids, strict=True):
            subset = rows.positions(proposed if proposed[0] >= 0 else proposed[proposed >= 0])
            subset = rows.living_among(subset) if chosen is None else chosen.among(rows, subset)
            if newer:
                subset = np.concatenate([subset, np.sort(newer[query].rows) + len(rows) - len(fresh)])
            found[query] = best_few(rows, queries[query], k, subset)
        if candidates >= most and nprobe >= deepest:
            break
        # Many segments of few items, or too few rows in the cells visited, can leave fewer than k items: ask for more.
        wanted = np.asarray([query for query in wanted if len(found[int(query)].rows) < k], np.int64)
        candidates, nprobe = min(candidates * 4, most), min(nprobe * 4, deepest)
    return [found[query] for query in range(len(queries))]


def cheapest_search(
    rows: Rows, ann: AnnIndex | None, queries: NDArray[np.float32], k: int, chosen: Chosen | None
) -> list[Best]:
    """Return the best of the chosen rows: by scanning them where that costs less, else by the FAISS index."""
    if ann is not None and (chosen is None or not exact_is_cheaper(ann, rows, chosen, k)):
        return search_index(ann, rows, queries, k, chosen)
    if len(rows) > SMALL:
        return scan_items(rows, queries, k, chosen)
    return best_items(rows, queries, k, None if chosen is None else chosen.positions())
