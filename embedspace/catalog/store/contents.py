"""Looking into a catalog: its items, their vectors, and all of it at a glance."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.records import CatalogInfo, CatalogItem, ItemRecord
from embedspace.catalog.search.where import Condition
from embedspace.catalog.store.schema import FORMAT_VERSION
from embedspace.catalog.store.store import Store

__all__ = ["catalog_info", "content_id", "item_records", "segment_vectors"]

_CONTENT_ID = re.compile(r"[0-9a-f]{32}")


def content_id(item: CatalogItem) -> str:
    """Return the id of an item: its content hash, made of the segments where the caller gave none."""
    if _CONTENT_ID.fullmatch(item.content_hash):
        return item.content_hash
    digest = hashlib.blake2b(f"{item.kind}\0{item.content_hash}\0".encode(), digest_size=16)
    if not item.content_hash:
        for segment in item.segments:
            digest.update(f"{segment.modality}\0{segment.text}\0{segment.label}\0".encode())
            digest.update(np.asarray(segment.vector, "<f4").tobytes())
    return digest.hexdigest()


def item_records(store: Store, condition: Condition) -> Iterator[ItemRecord]:
    """Yield the items that fulfil a condition, in the order they were added."""
    numbers = store.rows(
        "SELECT DISTINCT i.item FROM items i LEFT JOIN segments s ON s.item = i.item "
        f"WHERE {condition.sql} ORDER BY i.item",
        condition.parameters,
    )
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
    sql = "SELECT s.seq, i.id FROM segments s JOIN items i ON i.item = s.item"
    parameters: tuple[str, ...] = ()
    if modality is not None:
        sql, parameters = f"{sql} WHERE s.modality = ?", (modality,)
    rows = store.rows(f"{sql} ORDER BY s.seq", parameters)
    if ids is not None:
        wanted = set(ids)
        rows = [row for row in rows if row[1] in wanted]
    return [row[1] for row in rows], store.vectors_of([row[0] for row in rows])


def catalog_info(store: Store, recipe: str, *, indexes: Mapping[str, str], calibrated: bool) -> CatalogInfo:
    """Return a catalog at a glance; see `Catalog.info`."""
    rows = store.rows
    with os.scandir(store.folder) as entries:
        size = sum(entry.stat().st_size for entry in entries if entry.is_file())
    return CatalogInfo(
        path=str(store.path),
        format_version=FORMAT_VERSION,
        embed_dim=store.embed_dim,
        items=int(rows("SELECT count(*) FROM items")[0][0]),
        uris=int(rows("SELECT count(*) FROM uris")[0][0]),
        kinds=dict(rows("SELECT kind, count(*) FROM items GROUP BY kind ORDER BY kind")),
        segments=dict(rows("SELECT modality, count(*) FROM segments GROUP BY modality ORDER BY modality")),
        failures=tuple(store.failures()),
        fingerprints=store.fingerprints(),
        fields=tuple(name for (name,) in rows("SELECT name FROM fields ORDER BY name")),
        recipe=recipe,
        indexes=dict(indexes),
        size_bytes=size,
        calibrated=calibrated,
    )
