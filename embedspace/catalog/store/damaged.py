"""Places whose content changed into something that cannot be read: found no longer, but not forgotten.

The old vectors are of bytes that are gone, so they go, too. What a manifest or the user said about the place is kept,
and is the place's again once its file can be read. A file that cannot be read at all (permissions, a failing disk) is
another matter: nothing is known of its content, so its item stays as it is.

The table is made when it is first needed; earlier versions of embedspace do not look at it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from embedspace.catalog.records import Problem

if TYPE_CHECKING:
    from embedspace.catalog.store.store import Store

__all__ = ["damaged_places", "forget_damaged", "mark_damaged", "recall_damaged"]

_TABLE = """
CREATE TABLE IF NOT EXISTS damaged(uri TEXT PRIMARY KEY, source TEXT NOT NULL, metadata TEXT NOT NULL) WITHOUT ROWID
"""


def mark_damaged(store: Store, uri: str, kind: str, content_id: str) -> bool:
    """Forget what was at a place if it is no longer there, inside an open transaction.

    Args:
        store: The catalog's rows.
        uri: The place.
        kind: What was to be read there; a place that holds an item of another kind is left alone.
        content_id: Of the unreadable content that is there now.

    Returns:
        Whether an item was found there until now.
    """
    found = store.connection.execute(
        "SELECT u.source, u.metadata FROM uris u JOIN items i ON i.item = u.item "
        "WHERE u.uri = ? AND i.kind = ? AND i.id != ?",
        (uri, kind, content_id),
    ).fetchone()
    if found is None:
        return False
    store.connection.execute(_TABLE)
    store.unlink([uri])
    store.connection.execute("INSERT OR REPLACE INTO damaged VALUES (?, ?, ?)", (uri, *found))
    return True


def recall_damaged(store: Store, uri: str) -> tuple[str, str] | None:
    """Return (manifest, metadata as JSON) that a damaged place had, and forget that, inside an open transaction."""
    if not _exists(store):
        return None
    found = store.connection.execute("SELECT source, metadata FROM damaged WHERE uri = ?", (uri,)).fetchone()
    if found is not None:
        store.connection.execute("DELETE FROM damaged WHERE uri = ?", (uri,))
    return found if found is None else (str(found[0]), str(found[1]))


def forget_damaged(store: Store, root: str) -> None:
    """Forget the damaged places that are, or lie in, a file, folder or manifest, inside an open transaction."""
    if _exists(store):
        inside = (f"{root.rstrip('/')}/", f"{root.rstrip('/')}0")  # "0" follows "/"
        store.connection.execute(
            "DELETE FROM damaged WHERE uri = ? OR source = ? OR (uri >= ? AND uri < ?)", (root, root, *inside)
        )


def damaged_places(store: Store) -> Iterator[Problem]:
    """Yield every damaged place, with what is wrong there and what to do."""
    if not _exists(store):
        return
    rows = store.rows("SELECT d.uri, f.reason FROM damaged d LEFT JOIN failures f ON f.uri = d.uri ORDER BY d.uri")
    for uri, reason in rows:
        why = f" ({reason})" if reason else ""
        yield Problem(
            "damaged file", uri,
            f"its content changed and cannot be read{why}, so it is found no longer; restore it and index it again, or "
            "index its folder with --prune to forget it",
        )  # fmt: skip


def _exists(store: Store) -> bool:
    return bool(store.rows("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'damaged'"))
