"""One retrieval direction: queries of one modality against a corpus of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import InputError
from embedspace.evaluate.intervals import Estimate, cluster_codes, estimates_of, mean_of_groups
from embedspace.evaluate.metrics import chance_recall, per_query_metrics
from embedspace.evaluate.search import PositiveRanks, positive_ranks

__all__ = ["PRIMARY_METRIC", "RetrievalResult", "evaluate_pair"]

PRIMARY_METRIC = "recall_at_10"


@dataclass(frozen=True, slots=True)
class RetrievalResult:
    """What one direction reached.

    Attributes:
        query: Name of the query set, in most suites its modality.
        gallery: Name of the gallery set.
        num_queries: Queries measured, missing ones included.
        gallery_size: Items searched.
        metrics: Name -> `Estimate`; see `embedspace.evaluate.metrics`.
        primary_metric: The metric to quote.
        chance: `recall_at_k` of random rankings, by the metric's name.
        num_missing: Queries without a vector (they count 0).
        num_unanswerable: Queries left out because no item of the gallery answers them.
        groups: Metrics of parts of the queries, by the value of the suite's `by` field (a speaker, a language).
        group_mean: Metric -> mean over the groups, each group counting the same; empty without groups.
        clusters: What the intervals resample -> how many of them the queries are in.
        label: What sets this direction apart from others of the same pair ("picture alone").
    """

    query: str
    gallery: str
    num_queries: int
    gallery_size: int
    metrics: Mapping[str, Estimate]
    primary_metric: str = PRIMARY_METRIC
    chance: Mapping[str, float] = field(default_factory=dict)
    num_missing: int = 0
    num_unanswerable: int = 0
    groups: Mapping[str, RetrievalResult] = field(default_factory=dict)
    group_mean: Mapping[str, Estimate] = field(default_factory=dict)
    clusters: Mapping[str, int] = field(default_factory=dict)
    label: str = ""

    @property
    def primary(self) -> Estimate:
        """The estimate of the primary metric."""
        return self.metrics[self.primary_metric]


def evaluate_pair(
    queries: NDArray[np.float32],
    corpus: NDArray[np.float32],
    positives: Sequence[Sequence[int] | NDArray[np.int64]],
    *,
    query: str = "",
    gallery: str = "",
    exclude: Sequence[Sequence[int] | NDArray[np.int64]] | None = None,
    groups: Sequence[str] | None = None,
    clusters: Mapping[str, Sequence[str]] | None = None,
    ks: Sequence[int] = (1, 5, 10),
    primary_metric: str = PRIMARY_METRIC,
    resamples: int = 1000,
    seed: int = 0,
    label: str = "",
) -> RetrievalResult:
    """Measure one direction exactly.

    Args:
        queries: (Q, embed_dim) unit rows; a NaN or zero row is a missing query and counts 0.
        corpus: (N, embed_dim) unit rows.
        positives: For each query the corpus indices that answer it; queries with none are left out and counted apart.
        query: Name of the query side.
        gallery: Name of the corpus side.
        exclude: For each query the corpus indices taken out of its gallery.
        groups: For each query the group it belongs to; each group is measured as well, over the same gallery, and
            their mean.
        clusters: Kind of cluster ("caption", "speaker") -> each query's; intervals resample them. Each query is a
            cluster of its own by default.
        ks: Depths of the recalls.
        primary_metric: The metric to quote.
        resamples: Bootstrap samples; 0 for values without intervals.
        seed: Seed of the bootstrap.
        label: Kept in the result.

    Returns:
        The `RetrievalResult`.

    Raises:
        InputError: If shapes or lists disagree, no query can be answered, or the primary metric is unknown.
    """
    queries = np.asarray(queries, dtype=np.float32)
    kept = _answered(queries, positives, f"{query or 'queries'} -> {gallery or 'corpus'}")
    hidden = None if exclude is None else [exclude[q] for q in kept]
    ranks = positive_ranks(queries[kept], corpus, [positives[q] for q in kept], exclude=hidden)
    missing = ~np.isfinite(queries[kept]).all(axis=1) | ~(queries[kept] != 0).any(axis=1)
    own = {"query": [str(q) for q in kept]} if clusters is None else _of(clusters, kept)
    result = RetrievalResult(query, gallery, 0, ranks.gallery_size, {}, primary_metric, label=label)
    table = per_query_metrics(ranks, ks)
    measure = partial(_measured, result, ranks, table, missing, own, ks=ks, resamples=resamples, seed=seed)
    names = [] if groups is None else [groups[q] for q in kept]
    parts = {name: np.flatnonzero([name == other for other in names]) for name in sorted(set(names))}
    inner = {name: measure(rows) for name, rows in parts.items()}
    mean = _group_mean(table, list(parts.values()), own, resamples, seed) if parts else {}
    whole = measure(np.arange(len(kept)))
    return replace(whole, groups=inner, group_mean=mean, num_unanswerable=len(queries) - len(kept))


def _answered(
    queries: NDArray[np.float32], positives: Sequence[Sequence[int] | NDArray[np.int64]], where: str
) -> list[int]:
    """Return the rows of the queries that have an answer.

    Raises:
        InputError: If there is none, or the numbers differ.
    """
    kept = [row for row, entry in enumerate(positives) if len(entry)]
    if len(positives) != len(queries) or not kept:
        raise InputError(
            f"{where}: {len(queries)} queries with {len(positives)} lists of positives, of which {len(kept)} hold any; "
            "at least one query needs an answer in the gallery"
        )
    return kept


def _of(clusters: Mapping[str, Sequence[str]], rows: Sequence[int] | NDArray[np.intp]) -> dict[str, list[str]]:
    """Return the clusters of some queries."""
    return {kind: [names[row] for row in rows] for kind, names in clusters.items()}


def _measured(
    result: RetrievalResult,
    ranks: PositiveRanks,
    table: Mapping[str, NDArray[np.float64]],
    missing: NDArray[np.bool_],
    clusters: Mapping[str, Sequence[str]],
    rows: NDArray[np.intp],
    *,
    ks: Sequence[int],
    resamples: int,
    seed: int,
) -> RetrievalResult:
    """Return the result with what some of the queries give."""
    own = _of(clusters, rows)
    queries = {name: values[rows] for name, values in table.items()}
    metrics = estimates_of(queries, resamples=resamples, seed=seed, clusters=cluster_codes(*own.values()))
    if result.primary_metric not in metrics:
        known = " ".join(sorted(metrics))
        raise InputError(f"primary metric {result.primary_metric!r} is not measured; known: {known}")
    taken = _take(ranks, rows)
    return replace(
        result,
        num_queries=len(rows),
        metrics=metrics,
        chance={f"recall_at_{k}": chance_recall(taken, k) for k in ks},
        num_missing=int(missing[rows].sum()),
        clusters={kind: len(set(names)) for kind, names in own.items()},
    )


def _group_mean(
    table: Mapping[str, NDArray[np.float64]],
    groups: Sequence[NDArray[np.intp]],
    clusters: Mapping[str, Sequence[str]],
    resamples: int,
    seed: int,
) -> dict[str, Estimate]:
    """Return the mean over groups; what is one in every group, such as the voice in groups by voice, is not drawn."""
    inside = {
        kind: names for kind, names in clusters.items() if any(len({names[row] for row in rows}) > 1 for rows in groups)
    }
    codes = cluster_codes(*inside.values()) if inside else None
    return mean_of_groups(table, groups, resamples=resamples, seed=seed, clusters=codes)


def _take(ranks: PositiveRanks, rows: NDArray[np.intp]) -> PositiveRanks:
    """Return the ranks of some queries only; the gallery stays the same."""
    pieces = [ranks.ranks[ranks.offsets[row] : ranks.offsets[row + 1]] for row in rows]
    offsets = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]).astype(np.int64)
    return PositiveRanks(np.concatenate(pieces), offsets, ranks.gallery_size)
