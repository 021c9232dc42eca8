"""Removing items and places from a catalog, by filter, by place or by words."""

from __future__ import annotations

import os
from collections.abc import Iterable

from embedspace.catalog.ingest.sources import content_hash
from embedspace.catalog.records import RemoveReport
from embedspace.catalog.search.where import Condition
from embedspace.catalog.store.store import Store

__all__ = ["places_of", "places_where", "remove_places"]


def places_of(store: Store, name: str) -> list[str]:
    """Return the places that a name means: a uri, the path of a file, or the words of a text; the first that is there.

    Args:
        store: The catalog's rows.
        name: As a user writes it; a path may be relative.
    """
    for uri in (name, os.path.abspath(os.path.expanduser(name))):
        if store.rows("SELECT 1 FROM uris WHERE uri = ?1 UNION SELECT 1 FROM failures WHERE uri = ?1", (uri,)):
            return [uri]
    found = store.rows(
        "SELECT u.uri FROM uris u JOIN items i ON i.item = u.item WHERE i.id = ? ORDER BY u.place",
        (content_hash(name, "text"),),
    )
    return [uri for (uri,) in found]


def places_where(store: Store, condition: Condition) -> list[str]:
    """Return every place of the items that fulfil a condition."""
    found = store.rows(
        "SELECT u.uri FROM uris u WHERE u.item IN "
        f"(SELECT i.item FROM items i LEFT JOIN segments s ON s.item = i.item WHERE {condition.sql})",
        condition.parameters,
    )
    return [uri for (uri,) in found]


def remove_places(store: Store, uris: Iterable[str]) -> RemoveReport:
    """Forget places, and items that thereby lie nowhere, in one transaction."""
    with store.writing("remove items") as connection:
        before = connection.execute("SELECT count(*) FROM uris").fetchone()[0]
        items = store.unlink(uris)
        after = connection.execute("SELECT count(*) FROM uris").fetchone()[0]
    return RemoveReport(items, before - after)
