"""Intervals of what is generated: means and ratios over prompts, with whole concepts or captions drawn together.

Seeds of a prompt are averaged before; what is drawn, `embedspace.evaluate.intervals` says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedspace.evaluate.intervals import bootstrap, cluster_codes, interval_of

__all__ = ["clustered_mean", "clustered_ratio"]


def clustered_mean(
    values: Sequence[float] | NDArray[np.float64], clusters: Sequence[str], *, resamples: int = 1000
) -> list[float]:
    """Return the mean of values and its 95% bootstrap interval over clusters, to four digits.

    Args:
        values: (N,); those that are not finite are left out.
        clusters: N names.
        resamples: Bootstrap samples.
    """
    rows = np.asarray(values, np.float64)
    keep = np.isfinite(rows)
    if not keep.any():
        return [float("nan")] * 3
    return _ratio(
        rows[keep], np.ones(int(keep.sum())), [c for c, own in zip(clusters, keep, strict=True) if own], resamples
    )


def clustered_ratio(
    values: Sequence[float] | NDArray[np.float64],
    other: Sequence[float] | NDArray[np.float64],
    clusters: Sequence[str],
    *,
    resamples: int = 1000,
) -> list[float] | None:
    """Return the ratio of two sums over the same items and its 95% interval over clusters; None where it is to nothing.

    Args:
        values: (N,).
        other: (N,) not negative.
        clusters: N names.
        resamples: Bootstrap samples.
    """
    below = np.asarray(other, np.float64)
    return _ratio(np.asarray(values, np.float64), below, clusters, resamples) if below.sum() else None


def _ratio(
    above: NDArray[np.float64], below: NDArray[np.float64], clusters: Sequence[str], resamples: int
) -> list[float]:
    values = np.stack([above, below], axis=1)
    draws = bootstrap(values, resamples=resamples, clusters=cluster_codes(clusters))
    draws = draws[draws[:, 1] > 0]  # with few clusters a draw may hold nothing to divide by
    low, high = interval_of(draws[:, 0] / draws[:, 1])
    return [round(float(v), 4) for v in (above.sum() / below.sum(), low, high)]
