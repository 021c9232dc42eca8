"""The SQLite file of a catalog: its tables, and how it is made whole or not at all."""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Mapping
from pathlib import Path

from embedspace.errors import CatalogExistsError

__all__ = [
    "APPLICATION_ID",
    "DATABASE",
    "FIELD_VALUES",
    "FORMAT_VERSION",
    "VALUES_FACTS",
    "create_schema",
    "database_path",
    "exists",
    "is_vacant",
]

DATABASE = "catalog.sqlite"
APPLICATION_ID = 0x656D6273
"""ASCII "embs": how `file(1)` and `connect` tell a catalog from any other SQLite file."""
FORMAT_VERSION = 1

FIELD_VALUES = (
    "CREATE TABLE IF NOT EXISTS field_values(field TEXT NOT NULL, value NOT NULL, item INTEGER NOT NULL, "
    "PRIMARY KEY(field, value, item)) WITHOUT ROWID"
)
"""Derived from the metadata of items, see `filters.values`; catalogs of earlier versions get it when opened."""
VALUES_FACTS = {"values_item": -1, "values_revision": 0, "metadata_changes": 0}
"""What a new catalog says of that table: all items are in it (-1; else up to which), as of which revision of the
catalog, and how often the metadata of an item that was there has changed."""
_SCHEMA = f"""
{FIELD_VALUES};
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
-- AUTOINCREMENT: a sequence number is never given twice, so an index can say up to which one it knows.
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
        connection.executemany("INSERT INTO meta VALUES (?, ?)", {**VALUES_FACTS, **facts}.items())
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
