from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from embedspace.encoders.towers import create_backbone
from embedspace.encoders.towers.resemblyzer import HOP_LENGTH, Resemblyzer, louder, partial_starts, voice_mel
from embedspace.errors import InputError
from embedspace.media.audio import iter_audio

DATA = Path(__file__).resolve().parents[2] / "data"


@pytest.fixture(scope="module")
def network() -> Resemblyzer:
    made = create_backbone("resemblyzer")
    assert isinstance(made, Resemblyzer)
    return made


@pytest.fixture(scope="module")
def penguin() -> NDArray[np.float32]:
    ((_, _, waveform),) = iter_audio(DATA / "penguin.ogg", 16_000, 30.0, 30.0, skip_silent=False)
    return waveform


@pytest.mark.parametrize(("name", "times"), [("once", 1), ("four_times", 4)])
def test_rows_are_those_of_the_published_package(
    network: Resemblyzer, penguin: NDArray[np.float32], name: str, times: int
) -> None:
    golden = np.array(json.loads((DATA / "voice-penguin.json").read_text("utf-8"))[name], np.float32)
    with torch.no_grad():
        rows = network(network.preprocess(np.tile(penguin, times)))
    mean = rows.mean(dim=0).numpy()
    mean /= np.linalg.norm(mean)
    assert len(rows) == (1, 4)[times > 1] and (rows >= 0).all()
    assert float(mean @ golden) > 0.999  # 8-bit rows; before the weights are packed they differ by 2e-7


def test_partials_overlap_and_cover_all_but_a_short_rest() -> None:
    assert partial_starts(1) == [0]
    assert partial_starts(160 * HOP_LENGTH) == [0]
    assert partial_starts(160 * HOP_LENGTH + 100) == [0]
    assert partial_starts(77 * HOP_LENGTH + 119 * HOP_LENGTH) == [0]  # three quarters of a partial are 120 frames
    assert partial_starts(77 * HOP_LENGTH + 121 * HOP_LENGTH) == [0, 77]


def test_quiet_speech_sounds_as_loud_as_the_network_knows(penguin: NDArray[np.float32]) -> None:
    sound = torch.from_numpy(penguin)
    torch.testing.assert_close(louder(sound), sound)
    quiet = louder(sound * 1e-3)
    assert float(quiet.square().mean().sqrt()) == pytest.approx(10 ** (-1.5), rel=1e-4)
    assert not louder(torch.zeros(100)).any()


def test_frames_are_powers_without_a_logarithm() -> None:
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16_000) / 16_000)
    frames = voice_mel(tone)
    assert frames.shape == (101, 40)
    torch.testing.assert_close(voice_mel(tone * 2), frames * 4, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("waveform", [torch.zeros(0), torch.zeros(2, 16_000), torch.tensor(0.5)])
def test_preprocess_refuses_nothing_and_stereo(network: Resemblyzer, waveform: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"at least 1 sample at 16 kHz, got .*: mix it down"):
        network.preprocess(waveform)
