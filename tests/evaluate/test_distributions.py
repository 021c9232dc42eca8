from __future__ import annotations

import itertools

import numpy as np
import pytest

from embedspace.errors import InputError
from embedspace.evaluate.generation.measures.distributions import (
    copy_threshold,
    diversity,
    frechet_distance,
    kernel_distance,
    near_copies,
    precision_recall_density_coverage,
)


def _brute_kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / len(x) + 1) ** 3)

    n, m = len(a), len(b)
    own_a = sum(kernel(a[i], a[j]) for i, j in itertools.permutations(range(n), 2)) / (n * (n - 1))
    own_b = sum(kernel(b[i], b[j]) for i, j in itertools.permutations(range(m), 2)) / (m * (m - 1))
    return own_a + own_b - 2 * sum(kernel(x, y) for x in a for y in b) / (n * m)


def test_kernel_distance_is_that_of_loops(rng: np.random.Generator) -> None:
    a, b = rng.standard_normal((7, 3)), rng.standard_normal((5, 3)) + 0.5
    value, error = kernel_distance(a, b)
    assert value == pytest.approx(_brute_kernel_distance(a, b))
    parts_a = [_brute_kernel_distance(np.delete(a, i, axis=0), b) for i in range(7)]
    parts_b = [_brute_kernel_distance(a, np.delete(b, j, axis=0)) for j in range(5)]
    variance = 6 * np.var(parts_a) + 4 * np.var(parts_b)  # the jackknife's (n - 1) / n times the sum of squares
    assert error == pytest.approx(np.sqrt(variance))


def test_kernel_distance_is_unbiased_and_sees_a_shift(rng: np.random.Generator) -> None:
    pairs = [rng.standard_normal((2, 40, 4)) for _ in range(60)]
    same = np.array([kernel_distance(a, b)[0] for a, b in pairs])
    assert abs(same.mean()) < 3 * same.std() / np.sqrt(len(same))
    assert (same < 0).any()
    value, error = kernel_distance(pairs[0][0], pairs[0][1] + 1.0)
    assert value > 2 * error


def test_balls_by_hand() -> None:
    real = np.array([[0.0], [1.0], [2.0], [10.0]])
    made = np.array([[0.5], [1.5], [5.0], [50.0]])
    # k = 1: real reaches 1, 1, 1 and 8; made reaches 1, 1, 3.5 and 45
    found = precision_recall_density_coverage(real, made, 1)
    assert found["precision"] == 3 / 4  # 0.5, 1.5, and 5 within 8 of 10
    assert found["recall"] == 1.0  # 0 and 1 near 0.5, 2 near 1.5, 10 within 45 of 50
    assert found["density"] == (1 + 2 + 1 + 1) / 4  # balls of 0, 1, 2 and 10 hold 0.5; both; 1.5; 5
    assert found["coverage"] == 1.0


def test_balls_against_loops(rng: np.random.Generator) -> None:
    real, made, k = rng.standard_normal((20, 3)), rng.standard_normal((15, 3)) * 0.7, 3

    def radius(rows: np.ndarray, i: int) -> float:
        return sorted(np.linalg.norm(rows - rows[i], axis=1))[k]  # the item itself is the first

    inside = [[np.linalg.norm(m - r) <= radius(real, i) for m in made] for i, r in enumerate(real)]
    reached = [[np.linalg.norm(m - r) <= radius(made, j) for j, m in enumerate(made)] for r in real]
    found = precision_recall_density_coverage(real, made, k)
    assert found["precision"] == pytest.approx(np.mean(np.any(inside, axis=0)))
    assert found["recall"] == pytest.approx(np.mean(np.any(reached, axis=1)))
    assert found["density"] == pytest.approx(np.sum(inside) / (k * 15))
    assert found["coverage"] == pytest.approx(np.mean(np.any(inside, axis=1)))


def test_frechet_distance_in_closed_form(rng: np.random.Generator) -> None:
    a, b = rng.standard_normal((400, 1)) * 2 + 1, rng.standard_normal((300, 1)) - 1
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected)
    wide = rng.standard_normal((50, 6))
    assert frechet_distance(wide, wide) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(wide, wide + 2.0) == pytest.approx(24.0)
    scaled = frechet_distance(wide, 3.0 * (wide - wide.mean(axis=0)) + wide.mean(axis=0))
    assert scaled == pytest.approx(4.0 * np.trace(np.cov(wide, rowvar=False)))


def test_diversity_is_the_mean_cosine_distance_of_pairs() -> None:
    right_angle, alone = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]), np.ones((1, 2))
    found = diversity([right_angle, np.ones((3, 2)), alone])
    assert found[:2] == pytest.approx([2 / 3, 0.0])
    assert np.isnan(found[2])


def test_of_held_out_things_the_share_asked_for_are_near_copies() -> None:
    held = np.arange(100) / 100
    threshold = copy_threshold(held, 0.05)
    assert near_copies(held, threshold).mean() == 0.05
    assert near_copies(np.array([0.2, 0.99]), threshold).tolist() == [False, True]


def test_wrong_features_are_refused() -> None:
    with pytest.raises(InputError, match="one D"):
        kernel_distance(np.zeros((5, 2)), np.zeros((5, 3)))
    with pytest.raises(InputError, match="at least 6 items"):
        precision_recall_density_coverage(np.zeros((9, 2)), np.zeros((5, 2)), 5)
    with pytest.raises(InputError, match="at least 2"):
        frechet_distance(np.zeros((1, 2)), np.zeros((5, 2)))
