"""What is written of many new items: one statement for all rows of a table, which SQLite feeds itself.

A column of texts goes as one JSON array, one of bytes as one blob; what is in the database already is read from there.
A statement per row would take as long again for stepping through each.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["write_items", "write_places", "write_segments", "write_sorted_values", "write_vectors"]

_ITEMS = (
    "INSERT OR FAIL INTO items(item, id, kind, metadata, digest, as_modality, facts) "
    "SELECT ?1 + key, CAST(substr(?2, 1 + 32 * key, 32) AS TEXT), ?3, value, substr(?4, 1 + 16 * key, 16), '', '{}' "
    "FROM json_each(?5)"
)
_KINDS = "UPDATE items SET kind = ? WHERE item = ?"
_PLACES = (
    "INSERT OR FAIL INTO uris(uri, folder, metadata, item, source, size, mtime_ns) "
    "SELECT j.value, ?1, i.metadata, i.item, '', 0, 0 FROM json_each(?2) j CROSS JOIN items i ON i.item = ?3 + j.key"
)
_PLACE = (
    "INSERT INTO uris(uri, folder, metadata, item, source, size, mtime_ns) "
    "SELECT ?1, ?2, metadata, item, '', 0, 0 FROM items WHERE item = ?3"
)
_ALIKE = (
    'INSERT OR FAIL INTO segments(seq, item, modality, start, "end", text, label) '
    "SELECT item + ?1, item, ?3, ?4, ?5, ?6, ?7 FROM items WHERE item >= ?2 ORDER BY item"
)
_SEGMENT = 'INSERT INTO segments(seq, item, modality, start, "end", text, label) VALUES (?, ?, ?, ?, ?, ?, ?)'
_VECTORS = (
    "INSERT OR FAIL INTO vectors SELECT seq, substr(?1, 1 + ?2 * (seq - ?3), ?2) FROM segments "
    "WHERE seq >= ?3 AND seq < ?4 ORDER BY seq"
)
_VALUES = "INSERT OR IGNORE INTO field_values SELECT ?1, value, ?2 + key FROM json_each(?3) ORDER BY value, key"
_AT_ONCE = 4096
_CHARACTERS = 1 << 25
"""Rows, and characters, of what is handed over at once: SQLite copies it, and takes no more than 1 GB."""
_RUN = 8
"""Neighbours in one folder from which on they are worth a statement of their own."""


def write_items(
    connection: sqlite3.Connection,
    first: int,
    ids: Sequence[str],
    kinds: Sequence[str],
    metadata: Sequence[str],
    digests: Sequence[bytes],
) -> None:
    """Write items, numbered from `first` on.

    Raises:
        sqlite3.IntegrityError: If one is there; those before it stay written.
    """
    for begin, end in _parts(metadata):
        raw = "".join(ids[begin:end]).encode(), b"".join(digests[begin:end])
        connection.execute(_ITEMS, (first + begin, raw[0], kinds[0], raw[1], _array(metadata[begin:end])))
    others = ((kind, item) for item, kind in enumerate(kinds, first) if kind != kinds[0])
    connection.executemany(_KINDS, others)


def write_places(connection: sqlite3.Connection, first: int, uris: Sequence[str]) -> None:
    """Write the places of items that were just written, numbered from `first` on.

    Raises:
        sqlite3.IntegrityError: If one is there; those before it stay written.
    """
    folders = [_folder(uri) for uri in uris]
    runs = list(_runs(folders))
    if _RUN * len(runs) > len(uris) + _RUN or "\0" in "".join(uris):  # SQLite ends a text of JSON at this character
        connection.executemany(_PLACE, zip(uris, folders, range(first, first + len(uris)), strict=True))
        return
    for start, stop in runs:
        for begin, end in _parts(uris[start:stop], start):
            connection.execute(_PLACES, (folders[begin], _array(uris[begin:end]), first + begin))


def _folder(uri: str) -> str:
    """Return what `os.path.dirname` does, faster."""
    at = uri.rfind("/")
    return uri[:at] if at > 0 and uri[at - 1] != "/" else os.path.dirname(uri)


def _runs(values: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield (first, last + 1) of the neighbours that are the same."""
    if values.count(values[0]) == len(values):
        yield 0, len(values)
        return
    begin = 0
    for at in range(1, len(values)):
        if values[at] != values[begin]:
            yield begin, at
            begin = at
    yield begin, len(values)


def write_segments(
    connection: sqlite3.Connection, seq: int, owners: Sequence[int], segments: Sequence[tuple[Any, ...]]
) -> None:
    """Write (modality, start, end, text, label) of segments, numbered from `seq` on, of the items `owners`."""
    if isinstance(owners, range) and len(set(segments)) == 1:
        connection.execute(_ALIKE, (seq - owners[0], owners[0], *segments[0]))
        return
    rows = zip(range(seq, seq + len(segments)), owners, segments, strict=True)
    connection.executemany(_SEGMENT, ((number, owner, *segment) for number, owner, segment in rows))


def write_vectors(connection: sqlite3.Connection, seq: int, halves: NDArray[np.float16]) -> None:
    """Write the vectors of segments that were just written, numbered from `seq` on."""
    width = 2 * halves.shape[1]
    for begin in range(0, len(halves), _AT_ONCE):
        some = halves[begin : begin + _AT_ONCE]
        connection.execute(_VECTORS, (some.tobytes(), width, seq + begin, seq + begin + len(some)))


def write_sorted_values(connection: sqlite3.Connection, name: str, values: Sequence[Any], first: int) -> None:
    """Write the values that items, numbered from `first` on, have in a field.

    Args:
        connection: In an open transaction.
        name: The field.
        values: Whole numbers, booleans or texts, all of one type; see `plain_values`.
        first: Item of the first value.
    """
    connection.execute(_VALUES, (name, first, _array(values)))


def _parts(texts: Sequence[str], start: int = 0) -> Iterator[tuple[int, int]]:
    """Yield (first, last + 1) of texts that are handed over together, counted from `start`."""
    size = max(1, min(_AT_ONCE, _CHARACTERS // max(1, *map(len, texts))))
    for begin in range(0, len(texts), size):
        yield start + begin, start + min(begin + size, len(texts))


def _array(values: Sequence[Any]) -> str:
    return json.dumps(values, ensure_ascii=False)
