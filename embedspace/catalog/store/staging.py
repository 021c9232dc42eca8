"""New vectors of an unfinished migration: kept beside the old ones, put in their place all at once.

Searches and everything else see the old vectors until then. Staged vectors may have another length than the catalog's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from embedspace.catalog.store.digests import segments_digest
from embedspace.catalog.store.store import Store

__all__ = ["EncodedItem", "StoredContent", "contents_of", "forget_other_stages", "modalities_of", "pending_items",
           "replace_encoder", "spans_of", "stage", "use_staged"]  # fmt: skip


class StoredContent(NamedTuple):
    """What an item is encoded from again: its files by its id, or its own text (`content`, JSON)."""

    item: int
    content_id: str
    kind: str
    as_modality: str
    content: str | None


class EncodedItem(NamedTuple):
    """An item and its new segments, as `Store.segment_row` makes them, each with the digest of its encoder."""

    item: int
    rows: list[tuple[str, tuple[Any, ...]]]


def forget_other_stages(store: Store, digests: Collection[str]) -> None:
    """Drop what was staged by other encoders than these."""
    with store.writing("start the migration") as connection:
        connection.execute(f"DELETE FROM staged WHERE digest NOT IN ({_marks(digests)})", list(digests))


def _marks(values: Collection[Any]) -> str:
    return ",".join("?" * len(values))


def pending_items(store: Store, modalities: Collection[str] | None) -> tuple[list[int], int]:
    """Return the items that have nothing staged yet, and how many have to be encoded again in all.

    Args:
        store: The catalog's rows.
        modalities: Those whose encoder changed: an item with a segment of them is affected; every item where `None`.
    """
    condition = "1" if modalities is None else f"modality IN ({_marks(modalities)})"
    rows = store.rows(
        f"SELECT DISTINCT item, item IN (SELECT item FROM staged) FROM segments WHERE {condition} ORDER BY item",
        list(modalities or ()),
    )
    return [item for item, staged in rows if not staged], len(rows)


def contents_of(store: Store, items: Sequence[int]) -> list[StoredContent]:
    """Return what some items are encoded from."""
    rows = store.rows(
        f"SELECT item, id, kind, as_modality, content FROM items WHERE item IN ({_marks(items)}) ORDER BY item", items
    )
    return [StoredContent(*row) for row in rows]


def modalities_of(store: Store, item: int) -> list[str]:
    """Return the modalities of an item's segments."""
    return [name for (name,) in store.rows("SELECT DISTINCT modality FROM segments WHERE item = ?", (item,))]


def stage(store: Store, encoded: Iterable[EncodedItem]) -> None:
    """Keep the new segments of some items, in one transaction."""
    with store.writing("stage new vectors") as connection:
        for item, rows in encoded:
            connection.executemany(
                'INSERT INTO staged(item, digest, modality, start, "end", text, label, vector) '
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                ((item, digest, *row) for digest, row in rows),
            )


def spans_of(store: Store, item: int, modality: str) -> list[tuple[float, float]]:
    """Return from when to when an item's segments of a modality are."""
    rows = store.rows('SELECT start, "end" FROM segments WHERE item = ? AND modality = ?', (item, modality))
    return [(start or 0.0, end or 0.0) for start, end in rows]


def use_staged(store: Store, modalities: Collection[str] | None) -> int:
    """Put the staged segments in place of the old ones, inside an open transaction.

    Args:
        store: The catalog's rows.
        modalities: Those whose segments are replaced; segments of others stay. All where `None`.

    Returns:
        How many items were removed because they have no segment left.
    """
    connection = store.connection
    condition = "1" if modalities is None else f"modality IN ({_marks(modalities)})"
    names = list(modalities or ())
    changed = f"SELECT DISTINCT item FROM segments WHERE {condition} UNION SELECT item FROM staged"
    items = [item for (item,) in connection.execute(changed, names)]
    store.drop_segments(condition, names)
    removed = 0
    for item in items:
        rows = connection.execute(
            'SELECT modality, start, "end", text, label, vector FROM staged WHERE item = ? ORDER BY number', (item,)
        ).fetchall()
        removed += _rewrite(store, item, rows)
    connection.execute("DELETE FROM staged")
    return removed


def _rewrite(store: Store, item: int, rows: list[tuple[Any, ...]]) -> int:
    """Give an item new segments beside those it still has; returns 1 if it has none and was removed."""
    connection = store.connection
    kept = connection.execute(
        'SELECT s.modality, s.start, s."end", s.text, s.label, v.vector FROM segments s '
        "JOIN vectors v ON v.seq = s.seq WHERE s.item = ? ORDER BY s.seq",
        (item,),
    ).fetchall()
    if not rows and not kept:
        return store.drop_item(item)
    content_id = connection.execute("SELECT id FROM items WHERE item = ?", (item,)).fetchone()[0]
    store.write_segments(item, content_id, rows)
    digest = segments_digest(content_id, [*kept, *rows])
    connection.execute("UPDATE items SET digest = ? WHERE item = ?", (digest, item))
    return 0


def replace_encoder(
    store: Store, fingerprints: Mapping[str, str], calibration_json: str | None, embed_dim: int
) -> None:
    """Record the encoder whose vectors are here from now on, inside an open transaction.

    What failed before is forgotten: another decoder may read it. Where the length of the vectors changes, nothing of
    the old encoder stays.

    Args:
        store: The catalog's rows.
        fingerprints: Modality -> digest.
        calibration_json: Calibration of the new space; `None` keeps the old one.
        embed_dim: Length of the vectors.
    """
    connection = store.connection
    if embed_dim != store.embed_dim:
        connection.execute("DELETE FROM fingerprints")
        store.set_meta("embed_dim", embed_dim)
        store.embed_dim = embed_dim
    connection.executemany("INSERT OR REPLACE INTO fingerprints VALUES (?, ?)", fingerprints.items())
    connection.execute("DELETE FROM failures")
    if calibration_json is not None:
        store.set_meta("calibration", calibration_json)
