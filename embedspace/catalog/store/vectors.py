"""Reading vectors: all segments of a modality in batches, or some of them by number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.store.store import Store
from embedspace.errors import CatalogCorruptError

__all__ = [
    "SegmentRows",
    "content_keys",
    "modality_counts",
    "modality_names",
    "removed_since",
    "segment_batches",
    "segment_numbers",
    "segments_after",
    "unpack",
    "vector_bytes",
    "vectors_of",
    "widened",
    "written_segments",
]

_BATCH = 8192
_PARAMETERS = 500
_SIGN_AND_NUMBER = np.uint32(0x8FFFE000).astype(np.int32)
_SCALE = np.float32(2.0**112)

_ROWS = """
SELECT s.seq, s.item, i.id, v.vector FROM segments s JOIN items i ON i.item = s.item JOIN vectors v ON v.seq = s.seq
WHERE s.modality = ? AND s.seq > ? ORDER BY s.seq
"""


@dataclass(frozen=True, slots=True)
class SegmentRows:
    """Segments of one modality, by number; those of one item are neighbours.

    Attributes:
        seq: (N,) int64 segment numbers, ascending; a number is never given twice.
        item: (N,) int64 item numbers.
        key: (N, 2) uint64, the content id as a big number: breaks ties.
        vectors: (N, embed_dim) float16 unit rows, maybe memory-mapped.
    """

    seq: NDArray[np.int64]
    item: NDArray[np.int64]
    key: NDArray[np.uint64]
    vectors: NDArray[np.float16]

    def __len__(self) -> int:
        """Return the number of segments."""
        return len(self.seq)

    @classmethod
    def empty(cls, embed_dim: int) -> SegmentRows:
        """Return no segments."""
        ints = np.zeros(0, np.int64)
        return cls(ints, ints, np.zeros((0, 2), np.uint64), np.zeros((0, embed_dim), np.float16))

    def between(self, first: int, last: int) -> SegmentRows:
        """Return rows first to last, without a copy."""
        return SegmentRows(self.seq[first:last], self.item[first:last], self.key[first:last], self.vectors[first:last])

    @classmethod
    def joined(cls, parts: Sequence[SegmentRows]) -> SegmentRows:
        """Return the segments of one or more parts, in order."""
        if len(parts) == 1:
            return parts[0]
        names = ("seq", "item", "key", "vectors")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def widened(halves: NDArray[np.float16]) -> NDArray[np.float32]:
    """Return finite numbers as float32: what `astype` does, in half the time.

    Source: a half's exponent and fraction, moved to where a float32 has them, are that number times 2**-112.
    """
    bits = halves.view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= _SIGN_AND_NUMBER
    numbers: NDArray[np.float32] = bits.view(np.float32)
    numbers *= _SCALE
    return numbers


def unpack(blobs: Sequence[bytes], embed_dim: int) -> NDArray[np.float16]:
    """Return stored vectors as (N, embed_dim) float16.

    Raises:
        CatalogCorruptError: If one has another length.
    """
    if any(len(blob) != 2 * embed_dim for blob in blobs):
        raise CatalogCorruptError("a stored vector has the wrong length; run: embedspace catalog verify")
    return np.frombuffer(b"".join(blobs), "<f2").reshape(-1, embed_dim)


def content_keys(ids: Sequence[str]) -> NDArray[np.uint64]:
    """Return (N, 2) uint64 whose order is that of the hex ids."""
    raw = b"".join(bytes.fromhex(content_id) for content_id in ids)
    return np.frombuffer(raw, ">u8").reshape(-1, 2).astype(np.uint64)


def segment_batches(store: Store, modality: str, after: int = 0) -> Iterator[SegmentRows]:
    """Yield a modality's segments with a number above `after`, a few thousand at a time.

    The caller holds the store's lock, best in a `snapshot`, until the last batch is read.
    """
    cursor = store.connection.execute(_ROWS, (modality, after))
    while batch := cursor.fetchmany(_BATCH):
        seq, item, ids, blobs = zip(*batch, strict=True)
        vectors = unpack(blobs, store.embed_dim)
        yield SegmentRows(np.asarray(seq, np.int64), np.asarray(item, np.int64), content_keys(ids), vectors)


def written_segments(written: Sequence[tuple[str, int, int, str, bytes]], embed_dim: int) -> dict[str, SegmentRows]:
    """Return modality -> what `Store.written` noted, in the order of its numbers."""
    by_modality: dict[str, list[tuple[str, int, int, str, bytes]]] = {}
    for row in written:
        by_modality.setdefault(row[0], []).append(row)
    return {
        modality: SegmentRows(
            np.asarray([row[1] for row in rows], np.int64),
            np.asarray([row[2] for row in rows], np.int64),
            content_keys([row[3] for row in rows]),
            unpack([row[4] for row in rows], embed_dim),
        )
        for modality, rows in by_modality.items()
    }


def segments_after(store: Store, modality: str, after: int = 0) -> SegmentRows:
    """Return a modality's segments with a number above `after`."""
    with store.reading("read its vectors"):
        parts = list(segment_batches(store, modality, after))
    return SegmentRows.joined(parts) if parts else SegmentRows.empty(store.embed_dim)


