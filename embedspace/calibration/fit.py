"""Fit what turns cosines into likelihood ratios and probabilities, and measure how honest these are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration.model import MatchModel, PairCalibration, to_probability
from embedspace.errors import InputError

__all__ = ["HIDDEN", "calibration_error", "cutoff_of", "cutoffs_of", "cutoffs_of_line", "fit_model", "fit_pair"]

HIDDEN = 0.08
"""Share of the right first hits that a cut-off may hide."""
_DOUBT = 0.05
_MIN_SCORES = 2
_MIN_RIGHT = 10
_CONSTANT = 1e-9
_STEPS = 100
_TOLERANCE = 1e-10


def fit_pair(
    match_scores: NDArray[np.float32], background_scores: NDArray[np.float32], *, ridge: float = 1e-3
) -> PairCalibration:
    """Fit the log-likelihood ratio match : background as a line over the cosine.

    Logistic regression in which both classes weigh the same however many scores they hold (equal priors), so that the
    logit is the log-likelihood ratio itself; Newton's method on the standardised score. The ridge pulls the slope to
    0 and keeps it finite where the classes do not overlap. A negative slope (matches score lower) is set to 0: such a
    pair says nothing.

    Args:
        match_scores: (M,) cosines of pairs that belong together.
        background_scores: (B,) cosines of pairs that do not.
        ridge: Weight of half the squared standardised slope, against a mean loss per class.

    Returns:
        The calibration, with the background's mean and standard deviation.

    Raises:
        InputError: If either side has fewer than two finite scores.

    Source:
        Platt 1999, "Probabilistic outputs for support vector machines", with balanced classes; the logit as a
        likelihood ratio as in Brummer & du Preez 2006, "Application-independent evaluation of speaker detection".
    """
    match = np.asarray(match_scores, np.float64).ravel()
    background = np.asarray(background_scores, np.float64).ravel()
    match, background = match[np.isfinite(match)], background[np.isfinite(background)]
    if min(len(match), len(background)) < _MIN_SCORES:
        raise InputError(
            f"{len(match)} match and {len(background)} background scores: at least {_MIN_SCORES} of each are needed"
        )
    scores = np.concatenate([match, background])
    labels = np.concatenate([np.ones(len(match)), np.zeros(len(background))])
    weights = np.where(labels == 1, 0.5 / len(match), 0.5 / len(background))
    centre = float((weights * scores).sum())
    scale = float(np.sqrt((weights * (scores - centre) ** 2).sum())) or 1.0
    intercept, slope = _newton(((scores - centre) / scale)[:, None], labels, weights, ridge).tolist()
    if slope < 0:
        intercept, slope = 0.0, 0.0
    return PairCalibration(
        mean=float(background.mean()),
        std=float(background.std()),
        slope=slope / scale,
        intercept=intercept - slope * centre / scale,
    )


def fit_model(
    features: NDArray[np.float64],
    is_match: NDArray[np.bool_],
    *,
    weights: NDArray[np.float64] | None = None,
    ridge: float = 1e-4,
) -> MatchModel:
    """Fit what a hit is worth: logistic regression over `match_features`.

    The weights of the score and of the margin may not be negative, so that a better score is never less probable: one
    that would be is left out, and the rest fitted again.

    Args:
        features: (n, 6) of hits, as `match_features` gives them.
        is_match: (n,) whether each is a match.
        weights: (n,) how much each hit counts; all alike where None.
        ridge: Weight of half the squared standardised weights, against a mean loss per hit.

    Returns:
        The model.

    Raises:
        InputError: If either class is empty.
    """
    labels = np.asarray(is_match, np.float64)
    if not 0 < labels.sum() < len(labels):
        raise InputError(f"{int(labels.sum())} matches among {len(labels)} hits: both classes are needed")
    shares = np.full(len(labels), 1.0) if weights is None else np.asarray(weights, np.float64)
    shares = shares / shares.sum()
    centre = shares @ features
    scale = np.sqrt(shares @ (features - centre) ** 2)
    used = scale > _CONSTANT
    standard = np.where(used, (features - centre) / np.where(used, scale, 1.0), 0.0)
    for _ in range(3):
        columns = np.flatnonzero(used)
        beta = _newton(standard[:, columns], labels, shares, ridge)
        found = np.zeros(features.shape[1])
        found[columns] = beta[1:]
        if (found[:2] >= 0).all():
            break
        used[:2] &= found[:2] >= 0
    slopes = np.where(used, found / np.where(used, scale, 1.0), 0.0)
    numbers: list[float] = [*slopes.tolist(), float(beta[0] - slopes @ centre)]
    return MatchModel(*numbers)


def cutoff_of(values: NDArray[np.float64], *, hidden: float = HIDDEN) -> float:
    """Return what few right hits lie below.

    Args:
        values: (n,) of right first hits, their probabilities or anything that orders them; at least one.
        hidden: Share of such hits that may lie below.

    Returns:
        The largest of the values below which no more than that share of all such hits lies, by 95% confidence; the
        smallest where they are too few to say so. Of many values it lies nearer to their own quantile than of few.

    Source:
        One-sided distribution-free tolerance bound: Wilks 1941, "Determination of sample sizes for setting tolerance
        limits". The share below the order statistic k + 1 exceeds `hidden` with the probability that a binomial
        variable (n, hidden) is at most k.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    count, chance, below = len(ordered), (1 - hidden) ** len(ordered), 0.0
    for k in range(count):
        below += chance  # P(binomial <= k)
        if below > _DOUBT:
            return float(ordered[max(k - 1, 0)])
        chance *= (count - k) / (k + 1) * hidden / (1 - hidden)
    return float(ordered[-1])


