from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from embedspace.calibration.fit import fit_pair
from embedspace.calibration.model import PairCalibration
from embedspace.train.calibrate import RIDGE, Anchored, calibrate


def around_concepts(noise: float, count: int, seed: int, shift: float = 0.0, concepts: int = 10) -> Anchored:
    """Unit rows around `concepts` directions that all modalities share, all of them shifted towards one more."""
    directions = np.eye(concepts, 24, dtype=np.float32)
    rng = np.random.default_rng(seed)
    which = np.arange(count) % concepts
    rows = directions[which] + noise * rng.standard_normal((count, 24)).astype(np.float32)
    rows[:, 23] += shift
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Anchored(rows.astype(np.float32), np.array([f"concept {k}" for k in which]))


def cosines(a: Anchored, b: Anchored) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    return a.vectors @ b.vectors.T, a.concepts[:, None] == b.concepts[None, :]


def test_calibrate_measures_means_and_every_ordered_pair() -> None:
    given = {"image": around_concepts(0.2, 60, 0, shift=0.5), "text": around_concepts(0.1, 30, 1)}
    found = calibrate(given)
    assert set(found.pairs) == {"image>image", "image>text", "text>image", "text>text"}
    for modality, anchored in given.items():
        np.testing.assert_allclose(found.means[modality], anchored.vectors.mean(axis=0), atol=1e-6)
        assert found.means[modality].dtype == np.float32
    scores, same = cosines(given["image"], given["text"])
    # fewer background pairs than the sample takes: the fit is on all of them
    expected = fit_pair(scores[same], scores[~same], ridge=RIDGE)
    for name in ("mean", "std", "slope", "intercept"):
        assert getattr(found.pairs["image>text"], name) == pytest.approx(getattr(expected, name), rel=1e-4)
    assert found.pairs["text>image"].slope == pytest.approx(expected.slope, rel=1e-4)


def test_calibrate_leaves_an_item_and_its_copies_out_of_its_own_modality() -> None:
    sounds = around_concepts(0.3, 40, 2)
    again = np.array([f"{name} again" for name in sounds.concepts])  # the same sounds under other names
    doubled = Anchored(np.concatenate([sounds.vectors, sounds.vectors]), np.concatenate([sounds.concepts, again]))
    scores, same = cosines(doubled, doubled)
    np.fill_diagonal(same, False)
    other = scores[~same & (scores < 0.9999)]
    assert len(other) == 80 * 80 - same.sum() - 80 - 80  # neither an item with itself nor with its copy
    expected = fit_pair(scores[same], other, ridge=RIDGE)
    found = calibrate({"audio": doubled}).pairs["audio>audio"]
    assert found.mean == pytest.approx(expected.mean, abs=1e-5)
    assert found.slope == pytest.approx(expected.slope, rel=1e-4)


def test_calibrate_tells_matches_from_others() -> None:
    given = {"image": around_concepts(0.1, 60, 3), "text": around_concepts(0.1, 60, 4)}
    found = calibrate(given)
    scores, same = cosines(given["image"], given["text"])
    ratio = found.log_likelihood_ratio(scores, "image", "text")
    assert (ratio[same] > 0).mean() > 0.95
    assert (ratio[~same] < 0).mean() > 0.95


def test_calibrate_keeps_the_default_where_too_few_pairs_match() -> None:
    given = {"image": around_concepts(0.2, 60, 5), "speech": around_concepts(0.2, 3, 6)}
    found = calibrate(given)
    assert "speech>speech" not in found.pairs
    assert "image>speech" not in found.pairs
    assert found.pair("image", "speech") == PairCalibration()
    assert "image>image" in found.pairs


def test_calibrate_keeps_the_default_where_nothing_differs() -> None:
    assert calibrate({"text": around_concepts(0.2, 30, 7, concepts=1)}).pairs == {}


def test_calibrate_leaves_a_modality_without_items_out() -> None:
    empty = Anchored(np.empty((0, 24), np.float32), np.array([], dtype=str))
    found = calibrate({"image": around_concepts(0.2, 60, 8), "audio": empty})
    assert set(found.means) == {"image"}
    assert set(found.pairs) == {"image>image"}


def test_calibrate_is_determined_by_its_seed() -> None:
    given = {"image": around_concepts(0.3, 700, 9), "text": around_concepts(0.3, 700, 10)}
    first, again, other = calibrate(given, 1), calibrate(given, 1), calibrate(given, 2)
    assert first.to_json() == again.to_json()
    assert first.to_json() != other.to_json()
