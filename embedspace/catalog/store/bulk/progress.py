"""How far imports are: which rows of which file are in the catalog, written with those rows.

The table is made when it is first needed, and a finished import leaves nothing in it.
"""

from __future__ import annotations

from collections.abc import Iterable

from embedspace.catalog.store.store import Store

__all__ = ["forget_imports", "imported_rows", "note_import"]

_TABLE = (
    "CREATE TABLE IF NOT EXISTS imports(path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, "
    "rows INTEGER NOT NULL) WITHOUT ROWID"
)


def imported_rows(store: Store, path: str, size: int, mtime_ns: int) -> int:
    """Return how many rows of a file an unfinished import has written; 0 where the file is another by now."""
    if not store.rows("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'imports'"):
        return 0
    found = store.rows("SELECT rows FROM imports WHERE path = ? AND size = ? AND mtime_ns = ?", (path, size, mtime_ns))
    return int(found[0][0]) if found else 0


def note_import(store: Store, path: str, size: int, mtime_ns: int, rows: int) -> None:
    """Record how many rows of a file are written, inside the transaction that writes the last of them."""
    store.connection.execute(_TABLE)
    store.connection.execute("INSERT OR REPLACE INTO imports VALUES (?, ?, ?, ?)", (path, size, mtime_ns, rows))


def forget_imports(store: Store, paths: Iterable[str]) -> None:
    """Forget finished imports, in one transaction."""
    with store.writing("finish the import") as connection:
        connection.execute(_TABLE)
        connection.executemany("DELETE FROM imports WHERE path = ?", ((path,) for path in paths))
