"""The table of what is measured on films, faces and voices, from results that each have a shape of their own.

A row of `[[films]]` in figures.toml names a report and, with dots, where its figure lies in it; numbers are places in
lists, and a name with dots in it is quoted by a list in place of a string. `python -m eval.figures` writes the table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.marks import Mark, legend, marked, marks_of

__all__ = ["END", "START", "films_table", "load_films", "value_at"]

START, END = "<!-- films:start -->", "<!-- films:end -->"

Place = str | Sequence[str]


def load_films(rows: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    """Return report -> what is in it, of all that rows name and that are there."""
    import json

    names = {str(row["report"]) for row in rows}
    paths = {name: folder / f"{name}.json" for name in sorted(names)}
    return {name: json.loads(path.read_text("utf-8")) for name, path in paths.items() if path.is_file()}


def value_at(report: Any, place: Place) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Return what lies at a place of a report.

    Raises:
        SystemExit: If nothing does.
    """
    value = report
    for key in place.split(".") if isinstance(place, str) else place:
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, ValueError, TypeError):
            raise SystemExit(f"figures.toml: {place!r}: the report has no {key!r} there") from None
    return value


def _figure(report: Any, row: Mapping[str, Any], key: str) -> str:  # noqa: ANN401
    """Return a figure of a row, with its interval where it has one."""
    if key not in row:
        return ""
    value, by, digits = value_at(report, row[key]), float(row.get("by", 1)), int(row.get("digits", 1))
    interval = value_at(report, row["interval"]) if key == "value" and "interval" in row else None
    if isinstance(value, list):
        value, interval = value[0], value[1:3] if key == "value" else None
    shown = f"{by * value:.{digits}f}"
    return shown if interval is None else shown + " [{}, {}]".format(*(f"{by * one:.{digits}f}" for one in interval))


def _title(row: Mapping[str, Any], report: Any) -> str:  # noqa: ANN401
    return re.sub(r"\{([^}]+)\}", lambda match: str(value_at(report, match[1])), row["title"])


def films_table(rows: Sequence[Mapping[str, Any]], reports: Mapping[str, Any], marks: Sequence[Mark] = ()) -> str:
    """Return the table, for docs/figures.md.

    Args:
        rows: `title` (counts in braces, by their places), `report`, `value`, perhaps `interval`, `chance`, `shuffled`,
            `by` what figures are multiplied with, `digits`, `ask` and `stretch`.
        reports: Report -> what is in it.
        marks: Of figures.toml; a row's report is their suite.
    """
    lines = ["| what | measured | shuffled | chance | goal | stretch |", "|---|---|---|---|---|---|"]
    used: list[int] = []
    for row in rows:
        report = reports.get(row["report"])
        numbers = marks_of({"suite": row["report"], **row}, marks)
        used += numbers
        if report is None:
            lines.append(f"| {marked(row['report'], numbers)} | not measured | | | {row.get('ask', '')} | |")
            continue
        link = f"[{marked(_title(row, report), numbers)}](eval/results/{row['report']}.md)"
        cells = [link, *(_figure(report, row, key) for key in ("value", "shuffled", "chance"))]
        lines.append("| " + " | ".join([*cells, row.get("ask", ""), row.get("stretch", "")]) + " |")
    return "\n".join([*lines, "", *legend(marks, used)])
