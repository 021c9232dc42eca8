from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from embedspace.train.stage_audio import UCS_CATEGORIES, align_categories


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def sounds(
    assignment: list[int], names: NDArray[np.float32], rng: np.random.Generator, per_class: int = 12
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Sounds of each class, labelled with something like the name of its category."""
    which = np.repeat(np.arange(len(assignment)), per_class)
    logits = 6.0 * np.eye(len(assignment))[which] + rng.standard_normal((len(which), len(assignment)))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = unit(names[np.array(assignment)[which]] + 0.3 * rng.standard_normal((len(which), names.shape[1])))
    return probabilities.astype(np.float32), labels


@pytest.mark.parametrize("classes", [1, 5, 14, 20])
def test_align_categories_recovers_a_known_increasing_assignment(classes: int) -> None:
    rng = np.random.default_rng(classes)
    names = unit(rng.standard_normal((20, 32)))
    assignment = sorted(rng.choice(20, classes, replace=False).tolist())
    probabilities, labels = sounds(assignment, names, rng)
    if classes == 1:  # labels that are all alike tell nothing once their mean is gone
        assert len(align_categories(probabilities, labels, names)) == 1
    else:
        assert align_categories(probabilities, labels, names) == assignment


def test_align_categories_fills_in_a_class_without_sounds_by_its_neighbours() -> None:
    rng = np.random.default_rng(1)
    names = unit(rng.standard_normal((8, 32)))
    assignment = [0, 1, 2, 3, 4, 5, 6, 7]
    probabilities, labels = sounds(assignment, names, rng)
    heard = np.repeat(np.arange(8), 12) != 3
    probabilities[:, 3] = 0.0
    assert align_categories(probabilities[heard], labels[heard], names) == assignment


def test_align_categories_is_the_best_of_all_increasing_assignments() -> None:
    rng = np.random.default_rng(2)
    names = unit(rng.standard_normal((7, 6)))
    probabilities = rng.dirichlet(np.ones(4), 30).astype(np.float32)
    labels = unit(rng.standard_normal((30, 6)))
    centred = names - names.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    centre = probabilities.T @ (labels - labels.mean(axis=0))
    centre /= np.linalg.norm(centre, axis=1, keepdims=True)
    score = centre @ centred.T * np.minimum(probabilities.sum(axis=0), 5.0)[:, None]
    best = max(itertools.combinations(range(7), 4), key=lambda rows: score[range(4), rows].sum())
    assert align_categories(probabilities, labels, names) == list(best)


def test_categories_are_in_alphabetical_order() -> None:
    assert len(UCS_CATEGORIES) == 82
    assert sorted(UCS_CATEGORIES) == list(UCS_CATEGORIES)
    assert len(set(UCS_CATEGORIES)) == 82
