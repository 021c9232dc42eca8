"""The SQLite file of a catalog: its tables, how it is opened, and what each of its errors means to a user."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from embedspace.errors import (
    CatalogCorruptError,
    CatalogError,
    CatalogExistsError,
    CatalogLockedError,
    CatalogNotFoundError,
    StorageFullError,
)

__all__ = [
    "APPLICATION_ID",
    "DATABASE",
    "FORMAT_VERSION",
    "connect",
    "create_schema",
    "database_path",
    "exists",
    "is_vacant",
    "translated",
]

DATABASE = "catalog.sqlite"
APPLICATION_ID = 0x656D6273
"""ASCII "embs": how `file(1)` and `connect` tell a catalog from any other SQLite file."""
FORMAT_VERSION = 1

_SCHEMA = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE fingerprints(modality TEXT PRIMARY KEY, digest TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE fields(name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE items(
    item INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    as_modality TEXT NOT NULL,
    facts TEXT NOT NULL,
    metadata TEXT NOT NULL,
    content TEXT,
    digest BLOB NOT NULL
);
CREATE TABLE uris(
    place INTEGER PRIMARY KEY,
    uri TEXT NOT NULL UNIQUE,
    folder TEXT NOT NULL,
    source TEXT NOT NULL,
    item INTEGER NOT NULL REFERENCES items(item) ON DELETE CASCADE,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    metadata TEXT NOT NULL
);
CREATE INDEX uris_item ON uris(item);
CREATE INDEX uris_folder ON uris(folder);
CREATE INDEX uris_source ON uris(source);
-- AUTOINCREMENT: a sequence number is never given twice, so whatever is derived can say up to which one it knows.
CREATE TABLE segments(
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    item INTEGER NOT NULL REFERENCES items(item) ON DELETE CASCADE,
    modality TEXT NOT NULL,
    start REAL,
    "end" REAL,
    text TEXT NOT NULL,
    label TEXT NOT NULL
);
CREATE INDEX segments_item ON segments(item);
CREATE INDEX segments_modality ON segments(modality);
CREATE TABLE vectors(
    seq INTEGER PRIMARY KEY REFERENCES segments(seq) ON DELETE CASCADE,
    vector BLOB NOT NULL
);
CREATE TABLE failures(
    uri TEXT PRIMARY KEY,
    folder TEXT NOT NULL,
    reason TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX failures_folder ON failures(folder);
-- Vectors of an unfinished migration: kept apart, so that searches stay right until all of them change at once.
CREATE TABLE staged(
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    item INTEGER NOT NULL REFERENCES items(item) ON DELETE CASCADE,
    digest TEXT NOT NULL,
    modality TEXT NOT NULL,
    start REAL,
    "end" REAL,
    text TEXT NOT NULL,
    label TEXT NOT NULL,
    vector BLOB NOT NULL
);
CREATE INDEX staged_item ON staged(item);
"""


def database_path(path: Path) -> Path:
    """Return the SQLite file of a catalog, given its folder or the file itself."""
    return path if path.is_file() else path / DATABASE


