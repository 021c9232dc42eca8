"""Near-copies by features and by alignment: shifted, scaled, mirrored and delayed copies are found, others are not."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from embedspace.errors import InputError
from embedspace.evaluate.generation.measures.copies import CopyIndex, aligned_likeness, normalised


def drawing(rng: np.random.Generator) -> np.ndarray:
    """A smooth (48, 48) drawing with white around it."""
    small = rng.random((6, 6)).astype(np.float32)
    inner = np.asarray(Image.fromarray(small).resize((36, 36), Image.Resampling.BICUBIC))
    return np.pad(inner, 6)


def test_a_copy_is_alike_and_another_drawing_is_not(rng: np.random.Generator) -> None:
    one, other = drawing(rng), drawing(rng)
    same, different = aligned_likeness([one], [one, other], (8, 8))
    assert same == pytest.approx(1.0, abs=1e-5)
    assert different < 0.9


def test_a_shift_is_undone_within_reach_and_not_beyond(rng: np.random.Generator) -> None:
    layout = rng.random((20, 30)).astype(np.float32)
    moved = np.roll(np.pad(layout, 6), (3, -4), (0, 1))
    still = np.pad(layout, 6)
    assert aligned_likeness([moved], [still], (4, 4))[0] == pytest.approx(1.0, abs=1e-4)
    assert aligned_likeness([moved], [still], (1, 1))[0] < 0.5
    # by hand, without the Fourier transform: one row up is the correlation of what then lies on one another
    a, b = normalised(moved, (1, 0)), normalised(still, (1, 0))
    by_hand = max(float((np.roll(a, step, 0) * b).sum()) for step in (-1, 0, 1))
    assert aligned_likeness([moved], [still], (1, 0))[0] == pytest.approx(by_hand, abs=1e-5)


def test_the_best_of_the_variants_counts(rng: np.random.Generator) -> None:
    layout = drawing(rng)
    mirrored = layout[:, ::-1].copy()
    assert aligned_likeness([layout, mirrored], [mirrored], (2, 2))[0] == pytest.approx(1.0, abs=1e-5)
    assert aligned_likeness([layout], [mirrored], (2, 2))[0] < 0.95


def test_brightness_and_contrast_do_not_hide_a_copy_and_blank_is_like_nothing(rng: np.random.Generator) -> None:
    layout = drawing(rng)
    assert aligned_likeness([0.3 * layout + 0.1], [layout], (0, 0))[0] == pytest.approx(1.0, abs=1e-4)
    assert aligned_likeness([np.ones((48, 48), np.float32)], [layout], (4, 4))[0] == 0.0
    assert len(aligned_likeness([layout], [], (4, 4))) == 0
    with pytest.raises(InputError, match="one shape"):
        aligned_likeness([layout], [layout[:40]], (0, 0))


def test_the_index_finds_what_either_measure_finds(rng: np.random.Generator) -> None:
    layouts = np.stack([drawing(rng) for _ in range(40)]).astype(np.float16)
    features = rng.standard_normal((40, 16)).astype(np.float32)
    index = CopyIndex([f"t/{n}" for n in range(40)], features, layouts, (8, 8))
    asked = np.stack([features[3], -features[3]])
    shifted = [np.roll(layouts[3].astype(np.float32), 2, 0), np.roll(layouts[7].astype(np.float32), 2, 1)]
    found = index.nearest(asked, [[picture] for picture in shifted], [[], ["t/7", "elsewhere"]])
    assert found.numbers["features"][0] == 3 and found.likeness["features"][0] == pytest.approx(1.0, abs=1e-5)
    assert found.numbers["aligned"].tolist() == [3, 7]
    assert found.likeness["aligned"] == pytest.approx(1.0, abs=2e-2)
    with pytest.raises(InputError, match="do not match"):
        CopyIndex(["a"], features, layouts, (8, 8))


def test_nothing_is_like_an_index_of_nothing() -> None:
    index = CopyIndex([], np.zeros((0, 4), np.float32), np.zeros((0, 8, 8), np.float16), (1, 1))
    found = index.nearest(np.ones((2, 4), np.float32), [[np.ones((8, 8), np.float32)]] * 2)
    assert found.likeness["features"].tolist() == found.likeness["aligned"].tolist() == [-1.0, -1.0]
