"""Columns of metadata as one JSON object per item."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from json.encoder import encode_basestring
from typing import Any

import numpy as np

from embedspace.errors import InputError

__all__ = ["is_value", "json_objects", "values_of"]


def is_value(value: Any) -> bool:  # noqa: ANN401
    """Return whether a value says something: it is neither `None` nor NaN."""
    return not (value is None or (isinstance(value, float) and math.isnan(value)))


def values_of(column: Any, rows: Sequence[int], count: int) -> list[Any]:  # noqa: ANN401
    """Return a column's values at some rows as plain objects.

    Raises:
        ValueError: If the column has not `count` rows.
    """
    if len(column) != count:
        raise ValueError(f"{len(column)} values for {count} rows")
    if isinstance(column, np.ndarray):
        return list((column if len(rows) == count else column[np.asarray(rows, np.int64)]).tolist())
    return list(column) if len(rows) == count else [column[row] for row in rows]


def json_objects(columns: Mapping[str, list[Any]], count: int) -> list[str]:
    """Return the JSON objects of items, given their values name by name; `None` and NaN are left out.

    Raises:
        InputError: If a value is infinite, or holds half a character.
    """
    if not columns:
        return ["{}"] * count
    members = []
    for name, values in columns.items():
        key = f"{json.dumps(name, ensure_ascii=False)}: "
        try:
            members.append([None if text is None else key + text for text in _encoded(values)])
        except ValueError as error:
            raise InputError(f"metadata {name!r}: {error}") from error
    if any(None in column for column in members):
        rows: Iterator[str] = (
            ", ".join(part for part in row if part is not None) for row in zip(*members, strict=True)
        )
    else:
        rows = map(", ".join, zip(*members, strict=True))
    return [f"{{{row}}}" for row in rows]


def _encoded(values: list[Any]) -> list[str] | list[str | None]:
    """Return the JSON of each value; None for those that say nothing."""
    types = set(map(type, values))
    if types <= {int, bool, type(None)}:
        texts = json.dumps(values)[1:-1].split(", ") if values else []
        return [None if text == "null" else text for text in texts]
    if types == {str}:
        "".join(values).encode()  # half a character is refused here
        return list(map(encode_basestring, values))
    return [_one(value) for value in values]


def _one(value: Any) -> str | None:  # noqa: ANN401
    if not is_value(value):
        return None
    if isinstance(value, float) and math.isinf(value):
        raise ValueError(f"{value}; give finite numbers, or leave it out")
    text = json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)
    text.encode()
    return text