def cutoffs_of(
    probabilities: NDArray[np.float64],
    is_match: NDArray[np.bool_],
    kinds: NDArray[np.int64],
    sizes: NDArray[np.int64],
    *,
    hidden: float = HIDDEN,
) -> tuple[tuple[float, float], ...]:
    """Return the probabilities below which a first hit may be called no good match, by the size of the gallery.

    Args:
        probabilities: (n,) of first hits.
        is_match: (n,) whether each is right.
        kinds: (n,) what each one's search was like.
        sizes: (n,) items in its gallery.
        hidden: Share of the right first hits that may lie below, for every kind and size; see `cutoff_of`.

    Returns:
        (size, probability) of every size with enough right first hits, ascending; at most 0.5, since what is likelier
        right than wrong is not called bad, and never more than for a smaller gallery.
    """
    found: list[tuple[float, float]] = []
    lowest = 0.5
    for size in np.unique(sizes).tolist():
        right = [probabilities[(sizes == size) & (kinds == kind) & is_match] for kind in np.unique(kinds)]
        bounds = [cutoff_of(some, hidden=hidden) for some in right if len(some) >= _MIN_RIGHT]
        if bounds:
            lowest = min(lowest, *bounds)
            found.append((float(size), lowest))
    return tuple(found)


def cutoffs_of_line(
    pair: PairCalibration, right: Sequence[NDArray[np.float64]], sizes: Sequence[int], *, hidden: float = HIDDEN
) -> tuple[tuple[float, float], ...]:
    """Return the cut-offs of a pair without a model, whose prior odds are 1 : gallery size.

    What counts is the cosine, and right first hits of larger galleries have higher ones: they had more to beat. So no
    more than that share of them is hidden in galleries larger than those that the cosines come from, either.

    Args:
        pair: Has the line over the cosine.
        right: For each kind of searches the cosines of right first hits.
        sizes: Sizes of the galleries, ascending.
        hidden: Share of the right first hits that may lie below; see `cutoff_of`.

    Returns:
        (size, probability) of the sizes, at most 0.5; none where no kind has enough right first hits.
    """
    bounds = [cutoff_of(some, hidden=hidden) for some in right if len(some) >= _MIN_RIGHT]
    if not bounds:
        return ()
    odds = pair.slope * min(bounds) + pair.intercept
    return tuple((float(size), min(float(to_probability(odds - np.log(size))), 0.5)) for size in sizes)


def _newton(
    features: NDArray[np.float64], labels: NDArray[np.float64], weights: NDArray[np.float64], ridge: float
) -> NDArray[np.float64]:
    """Return (1 + F,) intercept and slopes that minimise the weighted log loss plus ridge/2 · slopes²."""
    design = np.column_stack([np.ones(len(labels)), features])  # (N, 1 + F)
    penalty = np.diag([1e-9, *(ridge for _ in range(design.shape[1] - 1))])
    beta = np.zeros(design.shape[1])

    def loss(at: NDArray[np.float64]) -> float:
        logits = design @ at
        return float((weights * (np.logaddexp(0, logits) - labels * logits)).sum() + 0.5 * at @ penalty @ at)

    for _ in range(_STEPS):
        odds = 1.0 / (1.0 + np.exp(-np.clip(design @ beta, -60, 60)))
        gradient = design.T @ (weights * (odds - labels)) + penalty @ beta
        curvature = (design * (weights * odds * (1 - odds))[:, None]).T @ design + penalty
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while loss(beta - size * step) > loss(beta) and size > _TOLERANCE:
            size /= 2  # a full Newton step can overshoot where the classes barely overlap
        beta = beta - size * step
        if np.abs(size * step).max() < _TOLERANCE:
            break
    return beta


def calibration_error(probabilities: NDArray[np.float64], is_match: NDArray[np.bool_], *, bins: int = 10) -> float:
    """Return the expected calibration error over bins that hold equally many scores.

    Args:
        probabilities: (N,) in [0, 1].
        is_match: (N,) whether each pair is a match.
        bins: Number of bins; fewer where there are fewer scores.

    Returns:
        Mean over scores of |mean probability - share of matches| of their bin, in [0, 1].

    Raises:
        InputError: If the arrays are empty or differ in length, or a probability lies outside [0, 1].

    Source:
        Nixon et al. 2019, "Measuring calibration in deep learning" (adaptive binning of Naeini et al. 2015).
    """
    probabilities = np.asarray(probabilities, np.float64).ravel()
    matches = np.asarray(is_match, np.float64).ravel()
    if not len(probabilities) or len(probabilities) != len(matches):
        raise InputError(f"{len(probabilities)} probabilities for {len(matches)} labels: need as many of both")
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise InputError("probabilities must lie in [0, 1]")
    order = np.argsort(probabilities, kind="stable")
    parts = np.array_split(order, min(max(bins, 1), len(order)))
    gaps = [abs(probabilities[part].mean() - matches[part].mean()) * len(part) for part in parts]
    return float(sum(gaps) / len(order))
