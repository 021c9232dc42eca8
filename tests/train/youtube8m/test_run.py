"""Towers learn which sound goes with which pictures where there is something to learn, and nothing where pairs lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from embedspace.cli.app import main
from embedspace.errors import ConfigError, InputError
from embedspace.train.align.youtube8m.run import load_towers, train_features
from embedspace.train.align.youtube8m.towers import cosine_margin
from tests.support.youtube8m import example, record


def _write(path: Path, count: int, seed: int, *, paired: bool = True) -> None:
    """Write videos whose pictures and sound are two views of eight hidden numbers."""
    mixing = np.random.default_rng(7)
    to_visual, to_audio = mixing.standard_normal((8, 1024)), mixing.standard_normal((8, 128))
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((count, 8))
    heard = hidden if paired else rng.standard_normal((count, 8))
    visual = np.tanh(hidden @ to_visual / 3) + 0.1 * rng.standard_normal((count, 1024))
    audio = np.tanh(heard @ to_audio / 3) + 0.1 * rng.standard_normal((count, 128))
    label = [int(np.argmax(row)) for row in hidden]
    path.write_bytes(b"".join(record(example(f"v{k}", visual[k], audio[k], (label[k],))) for k in range(count)))


def _recipe(folder: Path, steps: int = 120) -> Path:
    path = folder / "suris.toml"
    path.write_text(
        '[youtube8m]\ntrain = ["train*.tfrecord"]\nvalidation = ["validate*.tfrecord"]\nvisual_layers = [64]\n'
        f"audio_layers = [64]\nembed_dim = 32\nbatch_size = 128\nsteps = {steps}\nevaluate_every = 1000\n"
    )
    return path


@pytest.mark.parametrize("paired", [True, False])
def test_recall_is_above_chance_only_where_pairs_match(paired: bool, tmp_path: Path) -> None:
    _write(tmp_path / "train00.tfrecord", 600, 1, paired=paired)
    _write(tmp_path / "validate00.tfrecord", 256, 2, paired=paired)
    report = train_features(_recipe(tmp_path))
    chance = 10 / 256
    for way in ("video_to_audio", "audio_to_video"):
        found = report.recalls[f"{way}_256_recall_at_10"]
        assert found > 8 * chance if paired else found < 2.5 * chance
        assert report.recalls[f"shuffled_{way}_256_recall_at_10"] < 2.5 * chance
    assert report.folder is not None and report.skipped == []
    towers = load_towers(report.folder)
    assert towers.encode_visual(torch.zeros(2, 1024)).shape == (2, 32)


def test_the_loss_is_the_published_one() -> None:
    visual = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    audio = torch.tensor([[0.8, 0.6], [0.6, 0.8]])
    expected = ((0.2 + 0.2) / 2 + ((0.6 - 0.2) + (0.6 - 0.2)) / 2) / 2
    assert float(cosine_margin(visual, audio, torch.tensor([1, 0]), 0.2)) == pytest.approx(expected)


def test_the_command_names_what_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(tmp_path / "train00.tfrecord", 40, 1)
    _write(tmp_path / "validate00.tfrecord", 20, 2)
    data = bytearray((tmp_path / "train00.tfrecord").read_bytes())
    data[300] ^= 1
    (tmp_path / "train00.tfrecord").write_bytes(data)
    assert main(["train", "align", str(_recipe(tmp_path, steps=3)), "--out", str(tmp_path / "out")]) in (0, None)
    told = capsys.readouterr()
    assert "byte 0: the record's checksum is wrong" in told.err and str(tmp_path / "out") in told.out


def test_missing_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such files"):
        train_features(_recipe(tmp_path))
    (tmp_path / "train00.tfrecord").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="0 videos can be read"):
        train_features(_recipe(tmp_path))
