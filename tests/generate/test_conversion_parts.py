"""What a converted voice is made of, part by part: windows of content, pitch, envelopes, the inputs of the network."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from embedspace.generate.conversion import converter
from embedspace.generate.conversion.content import ContentEncoder
from embedspace.generate.conversion.frames import MIDDLE_PITCH, VoiceFrames, matched_envelope, smoothed
from embedspace.generate.conversion.pitch import pitch_of
from tests.generate.test_conversion import RATE, SIZE, small_converter, tone, voice_frames


class Places:
    """Says of each frame at which sample of the recording it stands, and at which of the window."""

    def preprocess(self, piece: torch.Tensor) -> torch.Tensor:
        return piece

    def __call__(self, pieces: torch.Tensor, layers: tuple[int, ...]) -> SimpleNamespace:
        frames = pieces[:, ::320, None]
        inside = torch.arange(frames.shape[1], dtype=torch.float32)[None, :, None]
        return SimpleNamespace(layers=[frames], last=inside)


@pytest.mark.parametrize("seconds", [3.0, 8.0, 8.01, 14.0, 23.7])
def test_every_frame_of_content_is_heard_once_and_with_a_second_around_it(seconds: float) -> None:
    encoder = ContentEncoder(4)
    encoder._backbone.append(Places())  # type: ignore[arg-type]
    count = int(seconds * RATE)
    frames, inside = encoder.layers(np.arange(count, dtype=np.float32)).T.numpy()
    assert frames.tolist() == [320 * k for k in range(-(-count // 320))]
    assert (inside[50:] >= 50).all()
    assert (inside[frames < count - 9 * RATE] < 350).all()


def test_near_contents_are_trusted_and_strange_ones_are_not() -> None:
    trust = converter._trust(torch.tensor([0.3, 0.45, 0.6, 0.75, 0.9]))
    assert torch.allclose(trust, torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]))


def test_envelopes_go_to_the_nearest_frames_where_somebody_speaks() -> None:
    source, near = voice_frames(30, 1), voice_frames(30, 2).mel
    source.loudness[:10], source.loudness[10:] = -1.5, 0.5
    mel = source.mel.T
    moved = converter._nearer(mel, source, near, torch.ones(30, 1))
    assert torch.allclose(smoothed(moved.T)[10:], smoothed(near)[10:], atol=1e-4)
    assert torch.equal(moved[:, :10], mel[:, :10])
    half = converter._nearer(mel, source, near, torch.full((30, 1), 0.5))
    assert torch.allclose(half, (mel + moved) / 2, atol=1e-5)


def test_balanced_frames_have_the_references_mean_and_deviation_band_by_band() -> None:
    source, voice = voice_frames(80, 1), voice_frames(60, 2)
    source.loudness[:20], source.loudness[20:], voice.loudness[:] = -1.5, 0.5, 0.5
    own = 0.8 * source.mel.T - 0.1
    made = converter._balanced(own, source, voice, 1.0)
    assert torch.allclose(made[:, 20:].mean(dim=1), voice.mel.mean(dim=0), atol=0.02)
    assert torch.allclose(made[:, 20:].std(dim=1), voice.mel.std(dim=0), rtol=0.08)
    assert torch.equal(made[:, :20], own[:, :20])  # silence stays
    assert torch.allclose(converter._balanced(own, source, voice, 0.0), own, atol=1e-6)


@pytest.mark.parametrize(("spread", "heard"), [(0.12, 0.12), (0.5, 0.14), (0.01, 0.07)])
def test_a_melody_is_as_lively_as_the_references_within_limits(spread: float, heard: float) -> None:
    def frames(deviation: float) -> VoiceFrames:
        pitch = 150 * np.exp(deviation * np.where(np.arange(40) % 2, 1.0, -1.0))
        return VoiceFrames(torch.zeros(40, SIZE.n_mels), torch.zeros(40, 4), pitch.astype(np.float32), torch.zeros(40))

    moved = converter._pitch(frames(0.1), frames(spread))
    assert float(np.log(moved).std()) == pytest.approx(heard, rel=1e-3)


def test_of_a_long_reference_the_first_minute_is_taken() -> None:
    samples = np.zeros(70 * RATE, np.float32)
    made = small_converter()
    assert len(made._samples(samples, 60.0)) == 60 * RATE and len(made._samples(samples, None)) == 70 * RATE


def test_what_is_loud_and_what_is_the_pitch_of_few_voiced_frames() -> None:
    pitch = np.array([300.0, 300.0, 300.0, 0.0], np.float32)
    frames = VoiceFrames(torch.zeros(4, SIZE.n_mels), torch.zeros(4, 4), pitch, torch.tensor([0.2, -0.7, -0.9, -1.5]))
    assert frames.is_loud.tolist() == [True, True, False, False]
    assert frames.log_pitch == (MIDDLE_PITCH, 0.2)


def test_bands_that_hardly_change_are_not_blown_up() -> None:
    source, voice = voice_frames(200, 1), voice_frames(150, 2)
    source.loudness[:] = 0.0
    flat = VoiceFrames(source.mel * 0.05, source.content, source.pitch, source.loudness)
    made, own = matched_envelope(flat, voice, 1.0), smoothed(flat.mel)
    assert torch.allclose(made.std(dim=0), 2.5 * own.std(dim=0), rtol=0.02)


def test_the_network_is_told_of_no_height_where_there_is_no_voice() -> None:
    made, source, voice = small_converter().decoder, voice_frames(9, 1), voice_frames(20, 2)
    inputs = made.inputs(source.content, source.pitch, source.loudness, source.mel, voice)
    voiced, height, loudness, _ = inputs[-4:]
    assert torch.equal(voiced > 0, torch.from_numpy(source.pitch > 0)) and torch.equal(loudness, source.loudness)
    wanted = (np.log(130.0) - np.log(150.0)) / 0.25
    assert torch.allclose(height, torch.where(voiced > 0, wanted, 0.0).float(), atol=1e-5)


def test_what_is_faint_beside_a_voice_has_no_pitch() -> None:
    loud = tone(np.full(RATE // 2, 150.0))
    found = pitch_of(np.concatenate([loud, loud * 0.002]), SIZE)
    half = len(found) // 2
    assert (found[4 : half - 4] > 0).all() and not found[half + 4 :].any()
