"""How a query scores against a gallery that mostly does not match it: what its best score has to stand out from.

A cosine of 0.5 says little by itself: one query is close to half of a gallery, another to nothing in it. So every
search measures the query's own scores against the gallery, and extreme-value theory says how good the best of them
would be if nothing matched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Background", "background_of"]

_TAIL = 0.05
"""Share of the scores that are called the tail."""
_PRIOR = 4.0
"""How many scores the tail of a normal distribution counts as, where there are few."""
_NORMAL_EXCESS = 0.42
"""Mean excess of a normal distribution over the point that a share of `_TAIL` exceeds, in standard deviations."""


@dataclass(frozen=True, slots=True)
class Background:
    """The scores of one query against the items of one modality.

    Attributes:
        size: Items searched.
        mean: Mean of the scores; None where they were not measured.
        std: Standard deviation of the scores.
        expected_best: The best score to be expected of as many items if none matched: the location of the Gumbel
            distribution of their maximum, from the scores' own tail.
    """

    size: int
    mean: float | None = None
    std: float = 0.0
    expected_best: float = 0.0


def background_of(scores: ArrayLike, size: int) -> list[Background]:
    """Measure backgrounds.

    Args:
        scores: (Q, n) cosines of Q queries with all items, or with a sample of them.
        size: Items there are; at least n.

    Returns:
        One a query. Matches are among the scores: the fit of what a score is worth (`embedspace.calibration.fit`) has
        seen such galleries.

    Source:
        Peaks over a threshold with an exponential tail, of which the maximum of N is Gumbel distributed around
        u + beta ln(N share): Coles 2001, "An Introduction to Statistical Modeling of Extreme Values", chapter 4.
        Extreme values of non-matching scores as what a match must beat: Scheirer et al. 2011, "Meta-recognition".
    """
    given = np.atleast_2d(np.asarray(scores))
    rows: NDArray[np.float64] = given.astype(np.float64)
    count = rows.shape[1]
    if not count:
        return [Background(size) for _ in rows]
    tail = max(1, round(_TAIL * count))
    mean = rows.sum(axis=1) / count
    apart = rows - mean[:, None]
    std = np.sqrt(np.vecdot(apart, apart) / count)
    if count > tail:  # (Q, tail + 1), the threshold first
        top = np.partition(given, count - tail - 1, axis=1)[:, count - tail - 1 :].astype(np.float64)
    else:
        top = np.stack([rows[:, 0], rows[:, 0]], axis=1)
    threshold, excess = top[:, 0], (top[:, 1:] - top[:, :1]).sum(axis=1)
    scale = (excess + _PRIOR * _NORMAL_EXCESS * std) / (top.shape[1] - 1 + _PRIOR)
    best = threshold + scale * np.log(max(size * tail / count, 1.0))
    columns: Sequence[list[float]] = (mean.tolist(), std.tolist(), best.tolist())
    return [Background(size, *row) for row in zip(*columns, strict=True)]
