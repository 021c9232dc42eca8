"""Voices are converted: pitch, content, nearest frames, the parts that a recording is drawn in, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from embedspace.errors import ArgumentError, EmptyMediaError, InputError
from embedspace.generate.conversion import Reference, VoiceConverter, converter
from embedspace.generate.conversion.content import ContentEncoder, discriminant
from embedspace.generate.conversion.decoder import DecoderConfig, VoiceDecoder
from embedspace.generate.conversion.frames import (
    VoiceFrames,
    fitting_warp,
    frames_of,
    levelled,
    matched_envelope,
    nearest_frames,
    reference_sums,
    warped,
)
from embedspace.generate.conversion.pitch import harmonics, pitch_of
from embedspace.generate.conversion.reference import speech_in
from embedspace.generate.conversion.vocoder import Vocoder, VocoderConfig
from embedspace.generate.spectrogram import SpectrogramConfig, to_spectrogram
from embedspace.generate.speech.voices import SAMPLE_RATE, is_reference, speak
from embedspace.media.resample import resample_waveform

RATE = 16_000
SIZE = SpectrogramConfig()
Samples = NDArray[np.float32]
needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs a voice")


def tone(pitch: NDArray[np.float64]) -> Samples:
    """Return harmonics of a pitch per sample."""
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    return np.sum([np.sin(k * phase) / k for k in range(1, 15)], axis=0).astype(np.float32) * 0.2


def said(text: str, voice: str) -> Samples:
    return resample_waveform(speak(text, voice)[0], SAMPLE_RATE, RATE)


def voice_frames(count: int, seed: int, size: int = 4) -> VoiceFrames:
    random = torch.Generator().manual_seed(seed)
    return VoiceFrames(
        torch.rand(count, SIZE.n_mels, generator=random) - 0.5,
        torch.randn(count, size, generator=random),
        np.where(np.arange(count) % 3 > 0, 120.0 + 10 * seed, 0.0).astype(np.float32),
        torch.rand(count, generator=random),
    )


def small_converter() -> VoiceConverter:
    """Return a converter whose networks are small and untrained, its decoder's last layer included."""
    torch.manual_seed(0)
    decoder = VoiceDecoder(DecoderConfig(content=4, channels=16, hidden=16, blocks=2), SIZE)
    torch.nn.init.normal_(decoder.head.weight, std=0.05)
    content = ContentEncoder(4)
    content.matrix.data = torch.randn(1024, 4) * 0.05
    return VoiceConverter(content, decoder, Vocoder(VocoderConfig(16, 16, 2)))


