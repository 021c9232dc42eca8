"""Places whose content changed into something that cannot be read: no longer found, but not forgotten.

The old vectors are of bytes that are gone, so they go, too. What a manifest or the user said about the place is kept,
and is the place's again once its file can be read. A file that cannot be read at all (permissions, a failing disk) is
another matter: nothing is known of its content, so its item stays as it is.

The table is made when it is first needed; earlier versions of embedspace do not look at it.
"""

from __future__ import annotations

from collections.abc import Iterator

from embedspace.catalog.places import folder_span
from embedspace.catalog.records import Problem
from embedspace.catalog.store.database import Database

__all__ = ["damaged_places", "forget_damaged", "keep_damaged", "recall_damaged"]

_TABLE = """
CREATE TABLE IF NOT EXISTS damaged(uri TEXT PRIMARY KEY, source TEXT NOT NULL, metadata TEXT NOT NULL) WITHOUT ROWID
"""


def keep_damaged(database: Database, uri: str, source: str, metadata: str) -> None:
    """Remember the manifest of a damaged place and its metadata (JSON), inside an open transaction."""
    database.connection.execute(_TABLE)
    database.connection.execute("INSERT OR REPLACE INTO damaged VALUES (?, ?, ?)", (uri, source, metadata))


def recall_damaged(database: Database, uri: str) -> tuple[str, str] | None:
    """Return (manifest, metadata as JSON) that a damaged place had, and forget that, inside an open transaction."""
    if not _exists(database):
        return None
    found = database.connection.execute("SELECT source, metadata FROM damaged WHERE uri = ?", (uri,)).fetchone()
    if found is not None:
        database.connection.execute("DELETE FROM damaged WHERE uri = ?", (uri,))
    return found if found is None else (str(found[0]), str(found[1]))


def forget_damaged(database: Database, root: str) -> None:
    """Forget the damaged places that are, or lie in, a file, folder or manifest, inside an open transaction."""
    if _exists(database):
        inside = folder_span(root)
        database.connection.execute(
            "DELETE FROM damaged WHERE uri = ? OR source = ? OR (uri >= ? AND uri < ?)", (root, root, *inside)
        )


def damaged_places(database: Database) -> Iterator[Problem]:
    """Yield every damaged place, with what is wrong there and what to do."""
    if not _exists(database):
        return
    rows = database.rows("SELECT d.uri, f.reason FROM damaged d LEFT JOIN failures f ON f.uri = d.uri ORDER BY d.uri")
    for uri, reason in rows:
        why = f" ({reason})" if reason else ""
        yield Problem(
            "damaged file", uri,
            f"its content changed and cannot be read{why}, so it is found no longer; restore it and index it again, or "
            "index its folder with prune=True (--prune) to forget it",
        )  # fmt: skip


def _exists(database: Database) -> bool:
    return bool(database.rows("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'damaged'"))
