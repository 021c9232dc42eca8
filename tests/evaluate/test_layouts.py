"""What near-copies are aligned by: a disguised copy is nearer to what it was made of than to anything else."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from embedspace.evaluate.generation.measures.copies import aligned_likeness
from embedspace.evaluate.generation.measures.layouts import (
    PICTURE_REACH,
    SOUND_REACH,
    disguised_picture,
    disguised_sound,
    picture_layouts,
    sound_layouts,
)


def drawing(seed: int) -> np.ndarray:
    dice = np.random.default_rng(seed)
    paper = Image.new("RGB", (96, 96), (255, 255, 255))
    draw = ImageDraw.Draw(paper)
    for _ in range(6):
        x, y, wide, high = dice.integers(8, 60, 2).tolist() + dice.integers(6, 28, 2).tolist()
        draw.ellipse((x, y, x + wide, y + high), fill=tuple(dice.integers(0, 200, 3).tolist()))
    return np.asarray(paper)


def sound(seed: int) -> np.ndarray:
    dice = np.random.default_rng(seed)
    tones = np.repeat(dice.uniform(200, 3000, 10), 3200)
    return (0.5 * np.repeat(dice.random(10), 3200) * np.sin(2 * np.pi * tones * np.arange(32_000) / 16_000)).astype(
        "f4"
    )


def test_a_disguised_picture_is_nearest_to_its_own() -> None:
    pictures = [drawing(seed) for seed in range(12)]
    known = [picture_layouts(picture)[0] for picture in pictures]
    for number, picture in enumerate(pictures):
        copy = disguised_picture(picture, number)
        assert copy.shape == picture.shape and copy.dtype == np.uint8
        alike = aligned_likeness(picture_layouts(copy), known, PICTURE_REACH)
        assert alike.argmax() == number and alike.max() > 0.8


def test_a_mirrored_picture_is_a_copy() -> None:
    picture = drawing(3)
    alike = aligned_likeness(picture_layouts(picture[:, ::-1]), [picture_layouts(picture)[0]], PICTURE_REACH)
    assert alike[0] > 0.99


def test_a_disguised_sound_is_nearest_to_its_own() -> None:
    sounds = [sound(seed) for seed in range(8)]
    known = [sound_layouts(waveform, 16_000)[0] for waveform in sounds]
    assert {layout.shape for layout in known} == {(40, 104)}
    for number, waveform in enumerate(sounds):
        copy = disguised_sound(waveform, number)
        assert len(copy) == len(waveform)
        alike = aligned_likeness(sound_layouts(copy, 16_000), known, SOUND_REACH)
        assert alike.argmax() == number


def test_silence_and_a_click_have_layouts_too() -> None:
    assert not sound_layouts(np.zeros(100, np.float32), 16_000)[0].any()
    click = np.zeros(8000, np.float32)
    click[4000] = 1.0
    assert sound_layouts(click, 16_000)[0].shape == (40, 104)
