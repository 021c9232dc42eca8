"""The truth: items, their places, segments and vectors, in one SQLite file, one transaction per batch.

A catalog is a folder, `media.catalog/`, with `catalog.sqlite` and what is derived from it (packed vectors, FAISS
indexes). A folder because SQLite in WAL mode keeps two files beside its own while it is open, and because FAISS and the
memory-mapped vectors cannot live inside SQLite: as one folder it is copied, moved and deleted as one thing, and every
file in it but `catalog.sqlite` may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embedspace.catalog.places import manifest_of
from embedspace.catalog.records import CatalogItem, Failure
from embedspace.catalog.store.damaged import keep_damaged, recall_damaged
from embedspace.catalog.store.database import Database
from embedspace.catalog.store.digests import metadata_json, segments_digest, unit_halves
from embedspace.catalog.store.facts import read_facts
from embedspace.catalog.store.filters.values import erase_values, flat_fields, pairs_of, write_values
from embedspace.errors import InputError
from embedspace.segment import Segment

__all__ = ["Store", "folder_of"]

_DELETED = (
    "CREATE TABLE IF NOT EXISTS deleted(number INTEGER PRIMARY KEY, modality TEXT NOT NULL, seq INTEGER NOT NULL)"
)
"""Which segment each deletion took, so that an index need not compare all; earlier versions do not look at it."""
_DELETED_KEPT = 1_000_000
_STATE = (
    "SELECT key, value FROM meta WHERE key IN ('revision', 'deletions', 'embed_dim') "
    "UNION ALL SELECT name, seq FROM sqlite_sequence WHERE name = 'segments'"
)


def folder_of(uri: str, source: str | None = None) -> str:
    """Return the folder of a file's uri, and the manifest of a row's; `source` as in `manifest_of`."""
    return manifest_of(uri, source) or os.path.dirname(uri)


class Store(Database):
    """Items, places, segments and vectors of one catalog, and how they are written.

    Attributes:
        catalog_id: Names the catalog for as long as it exists, wherever it lies.
        embed_dim: Length of its vectors; a migration may change it, which `state` and every transaction notice.
        has_values: Whether, in a transaction, the values of metadata are kept beside it, see `filters.values`.
        written: Segments that the transaction wrote, see `write_segments`, where somebody wants to know.
    """

    has_values = False
    written: list[tuple[str, int, int, str, bytes]] | None = None

    def __init__(self, path: Path, *, read_only: bool = False, timeout: float = 5.0) -> None:
        """Open an existing catalog; see `connect` for what it raises."""
        super().__init__(path, read_only=read_only, timeout=timeout)
        try:
            facts = read_facts(self)
        except BaseException:
            self.connection.close()
            raise
        self.embed_dim, self.catalog_id = int(facts["embed_dim"]), str(facts["catalog_id"])
        self._state: tuple[tuple[int, int], tuple[int, int, int]] = ((-1, -1), (0, 0, 0))

    @contextlib.contextmanager
    def writing(self, doing: str) -> Iterator[sqlite3.Connection]:
        """One transaction, see `Database.writing`; vectors written in it have the length that is right by then."""
        with super().writing(doing) as connection:
            self.embed_dim = int(self.meta("embed_dim"))
            self.has_values = self.meta("values_revision") == self.meta("revision")
            self.written = None
            yield connection

    def state(self) -> tuple[int, int, int]:
        """Return (revision, highest sequence number ever given, deletions); any change changes the revision."""
        with self.reading() as connection:
            if connection.in_transaction:
                return self._read_state()
            version = connection.execute("PRAGMA data_version").fetchone()[0], connection.total_changes
            if version != self._state[0]:  # of what others, and this connection, have written
                self._state = version, self._read_state()
            return self._state[1]

    def last_state(self) -> tuple[int, int, int]:
        """Return what `state` did when it was asked last, without asking SQLite again."""
        known = self._state
        return known[1] if known[0] != (-1, -1) and not self.connection.in_transaction else self.state()

    def _read_state(self) -> tuple[int, int, int]:
        values = dict(self.rows(_STATE))
        self.embed_dim = int(values["embed_dim"])
        return int(values["revision"]), int(values.get("segments", 0)), int(values["deletions"])

    # -- writing ---------------------------------------------------------------------------------------------------

    def put(self, item: CatalogItem, content_id: str) -> str:
        """Write one item inside an open transaction; returns "added", "updated" or "known"."""
        connection = self.connection
        place = connection.execute("SELECT item FROM uris WHERE uri = ?", (item.uri,)).fetchone()
        known = connection.execute("SELECT item, as_modality FROM items WHERE id = ?", (content_id,)).fetchone()
        if known is None or known[1] != item.as_modality:
            number = self._write_item(item, content_id, None if known is None else known[0])
            outcome = "added" if place is None else "updated"
        else:
            number, outcome = known[0], "known" if place is None or place[0] == known[0] else "updated"
        self.link(number, item.uri, item.size, item.mtime_ns, source=item.source, metadata=item.metadata)
        return outcome

    def _write_item(self, item: CatalogItem, content_id: str, number: int | None) -> int:
        rows = [self.segment_row(segment, item.uri) for segment in item.segments]
        if not rows:
            raise InputError(f"{item.uri}: an item needs at least one segment")
        if number is not None:
            self.drop_segments("item = ?", (number,))
            self.connection.execute("DELETE FROM staged WHERE item = ?", (number,))
        facts = metadata_json(item.facts)
        metadata = facts  # until `merge_metadata`, as what a place said before may count
        if number is None and item.metadata:
            metadata = metadata_json({**json.loads(facts), **item.metadata}, item.uri)
        content = None if item.content is None else json.dumps(item.content, ensure_ascii=False)
        values = (content_id, item.kind, item.as_modality, facts, metadata, content, segments_digest(content_id, rows))
        sql = "INSERT INTO items(id, kind, as_modality, facts, metadata, content, digest) VALUES (?, ?, ?, ?, ?, ?, ?)"
        if number is not None:
            self._forget_values(number, changed=True)
            sql = (
                "UPDATE items SET id = ?, kind = ?, as_modality = ?, facts = ?, metadata = ?, content = ?, digest = ? "
                "WHERE item = ?"
            )
            values = (*values, number)  # type: ignore[assignment]
        cursor = self.connection.execute(sql, values)
        number = int(cursor.lastrowid or 0) if number is None else number
        self._keep_values(number, metadata)
        self.write_segments(number, content_id, rows)
        self._learn_fields(item.facts)
        return number

    def write_segments(self, number: int, content_id: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Append (modality, start, end, text, label, vector bytes) rows to an item, inside an open transaction.

        Where `written` is a list, (modality, segment number, item number, content id, vector bytes) is noted there.
        """
        for *columns, vector in rows:
            cursor = self.connection.execute(
                'INSERT INTO segments(item, modality, start, "end", text, label) VALUES (?, ?, ?, ?, ?, ?)',
                (number, *columns),
            )
            seq = int(cursor.lastrowid or 0)
            self.connection.execute("INSERT INTO vectors VALUES (?, ?)", (seq, vector))
            if self.written is not None:
                self.written.append((columns[0], seq, number, content_id, vector))

    def segment_row(self, segment: Segment, uri: str, embed_dim: int | None = None) -> tuple[Any, ...]:
        """Return (modality, start, end, text, label, vector as float16 bytes of unit norm) of a segment.

        Args:
            segment: One encoded segment.
            uri: Place of its item, for the message.
            embed_dim: Length that its vector must have; the catalog's where `None`.

        Raises:
            InputError: If its vector has another length, a NaN, or is not of unit norm, or a bound is not finite.
        """
        vector = np.asarray(segment.vector, dtype=np.float32).reshape(-1)
        wanted = self.embed_dim if embed_dim is None else embed_dim
        if vector.shape != (wanted,):
            raise InputError(f"{uri}: a vector of length {vector.size}; this catalog holds {wanted}")
        halves, wrong = unit_halves(vector[None])
        if wrong:
            raise InputError(f"{uri}: a vector of norm {wrong[0]:.4g}; the catalog takes unit vectors")
        # SQLite knows no -0.0, which the digest would tell from 0.0
        start, end = (None if bound is None else float(bound) + 0.0 for bound in (segment.start, segment.end))
        if any(bound is not None and not math.isfinite(bound) for bound in (start, end)):
            raise InputError(f"{uri}: a segment from {start} to {end}; its bounds must be finite, or None")
        text, label = (said.encode("utf-8", "replace").decode() for said in (segment.text, segment.label))
        return str(segment.modality), start, end, text, label, halves.tobytes()

    def link(
        self, number: int, uri: str, size: int, mtime_ns: int, *, source: str = "", metadata: Mapping[str, Any]
    ) -> None:
        """Say that an item lies at a uri, inside an open transaction; an item that thereby lost its last uri goes."""
        connection = self.connection
        before = connection.execute("SELECT item, source, metadata FROM uris WHERE uri = ?", (uri,)).fetchone()
        if before is None and (kept := recall_damaged(self, uri)) is not None:
            before = (number, *kept)
        text = metadata_json(metadata, uri)
        if before is not None:  # a folder says nothing about an item: what a manifest said stays
            text = before[2] if text == "{}" else text
            source = source or before[1]
            if before[0] != number:
                connection.execute("DELETE FROM uris WHERE uri = ?", (uri,))
                self.drop_orphans((before[0],))
        connection.execute(
            "INSERT INTO uris(uri, folder, source, item, size, mtime_ns, metadata) VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT(uri) DO UPDATE SET source = excluded.source, size = excluded.size, "
            "mtime_ns = excluded.mtime_ns, metadata = excluded.metadata",
            (uri, folder_of(uri, source), source, number, size, mtime_ns, text),
        )
        connection.execute("DELETE FROM failures WHERE uri = ?", (uri,))
        self._learn_fields(metadata)
        self.merge_metadata(number)

    def _learn_fields(self, metadata: Mapping[str, Any]) -> None:
        self.connection.executemany(
            "INSERT OR IGNORE INTO fields VALUES (?)", ((name,) for name in flat_fields(metadata))
        )

    def merge_metadata(self, number: int) -> None:
        """Write an item's metadata anew: facts, then what each of its places says; the oldest place wins."""
        facts = self.connection.execute("SELECT facts, metadata FROM items WHERE item = ?", (number,)).fetchone()
        places = self.connection.execute("SELECT metadata FROM uris WHERE item = ? ORDER BY place DESC", (number,))
        merged = json.loads(facts[0])
        for (text,) in places:
            if text != "{}":
                merged.update(json.loads(text))
        text = metadata_json(merged)
        if text != facts[1]:
            self._forget_values(number, changed=True)
            self._keep_values(number, text)
            self.connection.execute("UPDATE items SET metadata = ? WHERE item = ?", (text, number))

    def _keep_values(self, number: int, metadata: str) -> None:
        if self.has_values:
            pairs = pairs_of(json.loads(metadata))
            write_values(self.connection, [(name, value, number) for name, value in pairs])

    def _forget_values(self, number: int, *, changed: bool) -> None:
        """Forget the values of an item, which its row still has; `changed`: there will be others."""
        if self.has_values:
            found = self.connection.execute("SELECT metadata FROM items WHERE item = ?", (number,)).fetchone()
            erase_values(self.connection, number, found[0])
            if changed:
                self.connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'metadata_changes'")

    def drop_item(self, number: int) -> int:
        """Delete an item that has no segments any more, inside an open transaction; returns 1."""
        self._forget_values(number, changed=False)
        return self.connection.execute("DELETE FROM items WHERE item = ?", (number,)).rowcount

    # -- removing --------------------------------------------------------------------------------------------------

    def drop_segments(self, condition: str, parameters: Sequence[Any]) -> int:
        """Delete segments and their vectors inside an open transaction; returns how many."""
        connection = self.connection
        before = int(connection.execute("SELECT value FROM meta WHERE key = 'deletions'").fetchone()[0])
        connection.execute(_DELETED)
        connection.execute(
            "INSERT OR REPLACE INTO deleted(number, modality, seq) "
            f"SELECT ? + row_number() OVER (ORDER BY seq), modality, seq FROM segments WHERE {condition}",
            (before, *parameters),
        )
        count = connection.execute(f"DELETE FROM segments WHERE {condition}", parameters).rowcount
        if count:
            connection.execute("DELETE FROM deleted WHERE number <= ?", (before + count - _DELETED_KEPT,))
            self.connection.execute("UPDATE meta SET value = value + ? WHERE key = 'deletions'", (count,))
        return count

    def drop_orphans(self, numbers: Iterable[int]) -> int:
        """Delete those of the items that lie nowhere any more, inside an open transaction; returns how many."""
        removed = 0
        for number in numbers:
            if self.connection.execute("SELECT 1 FROM uris WHERE item = ? LIMIT 1", (number,)).fetchone() is None:
                self.drop_segments("item = ?", (number,))
                removed += self.drop_item(number)
            else:
                self.merge_metadata(number)
        return removed

    def unlink(self, uris: Iterable[str]) -> int:
        """Forget places inside an open transaction; returns how many items went with them."""
        numbers: dict[int, None] = {}
        for uri in uris:
            row = self.connection.execute("SELECT item FROM uris WHERE uri = ?", (uri,)).fetchone()
            if row is not None:
                numbers[row[0]] = None
                self.connection.execute("DELETE FROM uris WHERE uri = ?", (uri,))
            self.connection.execute("DELETE FROM failures WHERE uri = ?", (uri,))
            recall_damaged(self, uri)
        return self.drop_orphans(numbers)

    # -- failures and fingerprints -----------------------------------------------------------------------------------

    def mark_damaged(self, uri: str, kind: str, content_id: str) -> bool:
        """Forget what was at a place if it is no longer there, inside an open transaction; see `damaged`.

        Args:
            uri: The place.
            kind: What was to be read there; a place that holds an item of another kind is left alone.
            content_id: Id of the unreadable content that is there now.

        Returns:
            Whether an item was found there until now.
        """
        found = self.connection.execute(
            "SELECT u.source, u.metadata FROM uris u JOIN items i ON i.item = u.item "
            "WHERE u.uri = ? AND i.kind = ? AND i.id != ?",
            (uri, kind, content_id),
        ).fetchone()
        if found is None:
            return False
        self.unlink([uri])
        keep_damaged(self, uri, *found)
        return True

    def fail(self, uri: str, reason: str, size: int, mtime_ns: int) -> None:
        """Record, inside an open transaction, that a file could not be indexed."""
        self.connection.execute(
            "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?)", (uri, folder_of(uri), reason, size, mtime_ns)
        )

    def failures(self) -> list[Failure]:
        """Return every file that could not be indexed."""
        return [
            Failure(uri, reason, known=True)
            for uri, reason in self.rows("SELECT uri, reason FROM failures ORDER BY uri")
        ]

    def fingerprints(self) -> dict[str, str]:
        """Return modality -> digest of the encoder whose vectors are here."""
        return dict(self.rows("SELECT modality, digest FROM fingerprints"))
