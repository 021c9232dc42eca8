"""Marks (†) on figures that a choice made in sight of test data touched, and the reasons that they lead to.

`[[marks]]` of eval/figures.toml has a `text`, and in `of` tables of what it applies to: a row has the mark if it has
all the values of one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["END", "START", "legend", "marked", "marks_of", "page_with_marks"]

START, END = "<!-- marks:start -->", "<!-- marks:end -->"
LOG = "training/LOG.md"

Mark = Mapping[str, Any]


def marks_of(row: Mapping[str, Any], marks: Sequence[Mark]) -> list[int]:
    """Return the numbers, from 1, of the marks that a row of figures.toml has; `where` counts as the row's own."""
    values = {**row.get("where", {}), **row}
    return [
        number
        for number, mark in enumerate(marks, 1)
        if any(all(values.get(key) == value for key, value in part.items()) for part in mark["of"])
    ]


def marked(title: str, numbers: Sequence[int]) -> str:
    """Return a title with its marks."""
    return " ".join([title, *(f"†{number}" for number in numbers)])


def legend(marks: Sequence[Mark], used: Sequence[int], to_root: str = "") -> list[str]:
    """Return the lines that say what some marks mean; none where none is used.

    Args:
        marks: All of them.
        used: Numbers of those that a table shows.
        to_root: Path from the page to the repository's root, such as "../../".
    """
    if not used:
        return []
    lines = [f'† A choice was made in sight of these test items (["Not blind"]({to_root}{LOG})):', ""]
    return [*lines, *(f"- †{number}: {marks[number - 1]['text']}" for number in sorted(set(used)))]


def page_with_marks(page: str, suite: str, marks: Sequence[Mark]) -> str:
    """Return a suite's page of results that ends with its marks, whatever marks it had."""
    kept = page.partition(START)[0].rstrip("\n") + "\n"
    used = [number for number, mark in enumerate(marks, 1) if any(part.get("suite") == suite for part in mark["of"])]
    lines = legend(marks, used, "../../")
    return kept + "\n".join(["", START, *lines, END, ""]) if lines else kept
