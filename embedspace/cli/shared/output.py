"""Plain tables for people, JSON for programs."""

from __future__ import annotations

import json
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from embedspace.errors import InputError

__all__ = [
    "Interrupted",
    "clip",
    "input_lines",
    "list_failures",
    "note",
    "open_for_writing",
    "print_json",
    "print_table",
    "size_text",
    "span_text",
]

MAX_FAILURES_SHOWN = 20


class Interrupted(Exception):  # noqa: N818 - an ending, not an error
    """The user pressed Ctrl-C; the message says what is kept and how to go on."""


def print_json(record: object) -> None:
    """Print one record as one line of JSON."""
    print(json.dumps(record, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever json cannot write
    """Turn numpy scalars and arrays, paths and the like into what JSON has."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def input_lines() -> list[str]:
    """Return the non-empty lines of standard input.

    Raises:
        InputError: If they are not text, or there are none.
    """
    try:
        lines = [line.strip() for line in sys.stdin]
    except UnicodeDecodeError as error:
        raise InputError(f"standard input is not {error.encoding} text ({error.reason}); convert it first") from None
    found = [line for line in lines if line]
    if not found:
        raise InputError("standard input is empty; give one query or item per line")
    return found


def note(message: str) -> None:
    """Print a remark on stderr, where it does not mix with results."""
    print(message, file=sys.stderr)


def _clean(text: str) -> str:
    """Put text on one line and take out control characters: a file name must not steer the terminal."""
    return "".join(char if char.isprintable() else " " for char in " ".join(text.split()))


def _width(text: str) -> int:
    """Return how many terminal columns a text takes."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def clip(text: str, columns: int, *, keep_end: bool = False) -> str:
    """Shorten a text to a number of terminal columns with an ellipsis, keeping its start or its end."""
    text = _clean(text)
    if _width(text) <= columns:
        return text
    characters, used = [], 1
    for char in reversed(text) if keep_end else text:
        used += _width(char)
        if used > columns:
            break
        characters.append(char)
    return "…" + "".join(reversed(characters)) if keep_end else "".join(characters) + "…"


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Iterable[int] = ()) -> None:
    """Print aligned columns; on a terminal the last column is cut at its edge.

    Args:
        header: Column names.
        rows: Cells, as many a row as there are names.
        right: Indices of right-aligned columns.
    """
    aligned_right = set(right)
    table = [[_clean(cell) for cell in row] for row in (header, *rows)]
    widths = [max(_width(row[column]) for row in table) for column in range(len(header))]
    edge = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for row in table:
        cells = []
        for column, cell in enumerate(row):
            padding = " " * (widths[column] - _width(cell))
            cells.append(padding + cell if column in aligned_right else cell + padding)
        line = "  ".join(cells).rstrip()
        print(clip(line, edge) if edge and _width(line) > edge else line)


def span_text(start: float | None, end: float | None) -> str:
    """Return where a segment lies: "0:03-0:05.5" for seconds, empty for a whole item."""
    if start is None or end is None:
        return ""
    return f"{_clock(start)}-{_clock(end)}"


def _clock(seconds: float) -> str:
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    whole, tenth = divmod(rest, 10)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02d}:{whole:02d}" if hours else f"{minutes}:{whole:02d}"
    return clock + (f".{tenth}" if tenth else "")


def size_text(nbytes: float) -> str:
    """Return a size in bytes for people."""
    for unit in ("B", "KB", "MB", "GB"):
        if nbytes < 1000:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.1f} TB"


def list_failures(failures: Sequence[tuple[str, str]]) -> None:
    """List bad files with their reasons on stderr: the first of them, then how many more."""
    if not failures:
        return
    note(f"{len(failures)} could not be read:")
    for uri, reason in failures[:MAX_FAILURES_SHOWN]:
        place = _clean(uri)
        reason = _clean(reason)
        note(f"  {reason}" if reason.startswith(place) else f"  {place}: {reason}")
    if len(failures) > MAX_FAILURES_SHOWN:
        note(f"  and {len(failures) - MAX_FAILURES_SHOWN} more; --json lists all")


def open_for_writing(path: Path) -> None:
    """Check that a file can be written before hours of work go into it.

    Raises:
        InputError: If its folder is missing or cannot be written to, or it is a folder.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give --out the name of a file in it")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}; make it first")
    partial = path.with_name(path.name + ".partial")
    try:
        partial.open("wb").close()
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another --out") from None
    partial.unlink()
