"""Records of items (dictionaries, as JSON has them) made into tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.bulk.table import COLUMNS, ItemTable
from embedspace.errors import InputError

__all__ = ["NAMES", "VECTORS", "joined", "metadata_columns", "table_of"]

NAMES = {
    "id": "ids", "uri": "uris", "kind": "kinds", "modality": "modalities", "start": "starts", "end": "ends",
    "text": "texts", "label": "labels",
}  # fmt: skip
"""Name in a record, or of a column of parquet -> column of a table; all others are metadata."""
VECTORS = ("vector", "embedding")
"""What the vectors may be called."""
_NUMBERS = ("start", "end")


def table_of(
    vectors: NDArray[np.floating[Any]], records: Sequence[Any], modality: str, name: str, first: int
) -> ItemTable:
    """Return the table of some records and their vectors.

    Args:
        vectors: (N, embed_dim) rows.
        records: What is known of each.
        modality: Of those that name none; empty: all must.
        name: Where they come from.
        first: How many came before.

    Raises:
        InputError: If a record is no object, or a value of one of `NAMES` is of another type.
    """
    columns: dict[str, list[Any]] = {}
    facts: list[Mapping[str, Any]] = []
    for number, record in enumerate(records):
        where = f"{name}: row {first + number + 1}"
        if not isinstance(record, Mapping):
            raise InputError(f'{where}: {str(record)[:40]!r}; expected an object such as {{"uri": "/a.jpg"}}')
        for key, column in NAMES.items():
            value = _checked(record.get(key), key, where)
            if value is not None or column in columns:
                columns.setdefault(column, [None] * number).append(value)
        facts.append(_facts(record, where))
    for filled in columns.values():
        filled.extend([None] * (len(records) - len(filled)))
    modalities = [one or modality for one in columns.pop("modalities", [None] * len(records))]
    if "" in modalities:
        raise InputError(
            f"{name}: row {first + modalities.index('') + 1}: no 'modality'; say it with modality (--modality)"
        )
    columns["kinds"] = [one or "" for one in columns.get("kinds", [""] * len(records))]
    return ItemTable(vectors, modalities, metadata=metadata_columns(facts), name=name, first=first, **columns)


def _checked(value: Any, key: str, where: str) -> Any:  # noqa: ANN401
    if value is None or value == "":
        return None
    if key in _NUMBERS:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InputError(f"{where}: {key!r} is {str(value)[:40]!r}; expected a number")
        return float(value)
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        raise InputError(f"{where}: {key!r} is {str(value)[:40]!r}; expected a text")
    return str(value)


def _facts(record: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    facts = {name: value for name, value in record.items() if name not in NAMES and name != "metadata"}
    given = record.get("metadata")
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError as error:
            raise InputError(f"{where}: 'metadata' is no JSON: {error}") from error
    if given is not None and not isinstance(given, Mapping):
        raise InputError(f"{where}: 'metadata' is {str(given)[:40]!r}; expected an object")
    return facts if not given else {**facts, **given}


def metadata_columns(facts: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return name -> a value per record, `None` where it has none."""
    columns: dict[str, list[Any]] = {}
    for number, record in enumerate(facts):
        for name, value in record.items():
            column = columns.get(name)
            if column is None:
                column = columns[name] = [None] * number
            elif len(column) < number:
                column.extend([None] * (number - len(column)))
            column.append(value)
    for column in columns.values():
        column.extend([None] * (len(facts) - len(column)))
    return columns


def joined(one: ItemTable, other: ItemTable) -> ItemTable:
    """Return the rows of a table and those that follow it."""
    counts = len(one), len(other)

    def column(name: str) -> Any:  # noqa: ANN401
        pair = getattr(one, name), getattr(other, name)
        if pair[0] == pair[1] and (pair[0] is None or isinstance(pair[0], str)):
            return pair[0]
        lists = [[part] * count if part is None or isinstance(part, str) else list(part)
                 for part, count in zip(pair, counts, strict=True)]  # fmt: skip
        return [*lists[0], *lists[1]]

    metadata: dict[str, list[Any]] = {}
    for name in {**one.metadata, **other.metadata}:
        parts = zip((one, other), counts, strict=True)
        metadata[name] = [value for table, count in parts for value in table.metadata.get(name, [None] * count)]
    vectors = np.concatenate([one.vectors, other.vectors])
    columns = {name: column(name) for name in COLUMNS}
    return ItemTable(vectors, metadata=metadata, name=one.name, first=one.first, **columns)
