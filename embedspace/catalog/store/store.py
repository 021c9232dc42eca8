"""The truth: items, their places, segments and vectors, in one SQLite file, one transaction a batch.

A catalog is a folder, `media.catalog/`, with `catalog.sqlite` and what is derived from it (packed vectors, FAISS
indexes). A folder because SQLite in WAL mode keeps two files beside its own while it is open, and because FAISS and the
memory-mapped vectors cannot live inside SQLite: as one folder it is copied, moved and deleted as one thing, and every
file in it but `catalog.sqlite` may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.ingest.places import manifest_of
from embedspace.catalog.records import CatalogItem, Failure
from embedspace.catalog.store.damaged import recall_damaged
from embedspace.catalog.store.schema import connect, database_path, translated
from embedspace.catalog.store.settings import read_settings
from embedspace.errors import CatalogCorruptError, InputError
from embedspace.segment import Segment

__all__ = ["Store", "flat_fields", "folder_of", "segments_digest", "unpack"]

_NORM_TOLERANCE = 1e-2


def folder_of(uri: str, source: str | None = None) -> str:
    """Return the folder of a file's uri, and the manifest of a row's; `source` as in `manifest_of`."""
    return manifest_of(uri, source) or os.path.dirname(uri)


def flat_fields(metadata: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the names under which `where` finds metadata; a nested mapping's are dotted."""
    for key, value in metadata.items():
        if '"' in key or "\0" in key:
            continue  # SQLite's JSON paths cannot name it
        if isinstance(value, Mapping):
            yield from flat_fields(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def unpack(blobs: Sequence[bytes], embed_dim: int) -> NDArray[np.float16]:
    """Return stored vectors as (N, embed_dim) float16.

    Raises:
        CatalogCorruptError: If one has another length.
    """
    if any(len(blob) != 2 * embed_dim for blob in blobs):
        raise CatalogCorruptError("a stored vector has the wrong length; run: embedspace catalog verify")
    return np.frombuffer(b"".join(blobs), "<f2").reshape(-1, embed_dim)


def segments_digest(content_id: str, rows: Iterable[tuple[Any, ...]]) -> bytes:
    """Return the digest that ties an item to its segments and vectors.

    Args:
        content_id: Id of the item.
        rows: (modality, start, end, text, label, vector bytes) in order.
    """
    digest = hashlib.blake2b(content_id.encode(), digest_size=16)
    for modality, start, end, text, label, vector in rows:
        digest.update(json.dumps([modality, start, end, text, label]).encode())
        digest.update(vector)
    return digest.digest()


class Store:
    """Rows of one catalog. Safe to share between threads: one connection, one lock."""

    def __init__(self, path: Path, *, read_only: bool = False, timeout: float = 5.0) -> None:
        """Open an existing catalog; see `connect` for what it raises."""
        self.path = path
        self.folder = database_path(path).parent
        self.read_only = read_only
        self.lock = threading.RLock()
        self.connection = connect(path, read_only=read_only, timeout=timeout)
        try:
            settings = read_settings(self)
        except BaseException:
            self.connection.close()
            raise
        self.embed_dim, self.catalog_id = int(settings["embed_dim"]), str(settings["catalog_id"])

    def close(self) -> None:
        """Close the connection; the last one to close folds the write-ahead log into the file."""
        with self.lock:
            self.connection.close()

    @contextlib.contextmanager
    def reading(self, doing: str = "read it") -> Iterator[sqlite3.Connection]:
        """Hold the lock and translate errors around reads."""
        with self.lock, translated(self.path, doing):
            yield self.connection

    @contextlib.contextmanager
    def writing(self, doing: str) -> Iterator[sqlite3.Connection]:
        """One transaction: all of the block is committed, or, whatever interrupts it, nothing."""
        with self.lock, translated(self.path, doing):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'revision'")
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        with self.reading() as connection:
            return connection.execute(sql, parameters).fetchall()

    def meta(self, key: str) -> Any:  # noqa: ANN401
        """Return one fact about the catalog; `None` where it is not known."""
        found = self.rows("SELECT value FROM meta WHERE key = ?", (key,))
        return found[0][0] if found else None

    def set_meta(self, key: str, value: str | int) -> None:
        """Write one fact about the catalog."""
        with self.writing("write its settings") as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def state(self) -> tuple[int, int, int]:
        """Return (revision, highest sequence number ever given, deletions); any change changes the revision."""
        values = dict(self.rows("SELECT key, value FROM meta WHERE key IN ('revision', 'deletions')"))
        last = self.rows("SELECT seq FROM sqlite_sequence WHERE name = 'segments'")
        return int(values["revision"]), int(last[0][0]) if last else 0, int(values["deletions"])

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
        facts = json.dumps(dict(item.facts), ensure_ascii=False, default=str)
        content = None if item.content is None else json.dumps(item.content, ensure_ascii=False)
        values = (content_id, item.kind, item.as_modality, facts, facts, content, segments_digest(content_id, rows))
        sql = "INSERT INTO items(id, kind, as_modality, facts, metadata, content, digest) VALUES (?, ?, ?, ?, ?, ?, ?)"
        if number is not None:
            sql = (
                "UPDATE items SET id = ?, kind = ?, as_modality = ?, facts = ?, metadata = ?, content = ?, digest = ? "
                "WHERE item = ?"
            )
            values = (*values, number)  # type: ignore[assignment]
        cursor = self.connection.execute(sql, values)
        number = int(cursor.lastrowid or 0) if number is None else number
        self.write_segments(number, rows)
        self._learn_fields(item.facts)
        return number

    def write_segments(self, number: int, rows: Iterable[tuple[Any, ...]]) -> None:
        """Append (modality, start, end, text, label, vector bytes) rows to an item, inside an open transaction."""
        for *columns, vector in rows:
            cursor = self.connection.execute(
                'INSERT INTO segments(item, modality, start, "end", text, label) VALUES (?, ?, ?, ?, ?, ?)',
                (number, *columns),
            )
            self.connection.execute("INSERT INTO vectors VALUES (?, ?)", (cursor.lastrowid, vector))

    def segment_row(self, segment: Segment, uri: str) -> tuple[Any, ...]:
        """Return (modality, start, end, text, label, vector as float16 bytes of unit norm) of a segment.

        Raises:
            InputError: If its vector has another length, a NaN, or is not of unit norm.
        """
        vector = np.asarray(segment.vector, dtype=np.float32).reshape(-1)
        if vector.shape != (self.embed_dim,):
            raise InputError(f"{uri}: a vector of length {vector.size}; this catalog holds {self.embed_dim}")
        norm = float(np.linalg.norm(vector))
        if not abs(norm - 1.0) <= _NORM_TOLERANCE:  # written so that NaN is refused too
            raise InputError(f"{uri}: a vector of norm {norm:.4g}; the catalog takes unit vectors")
        start, end = (None if bound is None else float(bound) for bound in (segment.start, segment.end))
        text, label = (said.encode("utf-8", "replace").decode() for said in (segment.text, segment.label))
        return str(segment.modality), start, end, text, label, (vector / norm).astype("<f2").tobytes()

    def link(
        self, number: int, uri: str, size: int, mtime_ns: int, *, source: str = "", metadata: Mapping[str, Any]
    ) -> None:
        """Say that an item lies at a uri, inside an open transaction; an item that thereby lost its last uri goes."""
        connection = self.connection
        before = connection.execute("SELECT item, source, metadata FROM uris WHERE uri = ?", (uri,)).fetchone()
        if before is None and (kept := recall_damaged(self, uri)) is not None:
            before = (number, *kept)
        text = json.dumps(dict(metadata), ensure_ascii=False, default=str)
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
        text = json.dumps(merged, ensure_ascii=False)
        if text != facts[1]:
            self.connection.execute("UPDATE items SET metadata = ? WHERE item = ?", (text, number))

    # -- removing --------------------------------------------------------------------------------------------------

    def drop_segments(self, condition: str, parameters: Sequence[Any]) -> int:
        """Delete segments and their vectors inside an open transaction; returns how many."""
        count = self.connection.execute(f"DELETE FROM segments WHERE {condition}", parameters).rowcount
        if count:
            self.connection.execute("UPDATE meta SET value = value + ? WHERE key = 'deletions'", (count,))
        return count

    def drop_orphans(self, numbers: Iterable[int]) -> int:
        """Delete those of the items that lie nowhere any more, inside an open transaction; returns how many."""
        removed = 0
        for number in numbers:
            if self.connection.execute("SELECT 1 FROM uris WHERE item = ? LIMIT 1", (number,)).fetchone() is None:
                self.drop_segments("item = ?", (number,))
                removed += self.connection.execute("DELETE FROM items WHERE item = ?", (number,)).rowcount
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

    def vectors_of(self, sequence: Sequence[int]) -> NDArray[np.float32]:
        """Return the vectors of sequence numbers, (N, embed_dim) float32, in that order."""
        found: dict[int, bytes] = {}
        for first in range(0, len(sequence), 500):
            part = [int(seq) for seq in sequence[first : first + 500]]
            marks = ",".join("?" * len(part))
            found.update(self.rows(f"SELECT seq, vector FROM vectors WHERE seq IN ({marks})", part))
        blobs = [found.get(int(seq), b"") for seq in sequence]
        return unpack(blobs, self.embed_dim).astype(np.float32)
