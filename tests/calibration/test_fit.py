"""The calibration fit on distributions whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from embedspace.calibration.background import Background
from embedspace.calibration.fit import calibration_error, fit_pair
from embedspace.calibration.model import Calibration
from embedspace.errors import InputError

MEANS = (0.5, 0.1)
STD = 0.1


def gaussians(seed: int, matches: int, backgrounds: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(MEANS[0], STD, matches), rng.normal(MEANS[1], STD, backgrounds)


@pytest.mark.parametrize(("matches", "backgrounds"), [(20_000, 20_000), (5_000, 50_000)])
def test_fit_pair_finds_the_known_likelihood_ratio_whatever_the_class_sizes(matches: int, backgrounds: int) -> None:
    fit = fit_pair(*gaussians(0, matches, backgrounds), ridge=0.0)
    # equal variances: log N(x; m1) - log N(x; m0) = (m1 - m0) / s² x - (m1² - m0²) / 2s²
    assert fit.slope == pytest.approx((MEANS[0] - MEANS[1]) / STD**2, rel=0.05)
    assert fit.intercept == pytest.approx((MEANS[1] ** 2 - MEANS[0] ** 2) / (2 * STD**2), rel=0.05)
    assert fit.mean == pytest.approx(MEANS[1], abs=0.01)
    assert fit.std == pytest.approx(STD, abs=0.01)


def test_fit_pair_gives_calibrated_probabilities_at_another_prior() -> None:
    fit = fit_pair(*gaussians(0, 20_000, 20_000))
    match, background = gaussians(1, 2_000, 40_000)
    scores = np.concatenate([match, background])
    calibration = Calibration(pairs={"image>text": fit})
    probabilities = calibration.probability(scores.astype(np.float32), "image", "text", Background(20))
    labels = np.arange(len(scores)) < len(match)
    assert calibration_error(probabilities, labels) < 0.01


def test_fit_pair_stays_finite_when_the_classes_do_not_overlap() -> None:
    fit = fit_pair(np.array([0.8, 0.9, 0.85]), np.array([0.1, 0.0, 0.05, 0.1]))
    assert 0 < fit.slope < 1e4
    assert fit.slope * 0.45 + fit.intercept == pytest.approx(0, abs=0.5)


def test_fit_pair_of_a_pair_that_says_nothing_has_no_slope() -> None:
    fit = fit_pair(np.array([0.0, 0.1, 0.05]), np.array([0.5, 0.6, 0.7]))
    assert (fit.slope, fit.intercept) == (0.0, 0.0)
    equal = fit_pair(np.full(5, 0.3), np.full(5, 0.3))
    assert equal.slope == pytest.approx(0, abs=1e-6)


def test_fit_pair_refuses_too_few_scores() -> None:
    with pytest.raises(InputError, match="1 match and 3 background"):
        fit_pair(np.array([0.5, np.nan]), np.array([0.1, 0.2, 0.3]))


def test_calibration_error_by_hand() -> None:
    assert calibration_error(np.array([0.2, 0.2, 0.9, 0.9]), np.array([0, 1, 1, 1]), bins=2) == pytest.approx(0.2)
    assert calibration_error(np.array([0.0, 1.0]), np.array([False, True])) == 0.0


@pytest.mark.parametrize(("probabilities", "labels"), [([], []), ([0.5], [1, 0]), ([1.5], [1]), ([np.nan], [1])])
def test_calibration_error_refuses_wrong_input(probabilities: list[float], labels: list[int]) -> None:
    with pytest.raises(InputError):
        calibration_error(np.array(probabilities), np.array(labels))