def test_pitch_follows_a_rising_tone_and_leaves_noise_out() -> None:
    rising = 110.0 * 2 ** (np.arange(2 * RATE) / RATE / 2)
    noise = np.random.default_rng(0).normal(0, 0.05, RATE).astype(np.float32)
    found = pitch_of(np.concatenate([tone(rising), noise, np.zeros(RATE, np.float32)]), SIZE)
    assert len(found) == 4 * RATE // SIZE.hop_length
    inside = slice(4, 2 * RATE // SIZE.hop_length - 4)
    wanted = rising[:: SIZE.hop_length][inside]
    assert np.abs(found[inside] / wanted - 1).max() < 0.03
    assert (found[2 * RATE // SIZE.hop_length + 4 :] > 0).mean() < 0.1


def test_pitch_of_many_frames_is_that_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = tone(np.full(RATE, 150.0))
    whole = pitch_of(clip, SIZE)
    monkeypatch.setattr("embedspace.generate.conversion.pitch._BLOCK", 7)
    assert np.array_equal(pitch_of(clip, SIZE), whole)
    assert len(pitch_of(clip[:100], SIZE)) == 0


def test_harmonics_lie_where_a_tone_has_them() -> None:
    pitch = np.array([0.0, 180.0], np.float32)
    found = harmonics(pitch, SIZE)
    assert found.shape == (SIZE.n_mels, 2) and not found[:, 0].any()
    real = to_spectrogram(torch.from_numpy(tone(np.full(RATE, 180.0)))[None], SIZE)[0][:20, 30]
    other = to_spectrogram(torch.from_numpy(tone(np.full(RATE, 135.0)))[None], SIZE)[0][:20, 30]

    def alike(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(np.corrcoef(np.diff(a.numpy()), np.diff(b.numpy()))[0, 1])

    assert alike(found[:20, 1], real) > 0.8 > alike(found[:20, 1], other) + 0.3


def test_the_discriminant_has_unit_variance_within_and_parts_labels() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 400)
    speaker = random.normal(0, 5.0, (1200, 1)) * np.array([[0.0, 1.0, 0.0, 0.0]])  # loud, and says nothing of labels
    rows = (np.eye(4)[labels] * 3 + random.normal(0, 0.5, (1200, 4)) + speaker).astype(np.float32)
    mean, matrix = discriminant(rows, labels, 2, shrink=0.0)
    made = (rows - mean) @ matrix
    within = np.concatenate([made[labels == k] - made[labels == k].mean(axis=0) for k in range(3)])
    assert np.allclose(within.T @ within / len(within), np.eye(2), atol=0.02)
    centres = np.stack([made[labels == k].mean(axis=0) for k in range(3)])
    guessed = np.square(made[:, None] - centres).sum(axis=2).argmin(axis=1)
    assert (guessed == labels).mean() > 0.99


def test_nearest_frames_are_those_of_a_plain_search() -> None:
    reference, content = voice_frames(50, 1), voice_frames(9, 2).content
    mean, cosine = nearest_frames(content, reference, 4)
    for k, row in enumerate(content.numpy()):
        others = reference.content.numpy()
        cosines = others @ row / np.linalg.norm(others, axis=1) / np.linalg.norm(row)
        best = np.argsort(-cosines)[:4]
        assert np.allclose(mean[k], reference.mel.numpy()[best].mean(axis=0), atol=1e-6)
        assert float(cosine[k]) == pytest.approx(cosines[best].mean(), abs=1e-5)
    few, _ = nearest_frames(content, voice_frames(2, 3), 4)  # a reference of fewer frames than neighbours
    assert few.shape == mean.shape


def test_a_vocoder_makes_a_hop_of_samples_per_frame() -> None:
    torch.manual_seed(0)
    vocoder = Vocoder(VocoderConfig(16, 16, 2))
    frames = torch.rand(2, SIZE.n_mels, 31)
    made = vocoder(frames)
    assert made.shape == (2, 31 * SIZE.hop_length) and bool(made.isfinite().all())
    made.square().mean().backward()
    assert all(one.grad is not None and bool(one.grad.isfinite().all()) for one in vocoder.parameters())


def test_parts_of_a_recording_are_drawn_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    made, source, voice = small_converter(), voice_frames(300, 1), voice_frames(80, 2)
    frames = made.draw(source, voice)
    sound = made.heard(frames)
    monkeypatch.setattr(converter, "_PART", 70)
    assert torch.allclose(made.draw(source, voice), frames, atol=1e-4)
    assert len(sound) == 300 * SIZE.hop_length and np.abs(made.heard(frames) - sound).max() < 0.02
    monkeypatch.setattr(converter, "_CONTEXT", 0)  # what the context is for
    assert not torch.allclose(made.draw(source, voice), frames, atol=1e-4)


def test_the_melody_takes_the_height_of_the_reference() -> None:
    source, voice = voice_frames(90, 1), voice_frames(90, 9)
    moved = converter._pitch(source, voice)
    assert np.array_equal(moved > 0, source.pitch > 0)
    assert np.median(moved[moved > 0]) == pytest.approx(210.0, rel=0.02)


def test_content_does_not_depend_on_what_is_far_away() -> None:
    clip = said("the rain falls on the roof of the old house", "espeak:en-us")
    long = np.concatenate([clip, *[np.zeros(RATE, np.float32)] * 12, clip])
    made = small_converter().content
    rows = made.layers(long)
    assert len(rows) == -(-len(long) // 320)
    assert torch.isfinite(rows).all()
    frames = frames_of(clip, made, SIZE)
    assert len(frames) == len(clip) // SIZE.hop_length == len(frames.pitch) == len(frames.content)
    louder = frames_of(clip * 0.1, made, SIZE)
    assert torch.allclose(louder.mel, frames.mel, atol=1e-3)  # the level of a recording is no voice


def test_sums_of_a_reference_are_those_of_its_loud_frames() -> None:
    frames = voice_frames(60, 1)
    frames.loudness[30:] = -1.5
    sums = reference_sums(frames)
    assert torch.allclose(sums[: SIZE.n_mels], frames.mel[:30].mean(dim=0), atol=1e-6)
    assert float(sums[-1]) == pytest.approx((np.log(130.0) - np.log(150.0)) / 0.25, abs=1e-4)


@needs_espeak
def test_speech_is_told_from_music_and_silence(tmp_path: Path) -> None:
    clip = said("the rain falls on the roof of the old house and nobody is there to hear it", "espeak:en-us")
    assert speech_in(clip).speech > 2.0
    music = tone(np.repeat([262.0, 330.0, 392.0, 523.0], RATE))
    assert speech_in(music).speech < 0.5
    made = small_converter()
    with pytest.raises(InputError, match="heard in it; a reference is a recording of one person who speaks"):
        made.reference(music)
    with pytest.raises(InputError, match=r"0\.\d s of speech; a reference has at least 3 s|no speech is heard"):
        made.reference(clip[: int(0.9 * RATE)])
    found = made.reference(clip)
    assert isinstance(found, Reference) and len(found.sha256) == 64
    assert made.reference(clip).sha256 == found.sha256 != made.reference(clip[:-1]).sha256
    with pytest.raises(InputError, match="what is converted is a recording of one person"):
        made.convert(music, found)
    with pytest.raises(EmptyMediaError):
        import soundfile

        soundfile.write(tmp_path / "silent.wav", np.zeros(4 * RATE), RATE)
        made.reference(tmp_path / "silent.wav")


def test_a_voice_is_a_recording_or_one_that_is_installed(tmp_path: Path) -> None:
    (tmp_path / "ref.wav").write_bytes(b"RIFF")
    assert is_reference(str(tmp_path / "ref.wav"))
    assert not is_reference(None) and not is_reference("piper:joe") and not is_reference("espeak:en-gb-scotland+f4")
    with pytest.raises(ArgumentError, match=r"missing\.wav: no such file; give a recording of somebody who agreed"):
        is_reference(str(tmp_path / "missing.wav"))
    with pytest.raises(ArgumentError, match="a folder"):
        is_reference(str(tmp_path))


def test_loudness_is_judged_by_the_loud_half() -> None:
    clip = tone(np.full(RATE, 150.0))
    quiet = np.concatenate([clip * 0.2, np.zeros(RATE // 2, np.float32)])
    assert np.sqrt(np.mean(np.square(levelled(quiet)[:RATE]))) == pytest.approx(
        np.sqrt(np.mean(np.square(levelled(clip)))), rel=0.1
    )


def test_an_envelope_has_the_mean_and_deviation_of_the_reference() -> None:
    source, voice = voice_frames(200, 1), voice_frames(150, 2)
    source.loudness[:] = 0.5
    source.loudness[:20] = -1.5  # silence takes no part
    made = matched_envelope(source, voice, 1.0)
    assert made.shape == source.mel.shape
    smooth = matched_envelope(voice, voice, 1.0)  # matched with itself it is its own envelope
    loud = voice.is_loud
    assert torch.allclose(made[source.is_loud].mean(dim=0), smooth[loud].mean(dim=0), atol=1e-3)
    assert torch.allclose(made[source.is_loud].std(dim=0), smooth[loud].std(dim=0), rtol=0.05)


def test_the_fitting_warp_undoes_a_throat() -> None:
    bands = torch.arange(SIZE.n_mels, dtype=torch.float32)
    places = 15 + 20 * torch.rand(120, generator=torch.Generator().manual_seed(0))
    mel = torch.exp(-(((bands[None] - places[:, None]) / 4) ** 2)) - 0.5  # one hump per frame
    voice = VoiceFrames(mel, torch.zeros(120, 4), np.full(120, 150.0, np.float32), torch.zeros(120))
    other = warped(voice, 1 / 1.16)
    assert other.pitch[0] == pytest.approx(150 / 1.16)
    assert fitting_warp(other, voice, voice.mel) == pytest.approx(1.16)
    assert fitting_warp(voice, voice, voice.mel) == 1.0


@needs_espeak
def test_what_ships_speaks_in_the_voice_of_the_reference() -> None:
    """The network that judges takes no part in converting."""
    from embedspace.encoders.towers import create_backbone

    made = VoiceConverter.from_pretrained()
    clip = said("put the bread into the oven and wait for half an hour", "espeak:en-us+m3")
    other = said("the rain falls on the roof of the old house and nobody is there to hear it", "espeak:en-us+f5")
    voice = made.reference(other)
    result = made.convert(clip, voice)
    assert made.sample_rate == RATE and len(result) == len(clip) // SIZE.hop_length * SIZE.hop_length
    assert np.isfinite(result).all() and np.abs(result).max() == pytest.approx(0.9, abs=1e-3)
    judge = create_backbone("resemblyzer").eval()

    def row(sound: Samples) -> torch.Tensor:
        with torch.inference_mode():
            return torch.nn.functional.normalize(judge(judge.preprocess(sound)).mean(dim=0), dim=0)

    wanted = row(said("a quick brown fox jumps over the lazy dog in the morning", "espeak:en-us+f5"))
    before, after = float(row(clip) @ wanted), float(row(result) @ wanted)
    assert after > before + 0.1 and float(row(result) @ row(clip)) < after
    heights = [np.median(found[found > 0]) for found in (pitch_of(one, SIZE) for one in (result, other))]
    assert heights[0] == pytest.approx(heights[1], rel=0.1)
    assert np.array_equal(made.convert(clip, voice), result)  # nothing is drawn at random