def segment_numbers(store: Store, modality: str) -> NDArray[np.int64]:
    """Return (N,) int64 numbers of all segments of a modality, ascending."""
    found = store.rows("SELECT seq FROM segments WHERE modality = ? ORDER BY seq", (modality,))
    return np.fromiter((seq for (seq,) in found), np.int64, len(found))


def modality_names(store: Store) -> list[str]:
    """Return the modalities that have segments, sorted; one look into the index of the table for each of them."""
    found = store.rows(
        "WITH RECURSIVE found(name) AS (SELECT min(modality) FROM segments UNION ALL "
        "SELECT (SELECT min(modality) FROM segments WHERE modality > name) FROM found WHERE name IS NOT NULL) "
        "SELECT name FROM found WHERE name IS NOT NULL"
    )
    return [name for (name,) in found]


def modality_counts(store: Store, after: int = 0) -> dict[str, int]:
    """Return modality -> number of its segments with a number above `after`, sorted by name; those without left out."""
    where = "WHERE seq > ? " if after else "WHERE ? = 0 "
    return dict(
        store.rows(f"SELECT modality, count(*) FROM segments {where}GROUP BY modality ORDER BY modality", (after,))
    )


def removed_since(store: Store, known: int, deletions: int) -> dict[str, NDArray[np.int64]] | None:
    """Return modality -> ascending numbers of the segments deleted after the first `known` and up to all `deletions`.

    Returns:
        `None` where that is not on record: an earlier version of embedspace deleted some of them, or too many were.
    """
    if not store.rows("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'deleted'"):
        return None
    sql = "SELECT modality, seq FROM deleted WHERE number > ? AND number <= ? ORDER BY seq"
    rows = store.rows(sql, (known, deletions))
    if len(rows) != deletions - known:
        return None
    found: dict[str, list[int]] = {}
    for modality, seq in rows:
        found.setdefault(modality, []).append(seq)
    return {modality: np.asarray(numbers, np.int64) for modality, numbers in found.items()}


def vector_bytes(store: Store, sequence: Sequence[int]) -> dict[int, bytes]:
    """Return segment number -> stored vector, of those that there are."""
    found: dict[int, bytes] = {}
    for first in range(0, len(sequence), _PARAMETERS):
        part = [int(seq) for seq in sequence[first : first + _PARAMETERS]]
        marks = ",".join("?" * len(part))
        found.update(store.rows(f"SELECT seq, vector FROM vectors WHERE seq IN ({marks})", part))
    return found


def vectors_of(store: Store, sequence: Sequence[int]) -> NDArray[np.float32]:
    """Return the vectors of segment numbers, (N, embed_dim) float32, in that order."""
    found = vector_bytes(store, sequence)
    return unpack([found.get(int(seq), b"") for seq in sequence], store.embed_dim).astype(np.float32)
