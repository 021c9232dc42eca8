from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from embedspace.errors import ConfigError
from training.attempts.generator_curves import read_curves, write


def test_curves_of_heads_are_tabulated_and_drawn(tmp_path: Path) -> None:
    run = tmp_path / "image"
    run.mkdir()
    told = [
        {"stage": "flow", "step": 10, "seconds": 1.0, "loss": 0.5},
        {"stage": "flow", "step": 20, "seconds": 2.0, "loss": 0.4, "held_loss": 0.45},
        {"stage": "decoder", "step": 5, "seconds": 1.0, "loss": 1.0, "held_psnr_db": 24.0},
    ]
    (run / "scalars.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
    write(read_curves(run), tmp_path / "out")
    with (tmp_path / "out/heads.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["head"], r["stage"], r["step"], r["measure"], r["value"]) for r in rows] == [
        ("image", "decoder", "5", "held_psnr_db", "24.0"),
        ("image", "flow", "20", "held_loss", "0.45"),
    ]
    with Image.open(tmp_path / "out/heads.png") as plot:
        assert plot.width > 2 * 300


def test_a_run_without_a_curve_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no curve"):
        read_curves(tmp_path)
