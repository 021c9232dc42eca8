"""Exact search of many rows by FAISS's float16 scanner, over the packed vectors where they lie.

The scanner proposes the highest scores of every run; numpy scores those few again, so that the result is the one of
`exact.best_items`: one segment per item, ties by content id. Where a tie, or an item of many segments, reaches beyond
what was proposed, more is asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.index.exact import DECIMALS, Best, best_few, best_items
from embedspace.catalog.index.runs import Chosen, Rows, Run

__all__ = ["scan_items"]

_DEEPEST = 4096
_TOLERANCE = 3 * 10.0**-DECIMALS
"""Scores of the scanner and of numpy differ by less than this; so do scores that count as ties."""
_FEW, _MANY = 1 / 16, 1 / 2
"""Shares of a run: fewer rows are copied together, more are scanned with all others and picked afterwards."""


def scan_items(rows: Rows, queries: NDArray[np.float32], k: int, chosen: Chosen | None = None) -> list[Best]:
    """Return the k items closest to each query, each by its best segment: what `best_items` returns.

    Args:
        rows: What is searched.
        queries: (Q, embed_dim) float32 unit rows.
        k: Items wanted per query.
        chosen: The rows that may be found; all living ones where `None`.
    """
    found: dict[int, Best] = {}
    wanted = np.arange(len(queries))
    per_item = min(8, -(-len(rows) // max(1, sum(len(run.starts) for run in rows.runs))))
    depth = (2 * k + 16) * per_item
    while len(wanted) and depth <= _DEEPEST:
        proposals = _proposals(rows, queries[wanted], depth, chosen)
        left = []
        for query, (numbers, floor) in zip(wanted.tolist(), proposals, strict=True):
            best = best_few(rows, queries[query], k, numbers)
            if np.isneginf(floor) or (len(best.rows) == k and best.scores[-1] > floor + _TOLERANCE):
                found[query] = best
            else:
                left.append(query)
        wanted, depth = np.asarray(left, np.int64), 4 * depth
    if len(wanted):
        subset = None if chosen is None else chosen.positions()
        found.update(zip(wanted.tolist(), best_items(rows, queries[wanted], k, subset), strict=True))
    return [found[query] for query in range(len(queries))]


def _proposals(
    rows: Rows, queries: NDArray[np.float32], depth: int, chosen: Chosen | None
) -> list[tuple[NDArray[np.int64], float]]:
    """Return for each query ascending rows, and a score that no row of those left out exceeds."""
    scores, numbers, floors = [], [], []
    for number, run in enumerate(rows.runs):
        mask = run.alive if chosen is None else chosen.masks[number]
        count = run.living if chosen is None else chosen.counts[number]
        if not count:
            continue
        proposed, at, floor = _scan(run, queries, depth, mask, count)
        scores.append(proposed)
        numbers.append(np.where(at >= 0, at + rows.firsts[number], -1))
        floors.append(floor)
    if not scores:
        return [(np.zeros(0, np.int64), -np.inf)] * len(queries)
    results = []
    for proposed, at, floor in zip(np.hstack(scores), np.hstack(numbers), np.max(floors, axis=0), strict=True):
        proposed, at = proposed[at >= 0], at[at >= 0]
        order = np.argsort(-proposed, kind="stable")
        beyond = float(proposed[order[depth]]) if len(order) > depth else -np.inf
        results.append((np.sort(at[order[:depth]]), max(float(floor), beyond)))
    return results


def _scan(
    run: Run, queries: NDArray[np.float32], depth: int, mask: NDArray[np.bool_] | None, count: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float64]]:
    """Return (Q, n) highest scores of the masked rows of a run, those rows (-1: none), and (Q,) floors."""
    if mask is not None and count <= _FEW * len(run):
        chosen = np.flatnonzero(mask)
        asked = min(depth, count)
        scores, at = _Scanner(run.rows.vectors[chosen]).search(queries, asked)
        at = np.where(at >= 0, chosen[at], -1)
    elif mask is not None and count <= _MANY * len(run):
        asked = min(depth, count)
        scores, at = _run_scanner(run).search(queries, asked, mask)
    else:
        asked = min(len(run), depth if mask is None else int(1.25 * depth * len(run) / count) + 8)
        scores, at = _run_scanner(run).search(queries, asked)
        count = len(run)
    floor = np.full(len(queries), -np.inf) if asked == count else scores[:, -1].astype(np.float64)
    if mask is not None:
        at = np.where(mask[at], at, -1)
    return scores, at, floor


def _run_scanner(run: Run) -> _Scanner:
    if "scanner" not in run.__dict__:
        run.__dict__["scanner"] = _Scanner(run.rows.vectors)
    scanner: _Scanner = run.__dict__["scanner"]
    return scanner


class _Scanner:
    """A FAISS index over vectors that it does not copy, where FAISS knows how (1.11 and later)."""

    def __init__(self, vectors: NDArray[np.float16]) -> None:
        """Look at (N, embed_dim) vectors; their memory stays for as long as the scanner."""
        faiss: Any = importlib.import_module("faiss")
        self._raw = raw = np.ascontiguousarray(vectors).view(np.uint8).reshape(-1)
        kind = faiss.ScalarQuantizer.QT_fp16
        self._index = index = faiss.IndexScalarQuantizer(vectors.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
        index.is_trained = True
        if hasattr(index.codes, "view_data"):
            codes, pointer = index.codes, faiss.swig_ptr(raw)
            codes.is_owned = False
            codes.view_data = codes.c_ptr = pointer
            codes.view_size = codes.c_size = len(raw)
        else:
            faiss.copy_array_to_vector(raw, index.codes)
        index.ntotal = len(vectors)

    def search(
        self, queries: NDArray[np.float32], count: int, mask: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return (Q, count) highest scores and their rows, of those that a mask allows; -1 where there are no more."""
        if mask is None:
            found: tuple[NDArray[np.float32], NDArray[np.int64]] = self._index.search(queries, count)
            return found
        faiss: Any = importlib.import_module("faiss")
        bits = np.packbits(mask, bitorder="little")
        found = self._index.search(queries, count, params=faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits)))
        return found
