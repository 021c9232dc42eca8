"""What faces are learnt from and judged by: whom an emoji shows, voices that are moved, who is kept for the test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from eval.faces import accuracy
from training.corpora.sounds.clips import SPEECH_RATE
from training.faces import __main__ as builder
from training.faces import speakers
from training.faces.children import Move, adult_move, by_grains, by_spectrum, child_move, median_pitch
from training.faces.portraits import VENDORS, Person, person_of
from training.judges import faces as judge


@pytest.mark.parametrize(
    ("hexcode", "person"),
    [
        ("1F467", Person("female", "child", "", True)),
        ("1F466-1F3FF", Person("male", "child", "dark", True)),
        ("1F9D2-1F3FB", Person("", "child", "light", True)),
        ("1F469-1F3FD-200D-1F9B0", Person("female", "adult", "medium", True)),
        ("1F468-200D-1F680", Person("male", "adult", "", False)),
        ("1F9D4-1F3FC-200D-2642", Person("male", "adult", "medium-light", True)),
        ("1F64B-200D-2640", Person("female", "adult", "", False)),
    ],
)
def test_an_emoji_shows_whom_its_code_points_say(hexcode: str, person: Person) -> None:
    assert person_of(hexcode) == person


@pytest.mark.parametrize(
    "hexcode",
    [
        "1F436",  # a dog
        "1F469-200D-2764-200D-1F468",  # a couple
        "1F468-1F3FB-200D-1F91D-200D-1F468-1F3FC",  # two people of two tones
        "1F468-200D-1F469-200D-1F467",  # a family
        "1F469-200D-1F9BD",  # a whole body
        "1F469-200D-1F9B2",  # a bald head
        "1F3FB",  # a tone alone
    ],
)
def test_what_is_no_single_head_is_left_out(hexcode: str) -> None:
    assert person_of(hexcode) is None


def test_a_woman_with_a_beard_is_no_plain_face() -> None:
    found = person_of("1F9D4-200D-2640")
    assert found is not None and not found.plain


def vowel(pitch: float, formants: tuple[float, ...] = (1000.0,)) -> NDArray[np.float32]:
    """Return a second and a half of a vowel: pulses through resonances."""
    wave = np.zeros(3 * SPEECH_RATE // 2)
    wave[(np.arange(int(1.5 * pitch)) * SPEECH_RATE / pitch).astype(int)] = 1.0
    for frequency in formants:
        radius = np.exp(-np.pi * 90 / SPEECH_RATE)
        poles = (2 * radius * np.cos(2 * np.pi * frequency / SPEECH_RATE), -(radius**2))
        out = np.zeros_like(wave)
        for k in range(len(wave)):
            out[k] = wave[k] + poles[0] * out[k - 1] + poles[1] * out[k - 2]
        wave = out
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)


def formant(wave: NDArray[np.float32]) -> float:
    """Return where the middle of the power lies, in Hz."""
    power = np.abs(np.fft.rfft(wave[2000:18000] * np.hanning(16000))) ** 2  # bins of 1 Hz
    return float((np.arange(len(power)) * power).sum() / power.sum())


@pytest.mark.parametrize("way", [by_spectrum, by_grains])
def test_pitch_and_formants_move_apart(way: object) -> None:
    wave = vowel(110.0)
    assert median_pitch(wave) == pytest.approx(110, rel=0.03)
    moved = way(wave, Move(2.4, 1.3))  # type: ignore[operator]
    assert abs(len(moved) - len(wave)) < 0.02 * len(wave)  # as long as before
    assert median_pitch(moved) == pytest.approx(264, rel=0.06)
    assert formant(moved) / formant(wave) == pytest.approx(1.3, abs=0.12)
    lower = way(wave, Move(1.0, 0.8))  # type: ignore[operator]
    assert median_pitch(lower) == pytest.approx(110, rel=0.04)
    assert formant(lower) / formant(wave) == pytest.approx(0.8, abs=0.1)


def test_children_lie_above_adults() -> None:
    generator = np.random.default_rng(0)
    for pitch, gender in ((110.0, "male"), (210.0, "female")) * 20:
        child, adult = child_move(pitch, gender, generator), adult_move(generator)
        assert 240 <= pitch * child.pitch <= 335 and 1.1 < child.formants < 1.45
        assert 0.85 < adult.pitch < 1.15 and 0.9 < adult.formants < 1.1
    assert child_move(300.0, "female", generator).pitch >= 1.05


def test_nothing_voiced_has_no_pitch() -> None:
    assert median_pitch(np.random.default_rng(0).normal(0, 0.1, SPEECH_RATE).astype(np.float32)) == 0.0


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speakers, "_spoken", lambda speaker: iter([vowel(200.0)] * 2))
    monkeypatch.setattr(speakers, "by_grains", lambda wave, move: wave + 1)
    monkeypatch.setattr(speakers, "by_spectrum", lambda wave, move: wave - 1)
    monkeypatch.setattr(speakers, "median_pitch", lambda wave: 200.0)


def test_children_of_the_test_are_made_in_another_way(spoken: None) -> None:
    def made(split: str) -> list[speakers.Utterance]:
        return list(speakers.utterances(speakers.Speaker("x", "female", "adult", split, True, 2)))

    train, test = made("train"), made("test")
    assert [one.how for one in train] == ["real", "made child", "real", "made child", "moved adult"]
    assert [one.age for one in test] == ["adult", "child", "adult", "child", "adult"]
    assert float(train[1].waveform.max()) <= 0 < 0.5 < float(test[1].waveform.min() + 0.2)
    child = speakers.Speaker("y", "male", "child", "test", True, 2)
    assert [one.how for one in speakers.utterances(child)] == ["real", "real"]


def test_no_voice_is_in_two_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speakers, "espeak_genders", lambda: {name: "female" for name in speakers.VARIANTS})
    found = speakers.speakers()
    assert len({one.name for one in found}) == len(found)
    heard = {one.name.split("+")[-1] for one in found if one.split == "train"}
    later = {one.name.split("+")[-1] for one in found if one.split != "train"}
    assert not heard & later  # of espeak-ng the variant is who speaks
    engines = {one.name.split(":")[0] for one in found if one.split == "train"}
    assert not engines & {"pico", "piper"} and not any(name.startswith("voice_") for name in heard)


def test_the_judge_and_the_generator_share_no_vendor(tmp_path: Path) -> None:
    judged = {vendor.source for vendor in VENDORS} - set(builder.DRAWN_BY)
    assert set(builder.DRAWN_BY) <= {vendor.source for vendor in VENDORS} and len(judged) == 8
    assert set(judge._LEFT_OUT) <= judged


def test_kinds_of_people() -> None:
    assert builder.kind_of("female", "child") == "girl" and builder.kind_of("male", "adult") == "man"
    assert builder.kind_of("", "child") == ""


def test_accuracy_weighs_both_values_alike_and_draws_speakers_whole() -> None:
    high = np.array([False] * 8 + [True] * 2)
    said = np.array([False] * 8 + [False, True])
    found = accuracy(said, high, np.array(["a", "b"] * 5))
    assert found["accuracy"] == 75.0 and found["each"] == [100.0, 50.0]
    low, top = found["interval"]
    assert low == 50.0 and top == 100.0  # a knows one value right, b the other


def test_a_judge_reads_a_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(200, 6)).astype(np.float32)
    high = rows[:, 2] > 0
    weights, bias = judge._fitted(rows, high, np.array(["one"] * 120 + ["two"] * 80), 0.01)
    assert np.abs(weights).argmax() == 2
    assert judge._balanced(rows @ weights + np.float32(bias), high) > 0.95
    few = high.copy()
    few[:] = False
    few[:10] = True  # ten of one kind weigh as much as all others
    shifted = rows + 3 * few[:, None].astype(np.float32) * np.eye(6, dtype=np.float32)[4]
    weights, bias = judge._fitted(shifted, few, np.array(["one"] * 200), 0.01)
    assert judge._balanced(shifted @ weights + np.float32(bias), few) > 0.9
