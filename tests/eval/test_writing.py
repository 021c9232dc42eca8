"""What every measuring command under eval writes, and how it ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from embedspace.errors import InputError
from eval.writing import made_by, publish, run


def test_a_result_is_two_files_and_a_sheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["maps.py", "--weights", "mine"])
    entry = {**made_by("maps"), "rows": [1.5]}
    assert entry["command"] == "python -m eval.maps --weights mine"
    publish(tmp_path / "new", entry, ["# Maps", "| a |"], Image.new("RGB", (3, 2)))
    assert json.loads((tmp_path / "new/maps.json").read_text()) == entry
    assert (tmp_path / "new/maps.md").read_text() == "# Maps\n| a |\n"
    with Image.open(tmp_path / "new/maps.png") as sheet:
        assert sheet.size == (3, 2)
    assert capsys.readouterr().out == "# Maps\n| a |\n"
    publish(tmp_path / "none", entry, ["# Maps"])
    assert sorted(path.name for path in (tmp_path / "none").iterdir()) == ["maps.json", "maps.md"]


def test_what_is_wrong_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> int:
        raise InputError("no such folder")

    with pytest.raises(SystemExit, match="2"):
        run(fails)
    assert capsys.readouterr().err == "no such folder\n"
    with pytest.raises(SystemExit, match="0"):
        run(lambda: 0)
