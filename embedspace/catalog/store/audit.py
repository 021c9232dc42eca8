"""What a check of a catalog reads: SQLite's own proofs, all segments item by item, and rows that belong to nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

from embedspace.catalog.store.store import Store

__all__ = ["StoredItem", "homeless_items", "stored_items", "structural_faults", "unknown_encoders"]

_PAGE = 20000
_SEGMENTS = """
SELECT i.item, i.id, i.digest, s.seq, s.modality, s.start, s."end", s.text, s.label, v.vector FROM items i
LEFT JOIN segments s ON s.item = i.item LEFT JOIN vectors v ON v.seq = s.seq
WHERE i.item {} ? ORDER BY i.item, s.seq {}
"""


class StoredItem(NamedTuple):
    """An item as it is stored.

    Attributes:
        content_id: Its id.
        digest: What ties it to its segments and vectors, see `segments_digest`.
        segments: (modality, start, end, text, label, vector bytes or None) of each.
    """

    content_id: str
    digest: bytes
    segments: list[tuple[Any, ...]]


def structural_faults(store: Store) -> Iterator[str]:
    """Yield what SQLite itself finds wrong, one line each."""
    for (message,) in store.rows("PRAGMA integrity_check(20)"):
        if message != "ok":
            yield f"{message}; restore it from a copy, or index again"
    for table, row, *_ in store.rows("PRAGMA foreign_key_check"):
        yield f"row {row} of {table} belongs to nothing"


def stored_items(store: Store) -> Iterator[StoredItem]:
    """Yield all items; a page of rows that ends within an item leaves that item to the next page."""
    last = 0
    while rows := store.rows(_SEGMENTS.format(">", f"LIMIT {_PAGE}"), (last,)):
        groups = [list(group) for _, group in itertools.groupby(rows, key=lambda row: row[0])]
        if len(groups) > 1 and len(rows) == _PAGE:
            groups.pop()
        elif len(rows) == _PAGE:  # one item larger than a page
            groups = [store.rows(_SEGMENTS.format("=", ""), rows[0][:1])]
        for group in groups:
            _, content_id, digest = group[0][:3]
            yield StoredItem(content_id, digest, [row[4:] for row in group if row[3] is not None])
        last = groups[-1][0][0]


def homeless_items(store: Store) -> list[str]:
    """Return the content ids of items that have no place."""
    return [found for (found,) in store.rows("SELECT id FROM items WHERE item NOT IN (SELECT item FROM uris)")]


def unknown_encoders(store: Store) -> list[str]:
    """Return the modalities of which nothing says which encoder made their vectors."""
    rows = store.rows(
        "SELECT DISTINCT modality FROM segments WHERE modality NOT IN (SELECT modality FROM fingerprints)"
    )
    return [modality for (modality,) in rows]
