"""Intervals over clusters: what belongs together is drawn together."""

from __future__ import annotations

import numpy as np
import pytest

from embedspace.evaluate.generation.measures.clusters import clustered_mean, clustered_ratio


def test_copies_of_a_measurement_add_no_certainty() -> None:
    values = np.random.default_rng(0).random(40)
    names = [str(number) for number in range(40)]
    once = clustered_mean(values, names)
    repeated = clustered_mean(np.repeat(values, 9), [name for name in names for _ in range(9)])
    apart = clustered_mean(np.repeat(values, 9), [str(number) for number in range(360)])
    assert repeated == pytest.approx(once, abs=1e-4)
    assert apart[2] - apart[1] < 0.5 * (once[2] - once[1])


def test_the_mean_is_over_items_and_what_is_not_finite_is_left_out() -> None:
    value, low, high = clustered_mean([1.0, 1.0, 1.0, 0.0, np.nan], ["a", "a", "a", "b", "c"])
    assert value == 0.75 and low <= value <= high
    assert np.isnan(clustered_mean([np.nan], ["a"])).all()


def test_a_ratio_is_of_sums_and_to_nothing_none() -> None:
    value, low, high = clustered_ratio([1.0, 3.0], [2.0, 8.0], ["a", "b"]) or [0.0] * 3
    assert value == 0.4 and (low, high) == (0.375, 0.5)
    assert clustered_ratio([1.0], [0.0], ["a"]) is None
    assert clustered_ratio([1.0, 0.0], [1.0, 0.0], ["a", "b"]) == [1.0, 1.0, 1.0]
