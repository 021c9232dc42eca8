"""The attempts at sounds: the log-mel network, its front end and augmentation, the recalls, the table of curves."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from training.attempts.sound_net import (
    FRAMES,
    SAMPLE_RATE,
    MelNet,
    _filters,
    augment_mel,
    fit_mel_net,
    fixed_length,
    log_mel,
)
from training.attempts.sounds import FIELDS, _recall, curve, write


def tone(band: int, frames: int = 60, bands: int = 32) -> np.ndarray:
    mel = np.zeros((frames, bands), np.float16)
    mel[:, band : band + 3] = 0.8
    return mel


@pytest.mark.parametrize(("samples", "frames"), [(1, 2), (1024, 2), (1025, 3), (SAMPLE_RATE, 45)])
def test_log_mel_takes_any_length_and_silence_is_zero(samples: int, frames: int) -> None:
    mel = log_mel(torch.zeros(samples))
    assert mel.shape == (frames, 96)
    assert not mel.any()


def test_filters_match_a_hand_calculation() -> None:
    def mel(hertz: float) -> float:
        return 2595 * math.log10(1 + hertz / 700)

    edges = [700 * (10 ** (mel(22050) * index / 97 / 2595) - 1) for index in range(98)]
    step = 44_100 / 2048
    for row in (0, 17, 95):
        low, middle, high = (mel(edge) for edge in edges[row : row + 3])
        heights = np.zeros(1025)
        for column in range(int(edges[row] / step + 0.5), int(edges[row + 2] / step + 0.5)):
            here = mel(column * step)
            heights[column] = max(0.0, min((here - low) / (middle - low), (high - here) / (high - middle)))
        np.testing.assert_allclose(_filters()[row].numpy(), heights / heights.sum(), atol=1e-6)


def test_log_mel_of_a_sine_matches_a_hand_calculation() -> None:
    # A sine in the middle of bin 100 has all its power in that bin and its neighbours: (amplitude * sum(window) / 2)^2.
    t = torch.arange(SAMPLE_RATE, dtype=torch.float64) / SAMPLE_RATE
    frame = log_mel((0.5 * torch.sin(2 * torch.pi * 100 * SAMPLE_RATE / 2048 * t)).float())[20]
    n = torch.arange(2048, dtype=torch.float64)
    power = torch.zeros(1025, dtype=torch.float64)
    for column in range(90, 111):
        wave = torch.exp(-2j * torch.pi * (column - 100) * n / 2048)
        power[column] = (0.25 * (wave * torch.hann_window(2048, periodic=False, dtype=torch.float64)).sum()).abs() ** 2
    expected = torch.log10(1e4 * (_filters().double() @ power) + 1) / 9.457798957824707
    loud = expected > 0.5
    assert loud.any()
    torch.testing.assert_close(frame.double()[loud], expected[loud], atol=1e-4, rtol=0)


def test_fixed_length_cuts_and_fills_with_silence() -> None:
    long = np.arange(300 * 4, dtype=np.float16).reshape(300, 4)
    np.testing.assert_array_equal(fixed_length(long, 5), long[5 : 5 + FRAMES].astype(np.float32))
    short = fixed_length(long[:10])
    assert short.shape == (FRAMES, 4)
    assert not short[10:].any()
    assert not fixed_length(long, 299)[1:].any()


def test_augment_mel_keeps_shape_and_range_and_follows_its_seed() -> None:
    for seed in range(40):
        first, again = (augment_mel(tone(9, frames=1 + 7 * seed), np.random.default_rng(seed)) for _ in range(2))
        np.testing.assert_array_equal(first, again)
        assert first.shape == (FRAMES, 32)
        assert first.dtype == np.float32
        assert 0 <= first.min() <= first.max() <= 1
    assert not augment_mel(np.zeros((50, 32), np.float16), np.random.default_rng(0)).any()


def test_augment_mel_moves_the_pitch_within_five_bands_without_wrapping() -> None:
    found = set()
    for seed in range(200):
        out = augment_mel(tone(0, frames=FRAMES), np.random.default_rng(seed))
        heard = np.flatnonzero(out.max(axis=0) > 0.5)
        found.update(heard.tolist())
    assert found == set(range(8))


def test_mel_net_gives_unit_rows_of_any_length() -> None:
    torch.manual_seed(0)
    net = MelNet(8).eval()
    for frames in (16, 40, FRAMES):
        rows = net(torch.rand(3, frames, 32))
        assert rows.shape == (3, 8)
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))
    x = torch.rand(3, 40, 32)
    torch.testing.assert_close(net(x)[:1], net(x[:1]), atol=1e-5, rtol=0)


def test_fit_mel_net_tells_low_from_high() -> None:
    torch.manual_seed(0)
    mels = [tone(band) for band in (2, 3, 24, 25)]
    targets = np.eye(4, dtype=np.float32)[[0, 0, 1, 1]]
    told: list[tuple[int, float]] = []
    net = fit_mel_net(mels, targets, np.ones(4), 0, lambda _, step, loss: told.append((step, loss)), 50, 8)
    assert [step for step, _ in told] == [50]
    with torch.inference_mode():
        rows = net(torch.from_numpy(np.stack([fixed_length(mel) for mel in mels])))
    assert (rows @ torch.from_numpy(targets).T).argmax(dim=1).tolist() == [0, 0, 2, 2]


def test_recall_counts_ties_against_the_answer() -> None:
    gallery = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), dim=1)
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert _recall(queries, gallery, [0, 2], 1) == 50.0
    assert _recall(queries, gallery, [0, 2], 2) == 100.0


def row(attempt: str, source: str, at: float, recall: float, along: str = "step") -> dict[str, object]:
    values = {"loss": 1.0, "recall_at_1": recall, "recall_at_10": 2 * recall}
    return {"attempt": attempt, "source": source, "along": along, "at": at, **values}


def test_curve_is_the_mean_over_sources() -> None:
    rows = [row("a", "x", 50, 10.0), row("a", "y", 50, 20.0), row("a", "x", 100, 30.0), row("b", "x", 50, 90.0)]
    assert curve(rows, "a", "step", "recall_at_1") == ([50.0, 100.0], [15.0, 30.0])
    assert curve(rows, "a", "share", "recall_at_1") == ([], [])


def test_write_keeps_the_rows_of_attempts_that_were_not_run(tmp_path: Path) -> None:
    write([row("infonce", "x", 50, 10.0), row("memory", "x", 1.0, 20.0, "share")], tmp_path)
    write([row("memory", "x", 1.0, 30.0, "share")], tmp_path)
    with (tmp_path / "sounds.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == list(FIELDS)
    assert [(r["attempt"], float(r["recall_at_1"])) for r in table] == [("infonce", 10.0), ("memory", 30.0)]
    assert (tmp_path / "sounds.png").stat().st_size > 1000
