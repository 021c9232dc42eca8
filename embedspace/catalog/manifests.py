"""Manifests: CSV, TSV, JSONL, JSON and parquet tables that name files or hold texts, one row an item.

A row with a path column names a file and says more about it; a row without one is a text, or, like a recipe, a text
with named fields. What else a row says becomes metadata. Hugging Face's `metadata.csv` and `metadata.jsonl` beside the
files of an imagefolder or audiofolder are manifests whose path column is `file_name`.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedspace.errors import InputError, MissingExtraError
from embedspace.modality import Modality

__all__ = ["FOLDER_METADATA", "MANIFEST_SUFFIXES", "WHOLE", "BadRow", "Row", "plain", "read_rows", "row_of"]

MANIFEST_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet"})
FOLDER_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
WHOLE = "whole"
"""Label of the segment that joins all fields of a text."""

_PATH_COLUMNS = ("path", "file_name", "file", "filename", "image", "audio", "video", "speech")
_TEXT_COLUMNS = ("text", "caption", "sentence", "content")
_FIELD_COLUMNS = (
    "title", "name", "description", "summary", "ingredients", "steps", "instructions", "directions", "method", "body",
)  # fmt: skip
_SHORT_TEXT = 200
_NUMBER = re.compile(r"[-+]?(0|[1-9]\d{0,17})(\.\d+)?([eE][-+]?\d{1,3})?")


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


def read_rows(path: Path) -> Iterator[dict[str, Any] | BadRow]:
    """Yield the rows of a table by its suffix, without holding it in memory (but for .json).

    Raises:
        InputError: If the file is missing, is no table, or its text is not UTF-8.
        MissingExtraError: If it is parquet and pyarrow is not installed.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            yield from _parquet(path)
        elif suffix in (".csv", ".tsv"):
            yield from _csv(path, "\t" if suffix == ".tsv" else ",")
        elif suffix == ".json":
            yield from _json(path)
        else:
            yield from _jsonl(path)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.object[error.start]:#04x}); save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path}: cannot read the manifest: {error.strerror or error}") from error


def _csv(path: Path, delimiter: str) -> Iterator[dict[str, Any] | BadRow]:
    csv.field_size_limit(1 << 25)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter, restval="")
        number = 0
        while True:
            number += 1
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield BadRow(number, f"cannot read the row: {error}")
                continue
            if row.pop(None, None) is not None:
                yield BadRow(number, f"more values than the {len(reader.fieldnames or ())} columns")
                continue
            yield {key: _typed(value) for key, value in row.items()}


def _typed(value: str) -> str | int | float:
    """A CSV cell that is plainly a number is one, so that `where year > 1990` works; 007 stays text."""
    match = _NUMBER.fullmatch(value)
    if match is None:
        return value
    return int(value) if match[2] is None and match[3] is None else float(value)


def _jsonl(path: Path) -> Iterator[dict[str, Any] | BadRow]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield BadRow(number, f"not JSON: {error}")
                continue
            yield row if isinstance(row, dict) else BadRow(number, "not a JSON object")


def _json(path: Path) -> Iterator[dict[str, Any] | BadRow]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    if not isinstance(rows, list):
        raise InputError(f"{path}: a JSON manifest is a list of objects; this is a {type(rows).__name__}")
    for number, row in enumerate(rows, 1):
        yield row if isinstance(row, dict) else BadRow(number, "not a JSON object")


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError(
            f"{path}: reading parquet needs pyarrow; run: pip install 'embedspace[parquet]'"
        ) from error
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=256):
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise InputError(f"{path}: not a parquet file, or a damaged one: {error}") from error


def row_of(raw: Mapping[str, Any], number: int, text_fields: Sequence[str] | None = None) -> Row | BadRow:
    """Make sense of a row.

    Args:
        raw: Column -> value.
        number: Of the row, from 1.
        text_fields: Columns that hold the text of a row without a file; guessed where `None`.
    """
    columns = {key.strip().lower(): key for key in raw if isinstance(key, str)}
    used: set[str] = set()

    def take(name: str) -> Any:  # noqa: ANN401
        used.add(columns[name])
        return raw[columns[name]]

    name = str(take("id")) if raw.get(columns.get("id", "")) not in (None, "") else str(number)
    modality = ""
    if "modality" in columns and str(raw[columns["modality"]]) in set(Modality):
        modality = str(take("modality"))
    path, embedded = "", None
    for column in _PATH_COLUMNS:
        value = raw.get(columns.get(column, ""))
        if isinstance(value, str) and value:
            path = str(take(column))
            break
        if isinstance(value, Mapping) and isinstance(value.get("bytes"), bytes):
            embedded, path = value["bytes"], str(value.get("path") or "")
            modality = modality or column
            take(column)
            break
    if path or embedded is not None:
        metadata = {key: plain(value) for key, value in raw.items() if key not in used}
        return Row(name, path, embedded, None, modality, _filled(metadata))
    content = _content(raw, columns, text_fields)
    if not content:
        return BadRow(number, f"neither a file ({', '.join(_PATH_COLUMNS)}) nor a text ({', '.join(_TEXT_COLUMNS)})")
    texts = set(content) if isinstance(content, dict) else {columns[c] for c in _TEXT_COLUMNS if c in columns}
    metadata = {key: plain(value) for key, value in raw.items() if key not in used and not _long(key, value, texts)}
    return Row(name, "", None, content, modality or "text", _filled(metadata))


def _long(key: str, value: Any, texts: set[str]) -> bool:  # noqa: ANN401
    """A long text is found by its vector; a short one (a title) is worth filtering on, too."""
    return key in texts and not (isinstance(value, str) and len(value) <= _SHORT_TEXT)


def _content(
    raw: Mapping[str, Any], columns: Mapping[str, str], text_fields: Sequence[str] | None
) -> str | dict[str, str] | None:
    if text_fields is None:
        for column in _TEXT_COLUMNS:
            text = _text(raw.get(columns.get(column, "")))
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
