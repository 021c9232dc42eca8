"""What the rows of a manifest mean: files that they name, or texts that they hold, one row per item.

A row with a path column names a file and says more about it; a row without one is a text, or, like a recipe, a text
with named fields. What else a row says becomes metadata. Hugging Face's `metadata.csv` and `metadata.jsonl` beside the
files of an imagefolder or audiofolder are manifests whose path column is `file_name`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embedspace.modality import kinds, modality_names

__all__ = ["FOLDER_METADATA", "WHOLE", "BadRow", "Row", "known_columns", "plain", "row_of"]

FOLDER_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
WHOLE = "whole"
"""Label of the segment that joins all fields of a text."""

_FILE_COLUMNS = ("path", "file_name", "file", "filename")
_TEXT_COLUMNS = ("text", "caption", "sentence", "content")
_FIELD_COLUMNS = (
    "title", "name", "description", "summary", "ingredients", "steps", "instructions", "directions", "method", "body",
)  # fmt: skip
_SHORT_TEXT = 200


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a manifest.

    Attributes:
        name: Its id column where it has one, else its number from 1.
        path: File that it names, as written; empty for a text.
        embedded: The file's bytes, where the manifest holds them.
        content: The text, or field -> text, of a row without a file.
        modality: What the row itself says it is, empty where it does not.
        metadata: All other columns.
    """

    name: str
    path: str = ""
    embedded: bytes | None = None
    content: str | dict[str, str] | None = None
    modality: str = ""
    metadata: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read: its number from 1, and why."""

    number: int
    reason: str


def _path_columns() -> list[str]:
    """Return the columns that may hold a file: "path", ..., and those that are called like what they hold."""
    return [*_FILE_COLUMNS, *(name for name in dict.fromkeys([*kinds(), *modality_names()]) if name != "text")]


def known_columns() -> frozenset[str]:
    """Return the names of columns that mean something here, in lower case."""
    return frozenset({"id", "modality", *_path_columns(), *_TEXT_COLUMNS, *_FIELD_COLUMNS})


def row_of(raw: Mapping[str, Any], number: int, text_fields: Sequence[str] | None = None) -> Row | BadRow:
    """Make sense of a row.

    Args:
        raw: Column -> value.
        number: Number of the row, from 1.
        text_fields: Columns that hold the text of a row without a file; guessed where `None`.
    """
    columns = {key.strip().lower(): key for key in raw if isinstance(key, str)}
    used: set[str] = set()
    name, modality, path, embedded = str(number), "", "", None
    if (written := _cell(raw, columns, "id")) not in (None, ""):
        name = str(written)
        used.add(columns["id"])
    if str(_cell(raw, columns, "modality")) in modality_names():
        modality = str(raw[columns["modality"]])
        used.add(columns["modality"])
    for column in _path_columns():
        value = _cell(raw, columns, column)
        if isinstance(value, str) and value:
            path = value
        elif isinstance(value, Mapping) and isinstance(value.get("bytes"), bytes):
            embedded, path = value["bytes"], str(value.get("path") or "")
            modality = modality or column
        else:
            continue
        used.add(columns[column])
        break
    if path or embedded is not None:
        metadata = {key: plain(value) for key, value in raw.items() if key not in used}
        return Row(name, path, embedded, None, modality, _filled(metadata))
    content = _content(raw, columns, text_fields)
    if not content:
        return BadRow(number, f"neither a file ({', '.join(_path_columns())}) nor a text ({', '.join(_TEXT_COLUMNS)})")
    texts = set(content) if isinstance(content, dict) else {columns[c] for c in _TEXT_COLUMNS if c in columns}
    metadata = {key: plain(value) for key, value in raw.items() if key not in used and not _long(key, value, texts)}
    return Row(name, "", None, content, modality or "text", _filled(metadata))


def _cell(raw: Mapping[str, Any], columns: Mapping[str, str], name: str) -> Any:  # noqa: ANN401
    """Return what a row has in a column, `None` where it has no such column."""
    return raw[columns[name]] if name in columns else None


def _long(key: str, value: Any, texts: set[str]) -> bool:  # noqa: ANN401
    """A long text is found by its vector; a short one (a title) is worth filtering on, too."""
    return key in texts and not (isinstance(value, str) and len(value) <= _SHORT_TEXT)


def _content(
    raw: Mapping[str, Any], columns: Mapping[str, str], text_fields: Sequence[str] | None
) -> str | dict[str, str] | None:
    if text_fields is None:
        for column in _TEXT_COLUMNS:
            text = _text(_cell(raw, columns, column))
            if text:
                return text
        names = [columns[column] for column in _FIELD_COLUMNS if column in columns]
    else:
        names = [name for name in text_fields if name in raw]
    fields = {name: text for name in names if (text := _text(raw[name]))}
    if len(fields) > 1:
        fields[WHOLE] = "\n".join(fields.values())
    return fields or None


def _text(value: Any) -> str:  # noqa: ANN401
    """Return a cell as text; the entries of a list are lines."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, (list, tuple)):
        return "\n".join(text for entry in value if (text := _text(entry)))
    if isinstance(value, Mapping):
        return " ".join(text for entry in value.values() if (text := _text(entry)))
    return "" if value is None or isinstance(value, (bytes, bool)) else str(value)


def _filled(metadata: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metadata.items() if value not in (None, "", [], {})}


def plain(value: Any) -> Any:  # noqa: ANN401
    """Return a value as JSON knows it; NaN and bytes become `None`, what JSON lacks becomes text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return None if isinstance(value, bytes) else str(value)
