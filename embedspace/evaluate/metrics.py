"""Retrieval metrics with bootstrap confidence intervals.

Two recalls, both named:

- `recall_at_k`, the CLIP convention: share of queries with at least one positive among the first k.
- `ir_recall_at_k`, the IR convention: share of a query's positives among the first k, averaged over queries.

These and nDCG come from `ir-measures`; reciprocal rank and average precision need the rank of every positive however
deep, which a top-k run does not hold, so they are taken from the exact ranks (and tested equal to `ir-measures`).
A missing query counts 0, and as the worst rank in the median. Ties: see `embedspace.evaluate.search`.

Intervals: see `embedspace.evaluate.intervals`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import InputError
from embedspace.evaluate.intervals import Estimate, bootstrap, estimates_of
from embedspace.evaluate.search import UNRANKED, PositiveRanks

__all__ = ["Estimate", "bootstrap", "chance_recall", "per_query_metrics", "recall_at_k", "retrieval_metrics"]

NDCG_DEPTH = 10


def recall_at_k(ranks: PositiveRanks, k: int) -> float:
    """Return the share in [0, 1] of queries with a positive in the top k (CLIP convention); no other library needed."""
    return float((ranks.first <= k).mean()) if ranks.num_queries else 0.0


def chance_recall(ranks: PositiveRanks, k: int) -> float:
    """Return the `recall_at_k` of random rankings.

    Args:
        ranks: Ranks; only the numbers of positives and the gallery size count.
        k: Depth.

    Returns:
        Mean over queries of 1 - C(N - P, k) / C(N, k).
    """
    size, counts = ranks.gallery_size, ranks.counts.astype(np.float64)
    if k >= size:
        return 1.0
    steps = np.arange(k, dtype=np.float64)
    misses = np.clip(size - counts[:, None] - steps, 0, None) / (size - steps)  # (Q, k)
    return float(1.0 - misses.prod(axis=1).mean())


def per_query_metrics(ranks: PositiveRanks, ks: Sequence[int] = (1, 5, 10)) -> dict[str, NDArray[np.float64]]:
    """Return each metric of each query.

    Args:
        ranks: Exact ranks of the positives.
        ks: Depths of the two recalls.

    Returns:
        Metric name -> (Q,) values: `recall_at_<k>`, `ir_recall_at_<k>`, `ndcg_at_10`, `mrr`, `map`, and
        `medr`, the rank of the first positive (gallery size + 1 for a missing query).

    Raises:
        InputError: If a depth is below 1.
    """
    if not ks or min(ks) < 1:
        raise InputError(f"ks must be depths of at least 1, got {list(ks)}")
    values = _ir_measures(ranks, ks)
    first = ranks.first
    values["mrr"] = np.where(first == UNRANKED, 0.0, 1.0 / first)
    values["map"] = _average_precision(ranks)
    values["medr"] = np.where(first == UNRANKED, ranks.gallery_size + 1, first).astype(np.float64)
    return values


def _average_precision(ranks: PositiveRanks) -> NDArray[np.float64]:
    """Return (Q,) mean over a query's positives of the precision at each one's rank."""
    within = np.arange(len(ranks.ranks)) - np.repeat(ranks.offsets[:-1], ranks.counts) + 1
    precision = np.where(ranks.ranks == UNRANKED, 0.0, within / ranks.ranks)
    return np.add.reduceat(precision, ranks.offsets[:-1]) / ranks.counts if ranks.num_queries else precision


def _ir_measures(ranks: PositiveRanks, ks: Sequence[int]) -> dict[str, NDArray[np.float64]]:
    """Let `ir-measures` score the top of each ranking."""
    import ir_measures

    names: dict[Any, str] = {ir_measures.nDCG @ NDCG_DEPTH: f"ndcg_at_{NDCG_DEPTH}"}
    for k in ks:
        names[ir_measures.Success @ k] = f"recall_at_{k}"
        names[ir_measures.R @ k] = f"ir_recall_at_{k}"
    depth = max(*ks, NDCG_DEPTH)
    qrels = [
        ir_measures.Qrel(str(query), f"+{n}", 1) for query, count in enumerate(ranks.counts) for n in range(int(count))
    ]
    run = [ir_measures.ScoredDoc(str(query), doc, score) for query, doc, score in _run(ranks, depth)]
    values = {name: np.zeros(ranks.num_queries) for name in names.values()}
    for metric in ir_measures.iter_calc(list(names), qrels, run):
        values[names[metric.measure]][int(metric.query_id)] = metric.value
    return values


def _run(ranks: PositiveRanks, depth: int) -> Iterator[tuple[int, str, float]]:
    """Yield (query, document, score) of the first `depth` places; a place without a positive holds a filler."""
    for query in range(ranks.num_queries):
        mine = ranks.ranks[ranks.offsets[query] : ranks.offsets[query + 1]]
        places = {int(rank): f"+{n}" for n, rank in enumerate(mine) if rank <= depth}
        if mine[0] == UNRANKED:
            continue  # a missing query: absent from the run
        for rank in range(1, min(depth, ranks.gallery_size) + 1):
            yield query, places.get(rank, f"-{rank}"), float(-rank)


def retrieval_metrics(
    ranks: PositiveRanks,
    *,
    ks: Sequence[int] = (1, 5, 10),
    resamples: int = 1000,
    seed: int = 0,
    clusters: NDArray[np.int64] | None = None,
) -> dict[str, Estimate]:
    """Return every metric with its 95% percentile-bootstrap interval over clusters of queries.

    Args:
        ranks: Exact ranks of the positives of at least one query.
        ks: Depths of the two recalls.
        resamples: Bootstrap samples; 0 leaves the intervals at the value.
        seed: Seed of the bootstrap.
        clusters: As `draw_counts`.

    Returns:
        Name -> `Estimate`, in [0, 1] except `medr` (a rank): see `per_query_metrics`.

    Raises:
        InputError: If there is no query.
    """
    if not ranks.num_queries:
        raise InputError("no query has a positive in the gallery: nothing to measure")
    return estimates_of(per_query_metrics(ranks, ks), resamples=resamples, seed=seed, clusters=clusters)