@contextlib.contextmanager
def translated(path: Path, doing: str) -> Iterator[None]:
    """Turn SQLite's and the disk's errors into the catalog's.

    Args:
        path: The catalog, for the message.
        doing: What was tried, for the message.

    Raises:
        CatalogLockedError: If another process holds the write lock for longer than the busy timeout.
        StorageFullError: If the disk is full.
        CatalogCorruptError: If the file is not a catalog, or is damaged.
        CatalogError: For anything else that SQLite or the disk refuses.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise _explain(path, doing, error) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(path, doing) from error
        raise CatalogError(f"{path}: cannot {doing}: {error.strerror or error}") from error


def _full(path: Path, doing: str) -> StorageFullError:
    return StorageFullError(
        f"{path}: the disk is full, cannot {doing}; what was committed before is intact. "
        "Free some space and run the same command again: it goes on where it stopped"
    )


def _explain(path: Path, doing: str, error: sqlite3.Error) -> CatalogError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return CatalogLockedError(
            f"{path}: another process is writing to this catalog, cannot {doing}; wait for it to finish "
            "(searching works meanwhile), then run the same command again"
        )
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _no_space(path)):
        return _full(path, doing)
    if code == sqlite3.SQLITE_NOTADB:  # perhaps a file of the user's: nothing that should be deleted
        return CatalogCorruptError(
            f"{path}: not a catalog, or one whose beginning is damaged ({error}); name another path, or restore the "
            "catalog from a copy"
        )
    if code == sqlite3.SQLITE_CORRUPT or (code == sqlite3.SQLITE_ERROR and str(error).startswith("no such ")):
        return CatalogCorruptError(
            f"{path}: the catalog is damaged, cannot {doing} ({error}); restore it from a copy, "
            "or delete it and index again"
        )
    if code == sqlite3.SQLITE_READONLY:
        return CatalogError(f"{path}: the catalog is read-only, cannot {doing}; check the permissions of its folder")
    if code == sqlite3.SQLITE_CANTOPEN:
        return CatalogError(
            f"{path}: cannot {doing}: {DATABASE}, or what SQLite keeps beside it (-wal, -shm), cannot be opened "
            "or made; check the permissions of the folder and of the files in it"
        )
    if code == sqlite3.SQLITE_IOERR:
        return CatalogError(
            f"{path}: cannot {doing}: its drive reports an error ({error.sqlite_errorname}); check that it is "
            f"mounted and sound, then run: embedspace catalog verify {path}"
        )
    return CatalogError(f"{path}: cannot {doing}: {error}")


def _no_space(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return shutil.disk_usage(path).free < 1 << 20
    return False


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


def is_vacant(path: Path) -> bool:
    """Return whether a catalog may be made at a path: nothing there, or what an interrupted creation left."""
    if not path.is_dir():
        return not path.exists()
    return all(entry.name.startswith(f"{DATABASE}.partial") for entry in path.iterdir())


def create_schema(path: Path, facts: Mapping[str, str | int], fingerprints: Mapping[str, str]) -> None:
    """Make an empty catalog in WAL mode: complete, or not there at all.

    Args:
        path: The catalog's folder.
        facts: The rows of `meta`.
        fingerprints: Modality -> digest.

    Raises:
        CatalogExistsError: If another process made one there meanwhile.
    """
    path.mkdir(parents=True, exist_ok=True)
    name = f"{DATABASE}.partial-{uuid.uuid4().hex}"
    leftovers = f"{name}*"
    try:
        _write_schema(path / name, facts, fingerprints)
        _move_once(path / name, path / DATABASE)
        leftovers = f"{DATABASE}.partial*"  # those of processes that were killed, or that come too late, as well
    except (OSError, sqlite3.Error):
        if (path / DATABASE).exists():
            raise exists(path) from None
        raise
    finally:
        for leftover in path.glob(leftovers):
            leftover.unlink(missing_ok=True)


def exists(path: Path) -> CatalogExistsError:
    """Return the error for a new catalog where something is already."""
    return CatalogExistsError(f"{path}: exists already; open it, or choose another path")


def _write_schema(partial: Path, facts: Mapping[str, str | int], fingerprints: Mapping[str, str]) -> None:
    connection = sqlite3.connect(partial, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA}")
        connection.executemany("INSERT INTO meta VALUES (?, ?)", facts.items())
        connection.executemany("INSERT INTO fingerprints VALUES (?, ?)", fingerprints.items())
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        connection.execute("COMMIT")
    finally:
        connection.close()


def _move_once(partial: Path, target: Path) -> None:
    """Give a finished file its name unless the name is taken: a rename would replace what another process made."""
    try:
        os.link(partial, target)
    except FileExistsError:
        raise
    except OSError:  # a medium without hard links: the name is taken by an empty file first
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            partial.replace(target)
        except OSError:
            target.unlink()
            raise
