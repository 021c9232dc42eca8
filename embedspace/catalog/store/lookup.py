"""What a search reads: which segments a filter leaves, and what is shown of those that were found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.store.filters.clock import within
from embedspace.catalog.store.filters.plan import plan_filter
from embedspace.catalog.store.filters.where import Condition
from embedspace.catalog.store.store import Store
from embedspace.catalog.store.vectors import unpack
from embedspace.catalog.stored import StoredItem, StoredPlace
from embedspace.modality import is_apart, modality_names
from embedspace.segment import Segment

__all__ = [
    "DOCUMENT_CHARACTERS",
    "Found",
    "document_segments",
    "found_segments",
    "landmark_segments",
    "segments_where",
    "stored_folders",
    "stored_item",
]

_PARAMETERS = 5000
"""SQLite bounds the parameters of one statement."""
DOCUMENT_CHARACTERS = 200
"""A text segment of at least this many characters is a passage of a document, with fields or without."""
_FEW = 20_000
"""So many newer segments are asked one by one whether they fulfil a condition."""


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


def segments_where(
    store: Store, condition: Condition, seconds: float | None = None, after: int = 0
) -> NDArray[np.int64]:
    """Return (N,) int64 numbers of the segments that fulfil a condition, ascending.

    Args:
        store: The catalog's rows.
        condition: From `compile_where`.
        seconds: Longest time that it may take; None: no limit.
        after: Only segments with a higher number.

    Raises:
        InputError: If it takes longer.
    """
    with within(store, seconds), store.reading("filter it") as connection:
        few = 0 < store.state()[1] - after <= _FEW if after else False
        plan = plan_filter(store, condition, few=few)
        return np.sort(_numbers(connection.execute(plan.sql, plan.values(after)).fetchall()))


def document_segments(store: Store, characters: int, after: int = 0) -> NDArray[np.int64]:
    """Return (N,) int64 numbers, above one, of text segments that are fields, or at least so long, ascending."""
    return _numbers(
        store.rows(
            "SELECT seq FROM segments WHERE modality = 'text' AND (label <> '' OR \"end\" - start >= ?) AND seq > ? "
            "ORDER BY seq",
            (characters, after),
        )
    )


def _numbers(rows: Sequence[tuple[Any, ...]]) -> NDArray[np.int64]:
    return np.fromiter((seq for (seq,) in rows), np.int64, len(rows))


def stored_item(store: Store, content_id: str) -> StoredItem | None:
    """Return all that is known of the item with some content; None where there is none."""
    with store.snapshot("read an item") as connection:
        found = connection.execute(
            "SELECT item, kind, metadata, content FROM items WHERE id = ?", (content_id,)
        ).fetchone()
        if found is None:
            return None
        number, kind, metadata, content = found
        places = connection.execute(
            "SELECT uri, source, size, mtime_ns FROM uris WHERE item = ? ORDER BY place", (number,)
        ).fetchall()
        rows = connection.execute(
            'SELECT s.modality, s.start, s."end", s.text, s.label, v.vector FROM segments s '
            "JOIN vectors v ON v.seq = s.seq WHERE s.item = ? ORDER BY s.seq",
            (number,),
        ).fetchall()
    store.state()  # a migration in another process may have changed the length of the vectors
    vectors = unpack([row[5] for row in rows], store.embed_dim).astype(np.float32)
    segments = tuple(Segment(row[0], vector, *row[1:5]) for row, vector in zip(rows, vectors, strict=True))
    said = None if content is None else json.loads(content)
    return StoredItem(
        content_id, kind, json.loads(metadata), said, tuple(StoredPlace(*place) for place in places), segments
    )


def stored_folders(store: Store) -> list[str]:
    """Return every folder that holds a file of the catalog, and every manifest that names one."""
    return [folder for (folder,) in store.rows("SELECT DISTINCT folder FROM uris")]


def landmark_segments(store: Store, count: int) -> tuple[list[tuple[str, str, str, str]], NDArray[np.float32]]:
    """Return some items that stand for all: of each modality of an item its first segment, drawn evenly and repeatably.

    Without voices, which lie in a space of their own.

    Args:
        store: The catalog's rows.
        count: At most so many.

    Returns:
        (item id, modality, text, uri) of each, and (N, embed_dim) float32 unit rows.
    """
    apart = [name for name in modality_names() if is_apart(name)]
    rows = store.rows(
        "SELECT i.id, s.modality, s.text, "
        "(SELECT u.uri FROM uris u WHERE u.item = i.item ORDER BY u.place LIMIT 1), v.vector "
        f"FROM (SELECT min(seq) AS seq FROM segments WHERE modality NOT IN ({','.join('?' * len(apart))}) "
        "GROUP BY item, modality "
        "ORDER BY (min(seq) * 2654435761) % 4294967296 LIMIT ?) f "
        "JOIN segments s ON s.seq = f.seq JOIN items i ON i.item = s.item JOIN vectors v ON v.seq = s.seq "
        "ORDER BY s.seq",
        (*apart, count),
    )
    vectors = unpack([row[4] for row in rows], store.embed_dim).astype(np.float32)
    return [(row[0], row[1], row[2], row[3] or "") for row in rows], vectors
