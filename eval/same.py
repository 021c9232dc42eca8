"""Whether two sets of reports give the same figures.

    python -m eval.same v1/results eval/results          # two folders of reports
    python -m eval.same 3c12e67 eval/results             # the reports that a commit holds, and a folder
    python -m eval.same OLD NEW --within 1e-3

Every figure of a retrieval report (recall, MRR, nDCG; ranks are shown, they jump) is compared row by row. It prints one
line per report with the largest difference, one per row that differs by more, and exits with 1 if any does, or if a
row of the old report is missing in the new one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["differences", "main"]

Report = Mapping[str, Any]
_RANKS = ("medr", "mean_rank")
_RESULTS = "eval/results"


def _rows(report: Report) -> dict[str, Mapping[str, Any]]:
    """Return a report's rows by what was searched with, where, and under which label."""
    return {f"{row['query']} -> {row['gallery']} {row.get('label', '')}".strip(): row for row in report["results"]}


def differences(old: Report, new: Report) -> dict[str, float]:
    """Return row -> the largest difference between two reports' figures; infinite where the new one lacks it."""
    after = _rows(new)
    found = {}
    for name, row in _rows(old).items():
        if name not in after:
            found[name] = float("inf")
            continue
        other = after[name]["metrics"]
        figures = [metric for metric in row["metrics"] if metric not in _RANKS]
        lacking = any(metric not in other for metric in figures)
        gaps = [abs(row["metrics"][metric][0] - other[metric][0]) for metric in figures if metric in other]
        found[name] = float("inf") if lacking else max(gaps, default=0.0)
    return found


def _reports(place: str) -> Iterator[tuple[str, Report]]:
    """Yield the retrieval reports of a folder or of a commit."""
    if Path(place).is_dir():
        texts = {path.name: path.read_text("utf-8") for path in sorted(Path(place).glob("*.json"))}
    else:
        listed = _git("ls-tree", "--name-only", place, f"{_RESULTS}/").split()
        texts = {Path(name).name: _git("show", f"{place}:{name}") for name in listed if name.endswith(".json")}
    for name, text in texts.items():
        report = json.loads(text)
        if "suite" in report:
            yield name, report


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{arguments[-1]}: neither a folder nor a commit: {done.stderr.strip()}")
    return done.stdout


def main(argv: list[str] | None = None) -> int:
    """Compare; returns 1 if a figure differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", help="folder of reports, or a commit")
    parser.add_argument("new", help="folder of reports, or a commit")
    parser.add_argument("--within", type=float, default=1e-4, help="differences that count as none (default 1e-4)")
    given = parser.parse_args(argv)
    old, new = dict(_reports(given.old)), dict(_reports(given.new))
    if not old or not old.keys() & new.keys():
        raise SystemExit(f"{given.old}, {given.new}: no report that both hold")
    worse = 0
    for name in sorted(old.keys() & new.keys()):
        found = differences(old[name], new[name])
        print(f"{name}: {len(found)} rows, largest difference {max(found.values(), default=0.0):.2g}")
        for row, gap in found.items():
            if gap > given.within:
                worse += 1
                print(f"  {row}: {'missing' if gap == float('inf') else f'{gap:.2g}'}")
    for name in sorted(old.keys() ^ new.keys()):
        print(f"{name}: only in {given.old if name in old else given.new}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
