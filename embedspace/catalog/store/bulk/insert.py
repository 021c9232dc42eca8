"""Many items written in one transaction: new ones by a few statements for all, the others one by one."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from embedspace.catalog.store.bulk.prepared import Prepared, is_sortable, odd_values
from embedspace.catalog.store.bulk.statements import (
    write_items,
    write_places,
    write_segments,
    write_sorted_values,
    write_vectors,
)
from embedspace.catalog.store.filters.values import write_values
from embedspace.catalog.store.store import Store
from embedspace.catalog.store.vectors import SegmentRows, content_keys
from embedspace.errors import InputError

__all__ = ["Inserted", "filling", "insert_items"]

_AMONG = "(SELECT value FROM json_each(?))"
_PRAGMAS = {"cache_size": -65536, "wal_autocheckpoint": 16384}
"""In 64 MB are the pages of the indexes that new rows go to, and are not copied into the file after each batch."""


@dataclass(slots=True)
class Inserted:
    """What was written.

    Attributes:
        outcomes: "added", "updated" and "known" -> number of items.
        rows: Modality -> the new segments, where nothing else changed; `None` where something did.
    """

    outcomes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("added", "updated", "known"), 0))
    rows: dict[str, SegmentRows] | None = None


@contextlib.contextmanager
def filling(store: Store) -> Iterator[None]:
    """Give SQLite the memory that writing many rows needs while a block runs."""
    before = {name: store.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in _PRAGMAS}
    try:
        for name, value in _PRAGMAS.items():
            store.connection.execute(f"PRAGMA {name} = {value}")
        yield
    finally:
        for name, value in before.items():
            store.connection.execute(f"PRAGMA {name} = {value}")


def insert_items(store: Store, batch: Prepared) -> Inserted:
    """Write items inside an open transaction.

    Content that is known gets another place, as in `Store.put`.

    Raises:
        InputError: If an id is that of other segments, here or in the catalog.
    """
    done = Inserted()
    everything = range(len(batch))
    slow: Sequence[int] = _repeated(batch)
    new: Sequence[int] = everything if not slow and not _places_in(store, "damaged") else ()
    if new and not _inserted(store, batch, new, done):
        new = ()
    if not new:
        known, places = _known(store, batch), _places(store, batch)
        damaged = _damaged(store)
        again = {*slow}
        fast = [
            number
            for number in everything
            if batch.ids[number] not in known
            and batch.uris[number] not in places
            and batch.uris[number] not in damaged
            and number not in again
        ]
        if fast and not _inserted(store, batch, fast, done):
            raise RuntimeError("items that nobody knows collide")  # impossible: all that is there was looked at
        done.rows = None
        _settle(store, batch, sorted({*everything}.difference(fast)), places, done)
    _learn(store, batch)
    return done


def _repeated(batch: Prepared) -> list[int]:
    """Return the items whose id or place an earlier one of the batch has."""
    if len(set(batch.ids)) == len(batch) == len(set(batch.uris)):
        return []
    ids: set[str] = set()
    uris: set[str] = set()
    found = []
    for number, (name, uri) in enumerate(zip(batch.ids, batch.uris, strict=True)):
        if name in ids or uri in uris:
            found.append(number)
        ids.add(name)
        uris.add(uri)
    return found


def _places_in(store: Store, table: str) -> bool:
    exists = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return bool(store.rows(exists, (table,))) and bool(store.rows(f"SELECT 1 FROM {table} LIMIT 1"))


def _damaged(store: Store) -> set[str]:
    return {uri for (uri,) in store.rows("SELECT uri FROM damaged")} if _places_in(store, "damaged") else set()


def _known(store: Store, batch: Prepared) -> Collection[str]:
    return {name for (name,) in store.rows(f"SELECT id FROM items WHERE id IN {_AMONG}", (json.dumps(batch.ids),))}


def _places(store: Store, batch: Prepared) -> dict[str, tuple[str, bytes, str]]:
    """Return uri -> (content id, digest, metadata) of the item that lies there."""
    rows = store.rows(
        f"SELECT u.uri, i.id, i.digest, u.metadata FROM uris u JOIN items i ON i.item = u.item WHERE u.uri IN {_AMONG}",
        (json.dumps(batch.uris),),
    )
    return {uri: (name, digest, metadata) for uri, name, digest, metadata in rows}


def _inserted(store: Store, batch: Prepared, numbers: Sequence[int], done: Inserted) -> bool:
    """Write new items; returns False, and writes nothing, where one is known or its place is."""
    connection = store.connection
    item = 1 + int(connection.execute("SELECT coalesce(max(item), 0) FROM items").fetchone()[0])
    seq = 1 + store.state()[1]
    whole = len(numbers) == len(batch)
    rows: Sequence[int] = range(len(batch.halves))
    if not whole:
        rows = [row for number in numbers for row in batch.rows(number)]
    owners = _owners(batch, numbers, item)
    try:
        _write(connection, batch, numbers, item)
    except sqlite3.IntegrityError:  # undone by hand: a savepoint would copy every page before it is written
        for table in ("uris", "items"):
            connection.execute(f"DELETE FROM {table} WHERE item >= ?", (item,))
        return False
    segments = batch.segments if whole else [batch.segments[row] for row in rows]
    write_segments(connection, seq, owners, segments)
    write_vectors(connection, seq, batch.halves if whole else batch.halves[list(rows)])
    if store.has_values:
        _write_values(connection, batch, numbers, item)
    done.outcomes["added"] += len(numbers)
    if whole:
        done.rows = _segment_rows(batch, seq, np.asarray(owners, np.int64))
    return True


def _owners(batch: Prepared, numbers: Sequence[int], item: int) -> Sequence[int]:
    if len(batch.halves) == len(batch) == len(numbers):
        return range(item, item + len(numbers))
    return [owner for owner, number in enumerate(numbers, item) for _ in batch.rows(number)]


def _write(connection: sqlite3.Connection, batch: Prepared, numbers: Sequence[int], item: int) -> None:
    def some(column: Sequence[Any]) -> Sequence[Any]:
        return column if len(numbers) == len(batch) else [column[number] for number in numbers]

    uris = some(batch.uris)
    write_items(connection, item, some(batch.ids), some(batch.kinds), some(batch.metadata), some(batch.digests))
    write_places(connection, item, uris)
    if connection.execute("SELECT 1 FROM failures LIMIT 1").fetchone():
        connection.execute(f"DELETE FROM failures WHERE uri IN {_AMONG}", (json.dumps(uris),))


def _write_values(connection: sqlite3.Connection, batch: Prepared, numbers: Sequence[int], item: int) -> None:
    for name, column in sorted(batch.columns.items()):
        values = column if len(numbers) == len(batch) else [column[number] for number in numbers]
        if is_sortable(name, values):
            write_sorted_values(connection, name, values, item)
        else:
            write_values(connection, odd_values(name, values, item))


def _segment_rows(batch: Prepared, seq: int, owners: Any) -> dict[str, SegmentRows]:  # noqa: ANN401
    """Return modality -> rows, as an index takes them."""
    counts = np.diff(batch.firsts)
    keys = np.repeat(content_keys(batch.ids), counts, axis=0)
    sequence = np.arange(seq, seq + len(batch.halves), dtype=np.int64)
    names = {segment[0] for segment in batch.segments}
    if len(names) == 1:
        return {names.pop(): SegmentRows(sequence, owners, keys, batch.halves)}
    modalities = np.asarray([segment[0] for segment in batch.segments])
    found = {}
    for name in sorted(names):
        its = modalities == name
        found[name] = SegmentRows(sequence[its], owners[its], keys[its], batch.halves[its])
    return found


def _settle(
    store: Store,
    batch: Prepared,
    numbers: Sequence[int],
    places: dict[str, tuple[str, bytes, str]],
    done: Inserted,
) -> None:
    """Write items of which something is known already, one by one."""
    for number in numbers:
        name, uri, digest, text = batch.ids[number], batch.uris[number], batch.digests[number], batch.metadata[number]
        at = places.get(uri)
        if at is not None and at[:2] == (name, digest) and text in (at[2], "{}"):
            done.outcomes["known"] += 1
            continue
        known = store.connection.execute("SELECT item, digest FROM items WHERE id = ?", (name,)).fetchone()
        metadata = json.loads(text)
        if known is None:
            outcome = store.put(batch.table.item(batch.rows(number), uri, name, metadata), name)
        elif bytes(known[1]) != digest:
            raise InputError(
                f"{batch.table.row(batch.firsts[number])}: id {name} is in the catalog, or in an earlier row, with "
                "other segments; give each content an id of its own, or remove the older one first (embedspace catalog "
                "remove)"
            )
        else:
            moved = store.connection.execute("SELECT 1 FROM uris WHERE uri = ? AND item != ?", (uri, known[0]))
            outcome = "known" if moved.fetchone() is None else "updated"
            store.link(known[0], uri, 0, 0, metadata=metadata)
        done.outcomes[outcome] += 1


def _learn(store: Store, batch: Prepared) -> None:
    store.connection.executemany("INSERT OR IGNORE INTO fields VALUES (?)", zip(sorted(batch.fields())))
