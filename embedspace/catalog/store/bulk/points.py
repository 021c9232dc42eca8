"""What an engine beyond the process holds of each segment, read by ranges of their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.store.lookup import DOCUMENT_CHARACTERS
from embedspace.catalog.store.store import Store
from embedspace.catalog.store.vectors import SegmentRows, content_keys, unpack

__all__ = [
    "PointRow",
    "Shape",
    "highest_segment",
    "item_counts",
    "item_numbers",
    "numbers_between",
    "point_rows",
    "shape_of",
    "some_rows",
]

_ROWS = """
SELECT s.seq, s.item, i.id, i.kind, s.modality, s.start, s."end", s.text, s.label, i.metadata
FROM segments s JOIN items i ON i.item = s.item WHERE s.seq >= ? AND s.seq < ? ORDER BY s.seq
"""
_PLACES = """
SELECT item, uri, size, mtime_ns FROM uris
WHERE item IN (SELECT item FROM segments WHERE seq >= ? AND seq < ?) ORDER BY place
"""
_PARAMETERS = 5000


@dataclass(frozen=True, slots=True)
class PointRow:
    """One segment with all that a filter may ask of it.

    Attributes:
        seq: Its number.
        content_id: Id of its item.
        kind: Kind of its item.
        modality: Its own modality.
        start: Where it begins; None for a whole item.
        end: Where it ends.
        text: What is said, or written, in it.
        label: Name of a field.
        metadata: Its item's, as JSON.
        places: (uri, size in bytes, modification time in nanoseconds) of each place of its item.
    """

    seq: int
    content_id: str
    kind: str
    modality: str
    start: float | None
    end: float | None
    text: str
    label: str
    metadata: str
    places: tuple[tuple[str, int, int], ...]

    @property
    def document(self) -> bool:
        """Whether it is text of a document: a field, or a long passage; see `document_segments`."""
        length = None if self.start is None or self.end is None else self.end - self.start
        return self.modality == "text" and (self.label != "" or (length is not None and length >= DOCUMENT_CHARACTERS))


@dataclass(frozen=True, slots=True)
class Shape:
    """What all vectors of a catalog have in common, at one revision.

    Attributes:
        catalog_id: Names the catalog.
        embed_dim: Length of its vectors.
        fingerprints: Modality -> digest of the encoder.
        revision: Grows with every change.
        last_seq: The highest number of a segment ever given.
        deletions: How many segments were deleted.
    """

    catalog_id: str
    embed_dim: int
    fingerprints: dict[str, str]
    revision: int
    last_seq: int
    deletions: int


def shape_of(store: Store) -> Shape:
    """Return what a catalog's vectors have in common now."""
    with store.snapshot("read what it was made with"):
        revision, last_seq, deletions = store.state()
        return Shape(store.catalog_id, store.embed_dim, store.fingerprints(), revision, last_seq, deletions)


def highest_segment(store: Store) -> int:
    """Return the highest number of a segment that there is; 0 without any."""
    return int(store.rows("SELECT coalesce(max(seq), 0) FROM segments")[0][0])


def numbers_between(store: Store, first: int, end: int) -> NDArray[np.int64]:
    """Return the numbers of the segments from `first` to before `end`, ascending."""
    rows = store.rows("SELECT seq FROM segments WHERE seq >= ? AND seq < ? ORDER BY seq", (first, end))
    return np.asarray([seq for (seq,) in rows], np.int64)


def point_rows(store: Store, first: int, end: int) -> list[PointRow]:
    """Return the segments with numbers from `first` to before `end`, ascending."""
    with store.snapshot("read its segments") as connection:
        places: dict[int, list[tuple[str, int, int]]] = {}
        for item, uri, size, mtime_ns in connection.execute(_PLACES, (first, end)):
            places.setdefault(item, []).append((uri, size, mtime_ns))
        rows = connection.execute(_ROWS, (first, end)).fetchall()
    found: list[PointRow] = []
    for seq, item, *rest in rows:
        values: list[Any] = [seq, *rest, tuple(places.get(item, ()))]
        found.append(PointRow(*values))
    return found


def some_rows(store: Store, sequence: Sequence[int]) -> SegmentRows:
    """Return segments by number with their vectors, ascending, of those that there are."""
    found = []
    for first in range(0, len(sequence), _PARAMETERS):
        part = [int(seq) for seq in sequence[first : first + _PARAMETERS]]
        found += store.rows(
            "SELECT s.seq, s.item, i.id, v.vector FROM segments s JOIN items i ON i.item = s.item "
            f"JOIN vectors v ON v.seq = s.seq WHERE s.seq IN ({','.join('?' * len(part))})",
            part,
        )
    if not found:
        return SegmentRows.empty(store.embed_dim)
    seq, item, ids, blobs = zip(*sorted(found), strict=True)
    vectors = unpack(blobs, store.embed_dim)
    return SegmentRows(np.asarray(seq, np.int64), np.asarray(item, np.int64), content_keys(ids), vectors)


def item_numbers(store: Store, modality: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return segment and item numbers of a modality, both (N,), ascending by segment."""
    rows = store.rows("SELECT seq, item FROM segments WHERE modality = ? ORDER BY seq", (modality,))
    pairs = np.asarray(rows, np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def item_counts(store: Store) -> dict[str, int]:
    """Return modality -> number of items that have segments of it."""
    return dict(store.rows("SELECT modality, count(DISTINCT item) FROM segments GROUP BY modality ORDER BY modality"))
