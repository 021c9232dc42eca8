"""Looking into a catalog: its items, their vectors, and all of it at a glance."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.records import CatalogInfo, ItemRecord
from embedspace.catalog.store.filters.plan import matching_items
from embedspace.catalog.store.filters.where import Condition
from embedspace.catalog.store.schema import FORMAT_VERSION
from embedspace.catalog.store.store import Store
from embedspace.catalog.store.vectors import modality_counts, unpack, vectors_of

__all__ = [
    "EXPORTED",
    "catalog_info",
    "count_items",
    "count_segments",
    "item_records",
    "segment_pages",
    "segment_vectors",
]

EXPORTED = ("id", "uri", "kind", "modality", "start", "end", "text", "label", "metadata")
"""Columns of `segment_pages`."""
_PAGE = 2048
_SEGMENTS = """
SELECT s.seq, i.id, (SELECT u.uri FROM uris u WHERE u.item = i.item ORDER BY u.place LIMIT 1), i.kind, s.modality,
s.start, s."end", s.text, s.label, i.metadata, v.vector
FROM segments s JOIN items i ON i.item = s.item JOIN vectors v ON v.seq = s.seq
WHERE s.seq > ? ORDER BY s.seq LIMIT ?
"""


def count_items(store: Store) -> int:
    """Return the number of items."""
    return int(store.rows("SELECT count(*) FROM items")[0][0])


def count_segments(store: Store) -> int:
    """Return the number of segments of all modalities."""
    return int(store.rows("SELECT count(*) FROM segments")[0][0])


def segment_pages(store: Store) -> Iterator[tuple[list[tuple[Any, ...]], NDArray[np.float32]]]:
    """Yield all segments in the order they were added: (rows of `EXPORTED`, (n, embed_dim) float32 unit rows)."""
    last = 0
    while rows := store.rows(_SEGMENTS, (last, _PAGE)):
        last = rows[-1][0]
        yield [row[1:-1] for row in rows], unpack([row[-1] for row in rows], store.embed_dim).astype(np.float32)


def item_records(store: Store, condition: Condition | None) -> Iterator[ItemRecord]:
    """Yield the items that fulfil a condition, all without one, in the order they were added."""
    with store.snapshot("filter it"):
        among, values = ("SELECT item FROM items", ()) if condition is None else matching_items(store, condition)
        numbers = store.rows(f"SELECT DISTINCT item FROM ({among}) ORDER BY item", values)
    for (number,) in numbers:
        found = store.rows("SELECT id, kind, metadata FROM items WHERE item = ?", (number,))
        if not found:
            continue  # removed meanwhile
        uris = store.rows("SELECT uri FROM uris WHERE item = ? ORDER BY place", (number,))
        counts = store.rows("SELECT modality, count(*) FROM segments WHERE item = ? GROUP BY modality", (number,))
        identity, kind, metadata = found[0]
        yield ItemRecord(identity, tuple(uri for (uri,) in uris), kind, json.loads(metadata), dict(counts))


def segment_vectors(
    store: Store, modality: str | None, ids: Iterable[str] | None
) -> tuple[list[str], NDArray[np.float32]]:
    """Return the item id of every segment and (N, embed_dim) float32 vectors; see `Catalog.vectors`."""
    store.state()  # a migration in another process may have changed the length of the vectors
    sql = "SELECT s.seq, i.id FROM segments s JOIN items i ON i.item = s.item"
    parameters: tuple[str, ...] = ()
    if modality is not None:
        sql, parameters = f"{sql} WHERE s.modality = ?", (modality,)
    rows = store.rows(f"{sql} ORDER BY s.seq", parameters)
    if ids is not None:
        wanted = set(ids)
        rows = [row for row in rows if row[1] in wanted]
    return [row[1] for row in rows], vectors_of(store, [row[0] for row in rows])


def catalog_info(store: Store, settings: str, *, indexes: Mapping[str, str], calibrated: bool) -> CatalogInfo:
    """Return a catalog at a glance; see `Catalog.info`."""
    rows = store.rows
    with os.scandir(store.folder) as entries:
        size = sum(entry.stat().st_size for entry in entries if entry.is_file())
    return CatalogInfo(
        path=str(store.path),
        format_version=FORMAT_VERSION,
        embed_dim=store.embed_dim,
        items=count_items(store),
        uris=int(rows("SELECT count(*) FROM uris")[0][0]),
        kinds=dict(rows("SELECT kind, count(*) FROM items GROUP BY kind ORDER BY kind")),
        segments=modality_counts(store),
        failures=tuple(store.failures()),
        fingerprints=store.fingerprints(),
        fields=tuple(name for (name,) in rows("SELECT name FROM fields ORDER BY name")),
        settings=settings,
        indexes=dict(indexes),
        size_bytes=size,
        calibrated=calibrated,
    )
