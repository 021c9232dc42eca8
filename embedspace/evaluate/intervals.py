"""Bootstrap confidence intervals that resample clusters of queries, not single recordings.

Queries of one caption, concept or voice succeed and fail together; an interval that treats them as independent is too
narrow. A cluster is drawn with all its queries, and where queries are in two kinds of clusters (captions, said by
several voices) both are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import InputError

__all__ = ["Estimate", "bootstrap", "cluster_codes", "draw_counts", "estimates_of", "interval_of", "mean_of_groups"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95% bootstrap confidence interval over clusters of queries."""

    value: float
    low: float
    high: float


def interval_of(samples: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the 95% percentile interval of bootstrap samples (B, ...); NaN samples say nothing."""
    low, high = np.nanpercentile(samples, [2.5, 97.5], axis=0)
    return low, high


def cluster_codes(*names: Sequence[str]) -> NDArray[np.int64]:
    """Return (F, Q) numbers of the clusters that each query is in, one row per factor, counted from the first query on.

    Args:
        names: For each factor (caption, speaker, ...) the name of each query's cluster.
    """
    found = []
    for factor in names:
        numbers: dict[str, int] = {}
        found.append([numbers.setdefault(name, len(numbers)) for name in factor])
    return np.array(found, np.int64).reshape(len(names), -1)


def draw_counts(
    total: int, *, resamples: int, seed: int, clusters: NDArray[np.int64] | None = None
) -> Iterator[NDArray[np.int64]]:
    """Yield (b, Q) blocks that say how often each query is in each bootstrap sample, `resamples` rows in all.

    Queries of one cluster come and go together: recordings of one caption are no independent witnesses. With several
    factors a query is drawn as often as the product of its clusters' counts.

    Args:
        total: Queries Q.
        resamples: Bootstrap samples.
        seed: Seed of the generator.
        clusters: (F, Q) from `cluster_codes`; each query a cluster of its own where None.

    Source:
        Field & Welsh 2007, "Bootstrapping clustered data", section 3.1 (randomised cluster bootstrap); for several
        factors Owen 2007, "The pigeonhole bootstrap", section 4.
    """
    rng = np.random.default_rng(seed)
    factors = np.arange(total)[None] if clusters is None else clusters
    chunk = max(1, 4_000_000 // max(total, 1))  # keeps a block near 32 MB
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        counts = np.ones((rows, total), np.int64)
        for factor in factors:
            size = int(factor.max()) + 1
            counts *= rng.multinomial(size, np.full(size, 1.0 / size), size=rows)[:, factor]
        yield counts


def bootstrap(
    values: NDArray[np.float64],
    *,
    statistic: str = "mean",
    resamples: int = 1000,
    seed: int = 0,
    clusters: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """Resample clusters of queries with replacement.

    Args:
        values: (Q, M) per-query values.
        statistic: "mean" or "median".
        resamples: Number of bootstrap samples B.
        seed: Seed of the generator; the same seed draws the same queries for every metric and system of a gallery.
        clusters: As `draw_counts`.

    Returns:
        (B, M) the statistic of each sample; NaN where a sample holds no query.

    Raises:
        InputError: If the statistic has another name.
    """
    if statistic not in ("mean", "median"):
        raise InputError(f"statistic must be 'mean' or 'median', got {statistic!r}")
    of = _weighted_means if statistic == "mean" else _weighted_medians
    blocks = draw_counts(len(values), resamples=resamples, seed=seed, clusters=clusters)
    parts = [of(values, counts) for counts in blocks]
    return np.concatenate(parts) if parts else np.empty((0, values.shape[1]))


def _weighted_means(values: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (B, M) means of the values repeated as often as each row of `counts` (B, Q) says."""
    with np.errstate(invalid="ignore"):
        means: NDArray[np.float64] = counts @ values / counts.sum(axis=1, keepdims=True)
    return means


def _weighted_medians(values: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (B, M) medians of the values repeated as often as each row of `counts` (B, Q) says."""
    total, out = counts.sum(axis=1, keepdims=True), np.empty((len(counts), values.shape[1]))
    for column in range(values.shape[1]):
        order = np.argsort(values[:, column], kind="stable")
        reached = np.cumsum(counts[:, order], axis=1)  # (B, Q)
        low = (reached > (total - 1) // 2).argmax(axis=1)
        high = (reached > total // 2).argmax(axis=1)
        ordered = values[order, column]
        out[:, column] = np.where(total[:, 0] > 0, (ordered[low] + ordered[high]) / 2, np.nan)
    return out


def estimates_of(
    queries: Mapping[str, NDArray[np.float64]],
    *,
    resamples: int = 1000,
    seed: int = 0,
    clusters: NDArray[np.int64] | None = None,
) -> dict[str, Estimate]:
    """Return every metric of some queries with its 95% percentile-bootstrap interval over their clusters.

    Args:
        queries: Name -> (Q,) values, as `per_query_metrics`.
        resamples: Bootstrap samples; 0 leaves the intervals at the value.
        seed: Seed of the bootstrap.
        clusters: As `draw_counts`.
    """
    everything = np.arange(len(queries["medr"]))
    return mean_of_groups(queries, [everything], resamples=resamples, seed=seed, clusters=clusters)


def mean_of_groups(
    queries: Mapping[str, NDArray[np.float64]],
    groups: Sequence[NDArray[np.intp]],
    *,
    resamples: int = 1000,
    seed: int = 0,
    clusters: NDArray[np.int64] | None = None,
) -> dict[str, Estimate]:
    """Return the mean over groups of every metric, each group counting the same, with its 95% interval.

    A cluster is drawn for all groups at once: what nine languages say of one stamp is right or wrong together.

    Args:
        queries: Name -> (Q,) values, as `per_query_metrics`; `medr` is a median over each group, the others are means.
        groups: The rows of each group's queries.
        resamples: Bootstrap samples; 0 leaves the intervals at the value.
        seed: Seed of the bootstrap.
        clusters: As `draw_counts`.
    """
    means = [name for name in queries if name != "medr"]
    table, first = np.stack([queries[name] for name in means], axis=1), queries["medr"][:, None]

    def over_groups(counts: NDArray[np.int64]) -> NDArray[np.float64]:  # (B, Q) -> (B, M + 1)
        parts = [
            np.hstack([_weighted_means(table[rows], drawn), _weighted_medians(first[rows], drawn)])
            for rows in groups
            for drawn in [counts[:, rows]]
        ]
        mean: NDArray[np.float64] = np.mean(parts, axis=0)
        return mean

    values = over_groups(np.ones((1, len(table)), np.int64))[0]
    blocks = draw_counts(len(table), resamples=resamples, seed=seed, clusters=clusters)
    samples = [over_groups(counts) for counts in blocks]
    # a sample in which a group has no query says nothing of the mean
    low, high = interval_of(np.concatenate(samples)) if samples else (values, values)
    named = zip([*means, "medr"], values, low, high, strict=True)
    return {name: Estimate(float(v), float(a), float(b)) for name, v, a, b in named}
