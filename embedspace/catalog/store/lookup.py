"""What a search reads: which segments a filter leaves, and what is shown of those that were found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.store.store import Store
from embedspace.catalog.store.where import Condition

__all__ = ["Found", "document_segments", "field_names", "found_segments", "segments_where"]

_PARAMETERS = 5000
"""SQLite bounds the parameters of one statement."""


class Found(NamedTuple):
    """What is shown of one segment; `uri` is the oldest place of its item, None where it has none."""

    content_id: str
    kind: str
    metadata: str
    start: float | None
    end: float | None
    text: str
    label: str
    uri: str | None


def found_segments(store: Store, sequence: Sequence[int]) -> dict[int, Found]:
    """Return segment number -> what is shown of it, of those that there still are."""
    found: dict[int, Found] = {}
    for first in range(0, len(sequence), _PARAMETERS):
        part = sequence[first : first + _PARAMETERS]
        rows = store.rows(
            'SELECT s.seq, i.id, i.kind, i.metadata, s.start, s."end", s.text, s.label, '
            "(SELECT u.uri FROM uris u WHERE u.item = i.item ORDER BY u.place LIMIT 1) "
            f"FROM segments s JOIN items i ON i.item = s.item WHERE s.seq IN ({','.join('?' * len(part))})",
            part,
        )
        found.update({row[0]: Found(*row[1:]) for row in rows})
    return found


def field_names(store: Store) -> set[str]:
    """Return the names that the metadata of the catalog has."""
    return {name for (name,) in store.rows("SELECT name FROM fields")}


def segments_where(store: Store, condition: Condition) -> NDArray[np.int64]:
    """Return (N,) int64 numbers of the segments that fulfil a condition, ascending."""
    return _numbers(
        store.rows(
            f"SELECT s.seq FROM segments s JOIN items i ON i.item = s.item WHERE {condition.sql} ORDER BY s.seq",
            condition.parameters,
        )
    )


def document_segments(store: Store, characters: int) -> NDArray[np.int64]:
    """Return (N,) int64 numbers of text segments that are fields, or at least so long, ascending."""
    return _numbers(
        store.rows(
            "SELECT seq FROM segments WHERE modality = 'text' AND (label <> '' OR \"end\" - start >= ?) ORDER BY seq",
            (characters,),
        )
    )


def _numbers(rows: Sequence[tuple[Any, ...]]) -> NDArray[np.int64]:
    return np.fromiter((seq for (seq,) in rows), np.int64, len(rows))
