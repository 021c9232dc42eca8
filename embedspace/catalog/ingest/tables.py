"""Tables on disk: CSV, TSV, JSONL, JSON and parquet, read row by row.

Whatever a file holds, memory stays bounded, and a row that cannot be read is a `BadRow` among the others.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from embedspace.catalog.ingest.manifests import BadRow, known_columns
from embedspace.catalog.places import open_regular
from embedspace.errors import InputError, MissingExtraError

__all__ = ["read_rows"]

_DELIMITERS = ",;\t|"
_MAX_LINE = 1 << 25
"""Bytes of a line of JSONL, and characters of a CSV field, at most."""
_MAX_JSON = 1 << 27
"""Bytes of a .json file, at most: it is read at once."""
_MAX_DEPTH = 100
_PARQUET_BYTES = 1 << 26
"""Decoded bytes of the parquet rows that are read at once, about."""
_NUMBER = re.compile(r"[-+]?(0|[1-9]\d{0,17})(\.\d+)?([eE][-+]?\d{1,3})?")

_Rows = Iterator[dict[str, Any] | str]
"""Rows, and for each that cannot be read the reason."""


def read_rows(path: Path) -> Iterator[dict[str, Any] | BadRow]:
    """Yield the rows of a table by its suffix, without holding it in memory (but for .json).

    Raises:
        InputError: If the file is missing, no regular file, no table, or its text is not UTF-8.
        MissingExtraError: If it is parquet and pyarrow is not installed.
    """
    suffix = path.suffix.lower()
    try:
        with open_regular(path) as file:
            if suffix == ".parquet":
                rows: _Rows = _parquet(path, file)
            elif suffix in (".csv", ".tsv"):
                rows = _csv(path, file, "\t" if suffix == ".tsv" else _DELIMITERS)
            elif suffix == ".json":
                rows = _json(path, file)
            else:
                rows = _jsonl(path, file)
            for number, row in enumerate(rows, 1):
                defect = row if isinstance(row, str) else _defect(row)
                yield BadRow(number, defect) if defect else row  # type: ignore[misc]
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.object[error.start]:#04x}); save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path}: cannot read the manifest: {error.strerror or error}") from error


def _defect(row: dict[str, Any]) -> str:
    """Return what keeps a row from being stored, empty where nothing does."""
    pending: list[tuple[Any, int]] = [(row, 0)]
    while pending:  # no recursion: it would end at a depth of its own
        value, depth = pending.pop()
        if depth > _MAX_DEPTH:
            return f"nested deeper than {_MAX_DEPTH} levels"
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                half = value[error.start].encode("ascii", "backslashreplace").decode()
                return f"{half} is half of a character (a surrogate without its other half); write the character whole"
        elif isinstance(value, dict):
            pending.extend((part, depth + 1) for pair in value.items() for part in pair)
        elif isinstance(value, (list, tuple)):
            pending.extend((part, depth + 1) for part in value)
    return ""


# -- CSV ---------------------------------------------------------------------------------------------------------------


def _csv(path: Path, file: io.BufferedReader, delimiters: str) -> _Rows:
    csv.field_size_limit(_MAX_LINE)
    with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        lines = _text_lines(path, text)
        first = next(lines, "")
        if declared := re.fullmatch(r'"?sep=(.)"?\s*', first):  # how Excel says which delimiter follows
            delimiters, first = declared[1], next(lines, "")
        delimiter = max(delimiters, key=lambda mark: _fitness(first, mark))  # the earlier one where two fit as well
        reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter)
        try:
            columns = _named(next(reader, []))
        except csv.Error as error:
            raise InputError(f"{path}: cannot read the names of its columns: {error}") from error
        yield from _csv_rows(reader, columns)


def _csv_rows(reader: Iterator[list[str]], columns: Sequence[str]) -> _Rows:
    known = known_columns()
    written = {name for name in columns if name.strip().lower() in known}  # a text "1.50" is not 1.5
    while True:
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield f"cannot read the row: {error}"
            continue
        if len(values) > len(columns):
            yield f"{len(values)} values, more than the {len(columns)} columns"
        elif values:  # no empty line
            pairs = itertools.zip_longest(columns, values, fillvalue="")
            yield {name: value if name in written else _typed(value) for name, value in pairs}


def _text_lines(path: Path, file: io.TextIOWrapper) -> Iterator[str]:
    while line := file.readline(_MAX_LINE):
        if len(line) == _MAX_LINE:
            raise InputError(f"{path}: a line longer than {_MAX_LINE} characters; is it a table?")
        yield line


def _fitness(header: str, delimiter: str) -> tuple[int, int]:
    """Say how well a delimiter divides the first line: into columns that mean something, then into many."""
    try:
        names = next(csv.reader([header], delimiter=delimiter), [])
    except csv.Error:
        return 0, 0
    return len({name.strip().lower() for name in names} & known_columns()), len(names)


def _named(header: Sequence[str]) -> list[str]:
    """Return a name of its own for each column; pandas writes its index as a first column without a name."""
    names: dict[str, None] = {}
    for number, written in enumerate(header, 1):
        name = written if written.strip() else "index" if number == 1 else f"column {number}"
        while name in names:
            name += ".1"
        names[name] = None
    return list(names)


def _typed(value: str) -> str | int | float:
    """A CSV cell that is plainly a number is one, so that `where year > 1990` works; 007 stays text."""
    match = _NUMBER.fullmatch(value)
    if match is None:
        return value
    if match[2] is None and match[3] is None:
        return int(value)
    return float(value) if math.isfinite(float(value)) else value


# -- JSON --------------------------------------------------------------------------------------------------------------


def _jsonl(path: Path, file: io.BufferedReader) -> _Rows:
    for number in itertools.count(1):
        line = file.readline(_MAX_LINE)
        if not line:
            return
        if len(line) == _MAX_LINE:
            while line and not line.endswith(b"\n"):
                line = file.readline(_MAX_LINE)
            yield f"a line longer than {_MAX_LINE} bytes"
            continue
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            if number == 1:
                raise
            yield f"not UTF-8 (byte {line[error.start]:#04x}); save it as UTF-8"
            continue
        if text.strip():
            yield _json_row(text)


def _json_row(text: str) -> dict[str, Any] | str:
    try:
        row = json.loads(text)
    except RecursionError:
        return f"nested deeper than {_MAX_DEPTH} levels"
    except ValueError as error:
        return f"not JSON: {error}"
    return row if isinstance(row, dict) else "not a JSON object"


def _json(path: Path, file: io.BufferedReader) -> _Rows:
    size = os.fstat(file.fileno()).st_size
    if size > _MAX_JSON:
        raise InputError(f"{path}: {size} bytes; a .json manifest has at most {_MAX_JSON}: write it as .jsonl")
    try:
        rows = json.loads(file.read(_MAX_JSON).decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise
    except RecursionError as error:
        raise InputError(f"{path}: nested deeper than {_MAX_DEPTH} levels") from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    if not isinstance(rows, list):
        raise InputError(f"{path}: a JSON manifest is a list of objects; this is a {type(rows).__name__}")
    for row in rows:
        yield row if isinstance(row, dict) else "not a JSON object"


# -- parquet -----------------------------------------------------------------------------------------------------------


def _parquet(path: Path, file: io.BufferedReader) -> _Rows:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError(
            f"{path}: reading parquet needs pyarrow; run: pip install 'embedspace[parquet]'"
        ) from error
    try:
        with pq.ParquetFile(file) as table:
            groups = (table.metadata.row_group(number) for number in range(table.metadata.num_row_groups))
            size = sum(group.total_byte_size for group in groups)
            fitting = _PARQUET_BYTES * table.metadata.num_rows // max(size, 1)
            for batch in table.iter_batches(batch_size=max(1, min(256, fitting))):
                yield from batch.to_pylist()
    except UnicodeDecodeError:
        raise
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise InputError(f"{path}: not a parquet file, or a damaged one: {error}") from error
