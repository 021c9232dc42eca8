"""The index sweep and the benchmarks run, and print what they promise."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

from embedspace.catalog import IndexSettings
from eval.bench.common import FakeEncoder, make_media
from indexes import sweep


def run(monkeypatch: pytest.MonkeyPatch, module: str, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    importlib.import_module(module).main()


@pytest.mark.parametrize("path", sorted(sweep.SETTINGS.glob("*.toml")), ids=lambda path: path.stem)
def test_settings_file_is_valid_and_explained(path: Path) -> None:
    assert IndexSettings.from_toml(path).name == path.stem
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_sweep_writes_json_and_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = [str(sweep.SETTINGS / f"{name}.toml") for name in ("exact", "hnsw-sq8", "ivf-sq8")]
    sizes = ("--vectors", "2000", "--embed-dim", "32", "--queries", "20")
    run(monkeypatch, "indexes.sweep", *sizes, "--out", str(tmp_path), "--settings", *some)
    result = json.loads((tmp_path / "sweep-2000x32.json").read_text(encoding="utf-8"))
    recalls = {one["settings"]: one["recall_at_10"] for one in result["outcomes"]}
    assert recalls["exact"] == 1.0 and recalls["hnsw-sq8"] > 0.9 and recalls["ivf-sq8"] > 0.5
    table = (tmp_path / "sweep-2000x32.md").read_text(encoding="utf-8")
    assert table.count("\n| ") == 4 and "python -m indexes.sweep --vectors 2000" in table


@pytest.mark.parametrize(
    ("name", "arguments", "figure"),
    [
        ("reindex", ("--files", "60", "--runs", "1"), "seconds_median"),
        ("search", ("--fake", "--items", "200", "--runs", "2"), "warm_ms"),
        ("ingest", ("--fake", "--made", "--files", "30"), "throughput_ratio"),
        ("memory", ("--fake", "--made", "--files", "30"), "peak_megabytes"),
        ("long_text", ("--fake", "--characters", "5000"), "characters_per_second"),
        pytest.param("generate", ("--repeats", "1"), "cold_command_seconds", marks=pytest.mark.slow),
    ],
)
def test_bench_prints_one_json_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    arguments: tuple[str, ...],
    figure: str,
    tmp_path: Path,
) -> None:
    if name == "search":  # what it compares with takes seconds to import
        monkeypatch.setattr("eval.bench.bench_search.IMPORTS", "import json")
    run(monkeypatch, f"eval.bench.bench_{name}", *arguments, "--out", str(tmp_path))
    result = json.loads(capsys.readouterr().out)
    assert result["benchmark"] == name and result[figure] > 0
    assert result["machine"]["cpus"] and "commit" in result
    assert json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8")) == result


def test_made_media_decode(tmp_path: Path) -> None:
    from embedspace.media.audio import load_audio
    from embedspace.media.image import load_image

    make_media(tmp_path, 6, seconds=0.5)
    suffixes = sorted(path.suffix for path in tmp_path.rglob("*.*"))
    assert suffixes == [".png", ".png", ".txt", ".txt", ".wav", ".wav"]
    assert load_image(next(tmp_path.rglob("*.png"))).size == (8, 8)
    assert len(load_audio(next(tmp_path.rglob("*.wav"))).waveform) == 8000
    assert FakeEncoder().decode(next(tmp_path.rglob("*.txt")), "text").kind == "text"
