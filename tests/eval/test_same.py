"""Two sets of reports are compared figure by figure."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from eval.same import differences, main

RESULTS = Path(__file__).parents[2] / "eval" / "results"


@pytest.fixture
def report() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / "stamps.json").read_text("utf-8"))
    return found


def written(folder: Path, report: dict[str, Any]) -> str:
    folder.mkdir()
    (folder / "stamps.json").write_text(json.dumps(report), "utf-8")
    return str(folder)


def test_the_same_report_differs_nowhere(tmp_path: Path, report: dict[str, Any]) -> None:
    assert set(differences(report, report).values()) == {0.0}
    assert main([str(RESULTS), written(tmp_path / "a", report)]) == 0


def test_a_figure_that_moved_and_a_row_that_is_gone_are_named(
    tmp_path: Path, report: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    moved = copy.deepcopy(report)
    moved["results"][0]["metrics"]["recall_at_10"][0] += 0.002
    moved["results"][1]["metrics"]["medr"][0] += 5  # ranks jump
    gone = moved["results"].pop()
    old, new = written(tmp_path / "old", report), written(tmp_path / "new", moved)
    assert main([old, new]) == 1
    said = capsys.readouterr().out
    assert "0.002" in said and f"{gone['query']} -> {gone['gallery']}" in said and said.count("\n  ") == 2
    assert main([new, new]) == 0
    moved["results"][0]["metrics"]["recall_at_10"][0] -= 0.002
    assert main([new, written(tmp_path / "third", moved), "--within", "0.01"]) == 0


def test_reports_of_a_commit_and_what_is_neither(tmp_path: Path, report: dict[str, Any]) -> None:
    with pytest.raises(SystemExit, match="neither a folder nor a commit"):
        main(["no-such-commit", str(RESULTS)])
    with pytest.raises(SystemExit, match="no report that both hold"):
        main([str(tmp_path), written(tmp_path / "a", report)])
