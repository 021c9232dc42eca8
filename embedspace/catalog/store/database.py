"""One open SQLite file: its connection, its lock, its transactions, and the facts about the catalog in it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from embedspace.catalog.store.errors import translated
from embedspace.catalog.store.schema import APPLICATION_ID, DATABASE, FORMAT_VERSION, database_path, is_vacant
from embedspace.errors import CatalogCorruptError, CatalogError, CatalogNotFoundError

__all__ = ["Database", "connect"]

_IN_STEP = (
    "UPDATE meta SET value = value + 1 WHERE key = 'values_revision' "
    "AND value = (SELECT value FROM meta WHERE key = 'revision')"
)
"""What is kept beside the items (`filters.values`) stays in step, where it was before the transaction."""


class Database:
    """Rows of one catalog. Safe to share between threads: one connection, one lock."""

    def __init__(self, path: Path, *, read_only: bool = False, timeout: float = 5.0) -> None:
        """Open an existing catalog; see `connect` for the arguments and for what it raises."""
        self.path = path
        self.folder = database_path(path).parent
        self.read_only = read_only
        self.lock = threading.RLock()
        self.connection = connect(path, read_only=read_only, timeout=timeout)

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
    def snapshot(self, doing: str = "read it") -> Iterator[sqlite3.Connection]:
        """As `reading`; all of the block sees the rows as they were at its first read."""
        with self.reading(doing) as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("COMMIT")

    @contextlib.contextmanager
    def writing(self, doing: str) -> Iterator[sqlite3.Connection]:
        """One transaction: all of the block is committed, or nothing where it fails or is interrupted."""
        with self.lock, translated(self.path, doing):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute(_IN_STEP)
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
        """Write one fact about the catalog, inside an open transaction."""
        self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def connect(path: Path, *, read_only: bool = False, timeout: float = 5.0) -> sqlite3.Connection:
    """Open the SQLite file of an existing catalog.

    Args:
        path: The catalog's folder, or the SQLite file in it.
        read_only: Refuse every write.
        timeout: Seconds to wait for another writer.

    Returns:
        A connection in autocommit mode: transactions are explicit.

    Raises:
        CatalogNotFoundError: If there is nothing at the path.
        CatalogCorruptError: If what is there is not a catalog, is damaged, or is of a newer format.
        CatalogLockedError: If another process holds it exclusively.
    """
    database = database_path(path)
    if not database.is_file():
        raise _absent(path)
    with translated(path, "open it"):
        connection = _open(database, read_only=read_only, timeout=timeout)
        try:
            _check_identity(path, connection)
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
    return connection


def _absent(path: Path) -> CatalogError:
    if not is_vacant(path):
        return CatalogCorruptError(f"{path}: not a catalog (a folder without {DATABASE}); name another path")
    return CatalogNotFoundError(f"{path}: no catalog here; make one with: embedspace index FOLDER --catalog {path}")


def _open(database: Path, *, read_only: bool, timeout: float) -> sqlite3.Connection:
    mode = "ro" if read_only else "rw"
    uri = f"{database.absolute().as_uri()}?mode={mode}"
    if read_only and not os.access(database.parent, os.W_OK) and not Path(f"{database}-wal").exists():
        uri += "&immutable=1"  # a WAL database on a read-only medium cannot make its shared-memory file
    return sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False)


def _check_identity(path: Path, connection: sqlite3.Connection) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        what = "an SQLite file of another application" if database_path(path).stat().st_size else "an empty file"
        raise CatalogCorruptError(f"{path}: not a catalog ({what}); name another path")
    if version > FORMAT_VERSION:
        raise CatalogCorruptError(
            f"{path}: catalog format {version}, this embedspace reads up to {FORMAT_VERSION}; upgrade embedspace"
        )
