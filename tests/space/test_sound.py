"""Recordings through a space: windows, levels and rates, independence from the batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from embedspace.errors import EmbedspaceError, EmptyMediaError, MediaError, UnknownModalityError
from embedspace.media.write import write_audio
from embedspace.space import EmbeddingSpace
from tests.support.spaces import EMBED_DIM, check_rows, noise, segments_of, spans

RATE = 16_000


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """63 s of noise at 8 kHz, silent from 20 to 41 s."""
    waveform = noise(63, 8000)
    waveform[20 * 8000 : 41 * 8000] = 0.0
    path = tmp_path_factory.mktemp("sounds") / "minute.wav"
    write_audio(path, waveform, 8000)
    return path


# ---- windows


def test_a_minute_becomes_windows_that_say_when(tiny_space: EmbeddingSpace, minute: Path) -> None:
    decoded = tiny_space.decode(minute, "audio", as_modality="audio")
    assert decoded.metadata == {"duration": 63.0}
    assert decoded.nbytes > 9 * 80 * 100 * 4
    found = tiny_space.encode_decoded([decoded])[0]
    heard = [0, 6, 12, 18, 36, 42, 48, 54]  # silence in the middle is left out
    assert spans(found, "audio") == [*((s, s + 6) for s in heard), (60, 63)]
    assert {s.modality for s in found} == {"audio"}


def test_speech_windows_are_twice_as_long_and_end_at_silence(tiny_space: EmbeddingSpace, minute: Path) -> None:
    decoded = tiny_space.decode(minute, "audio")
    optional = [(round(p.start, 2), round(p.end, 2)) for p in decoded.inputs if p.optional]
    assert optional == [(0, 12), (12, 24), (36, 48), (48, 60), (60, 63)]


def test_the_row_of_a_recording_is_the_mean_of_its_windows(tiny_space: EmbeddingSpace) -> None:
    waveform = noise(7)
    windows = segments_of(tiny_space, (waveform, RATE), wanted="audio")
    assert spans(windows, "audio") == [(0, 6), (6, 7)]
    mean = np.mean([s.vector for s in windows], axis=0)
    row = tiny_space.encode_audio(waveform, RATE)
    np.testing.assert_allclose(row[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_a_file_and_its_samples_are_the_same(tiny_space: EmbeddingSpace, tmp_path: Path) -> None:
    waveform = noise(2)
    write_audio(tmp_path / "a.flac", waveform, RATE)
    path = tmp_path / "a.flac"
    rows = tiny_space.encode_audio([path, str(path), waveform], RATE)
    check_rows(rows, 3)
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)
    np.testing.assert_allclose(rows[0], rows[2], atol=1e-3)  # 16 bits in the file


# ---- what a vector depends on


@pytest.mark.parametrize("modality", ["audio", "speech"])
def test_a_sound_does_not_depend_on_what_is_beside_it(tiny_space: EmbeddingSpace, modality: str) -> None:
    waveforms = [noise(s, seed=k) for k, s in enumerate((0.01, 0.7, 3.0, 1.31))]
    encode = getattr(tiny_space, f"encode_{modality}")
    together = encode(waveforms, RATE)
    check_rows(together, 4)
    for k, waveform in enumerate(waveforms):
        np.testing.assert_allclose(encode(waveform, RATE)[0], together[k], atol=1e-5)
    assert np.abs(together[1] - together[2]).max() > 1e-4


@pytest.mark.parametrize("modality", ["audio", "speech"])
def test_a_sound_does_not_depend_on_its_level(tiny_space: EmbeddingSpace, modality: str) -> None:
    rows = getattr(tiny_space, f"encode_{modality}")([noise(1), noise(1) * 0.1], RATE)
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-3)


@pytest.mark.parametrize("modality", ["audio", "speech"])
@pytest.mark.parametrize("seconds", [0.01, 0.0101, 0.02, 0.1, 0.5])
def test_sounds_from_ten_milliseconds(tiny_space: EmbeddingSpace, modality: str, seconds: float) -> None:
    check_rows(getattr(tiny_space, f"encode_{modality}")(noise(seconds), RATE), 1)


@pytest.mark.parametrize("rate", [1000, 8000, 44_100, 48_000, 200_000, 400_000])
def test_sounds_of_any_rate(tiny_space: EmbeddingSpace, rate: int) -> None:
    tone = (0.5 * np.sin(2 * np.pi * 300 * np.arange(rate // 2) / rate)).astype(np.float32)
    check_rows(tiny_space.encode_audio(tone, rate), 1)
    check_rows(tiny_space.encode_speech(tone, rate), 1)


def test_the_rate_changes_little(tiny_space: EmbeddingSpace) -> None:
    times = np.arange(200_000) / 200_000
    tone = sum(np.sin(2 * np.pi * f * times) for f in (220, 450, 900)).astype(np.float32) / 6
    low = tiny_space.encode_audio(tone[:: 200_000 // 40_000], 40_000)
    assert tiny_space.similarity(tiny_space.encode_audio(tone, 200_000), low)[0, 0] > 0.99


@pytest.mark.parametrize("modality", ["audio", "speech"])
@pytest.mark.parametrize(
    ("waveform", "rate", "error"),
    [
        (np.zeros(RATE, np.float32), RATE, EmptyMediaError),
        (np.full(RATE, 1e-7, np.float32), RATE, EmptyMediaError),
        (np.full(RATE, np.nan, np.float32), RATE, MediaError),
        (np.array([0.1, np.inf] * 4000, np.float32), RATE, MediaError),
        (np.array([0.5], np.float32), RATE, EmptyMediaError),
        (np.array([], np.float32), RATE, EmptyMediaError),
        (np.array(["a"] * 4000), RATE, MediaError),
        (noise(1), None, MediaError),
        (noise(1), 100, MediaError),
        (noise(1), 500_000, MediaError),
        # nothing of it is left at the rates of the networks
        ((2e-5 * np.sin(np.pi * 0.9 * np.arange(200_000))).astype(np.float32), 200_000, EmptyMediaError),
    ],
    ids=["silent", "faint", "nan", "inf", "one sample", "no sample", "words", "no rate", "low", "high", "ultrasound"],
)
def test_no_sound_is_an_error(
    tiny_space: EmbeddingSpace, modality: str, waveform: Any, rate: int | None, error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        getattr(tiny_space, f"encode_{modality}")(waveform, rate)
    assert len(str(caught.value)) < 300


def test_what_is_no_waveform_is_an_error(tiny_space: EmbeddingSpace, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF" + b"\0" * 60)
    for wrong in (tmp_path / "none.wav", tmp_path / "bad.wav", str(tmp_path / "none.wav"), [0.1, 0.2], [None]):
        with pytest.raises(EmbedspaceError):
            tiny_space.encode_audio(wrong, RATE)


def test_taken_as_speech_there_are_speech_segments_only(tiny_space: EmbeddingSpace, minute: Path) -> None:
    decoded = tiny_space.decode(minute, "audio", as_modality="speech")
    spoken = [(p.modality, p.start, p.end, p.optional) for p in decoded.inputs]
    assert spoken == [("speech", s, min(s + 12, 63), False) for s in (0, 12, 36, 48, 60)]
    assert [s.modality for s in segments_of(tiny_space, (noise(1), RATE), wanted="speech")] == ["speech"]


def test_a_recording_is_no_image(tiny_space: EmbeddingSpace, minute: Path) -> None:
    with pytest.raises(UnknownModalityError, match="a recording is audio, speech, voice or onset, not 'image'"):
        tiny_space.decode(minute, "audio", as_modality="image")


def test_vectors_carry_no_gradient_and_no_torch(tiny_space: EmbeddingSpace) -> None:
    row = tiny_space.encode_audio(noise(0.5), RATE)
    assert isinstance(row, np.ndarray)
    assert row.shape == (1, EMBED_DIM)
    assert not any(p.requires_grad for p in tiny_space.encoder("audio").parameters())
    assert torch.is_grad_enabled()
