"""Queries over places: which are known, where an item lies, what lies in a folder or a manifest."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from embedspace.catalog.content_ids import content_hash
from embedspace.catalog.places import folder_span, manifest_of
from embedspace.catalog.records import RemoveReport
from embedspace.catalog.store.filters.plan import matching_items
from embedspace.catalog.store.filters.where import Condition
from embedspace.catalog.store.store import Store

__all__ = [
    "KnownFailure",
    "KnownPlace",
    "Place",
    "failures_under",
    "item_at",
    "item_of",
    "known_failures",
    "known_places",
    "place_pages",
    "places_from",
    "places_of",
    "places_of_item",
    "places_under",
    "places_where",
    "remove_places",
]


class KnownPlace(NamedTuple):
    """What the catalog knows of a place: of its file, and of the item that lies there."""

    size: int
    mtime_ns: int
    metadata: str
    as_modality: str
    content_id: str


class KnownFailure(NamedTuple):
    """A place that could not be indexed, and why."""

    size: int
    mtime_ns: int
    reason: str


class Place(NamedTuple):
    """A place and the item that lies there; `content` is the text (JSON) of one that has no file."""

    uri: str
    source: str
    content_id: str
    kind: str
    content: str | None


def known_places(store: Store, uris: Sequence[str]) -> dict[str, KnownPlace]:
    """Return uri -> what is known of it, of those that are places of an item."""
    rows = store.rows(
        "SELECT u.uri, u.size, u.mtime_ns, u.metadata, i.as_modality, i.id FROM uris u "
        f"JOIN items i ON i.item = u.item WHERE u.uri IN ({_marks(uris)})",
        uris,
    )
    return {row[0]: KnownPlace(*row[1:]) for row in rows}


def known_failures(store: Store, uris: Sequence[str]) -> dict[str, KnownFailure]:
    """Return uri -> why it could not be indexed, of those that could not."""
    rows = store.rows(f"SELECT uri, size, mtime_ns, reason FROM failures WHERE uri IN ({_marks(uris)})", uris)
    return {row[0]: KnownFailure(*row[1:]) for row in rows}


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))


def item_of(store: Store, content_id: str) -> tuple[int, str] | None:
    """Return (item number, modality that the user imposed) of the item with some content."""
    found = store.rows("SELECT item, as_modality FROM items WHERE id = ?", (content_id,))
    return (found[0][0], found[0][1]) if found else None


def item_at(store: Store, uri: str) -> int | None:
    """Return the number of the item that lies at a place."""
    found = store.rows("SELECT item FROM uris WHERE uri = ?", (uri,))
    return found[0][0] if found else None


def places_of_item(store: Store, number: int) -> list[tuple[str, str]]:
    """Return (uri, manifest) of an item's places, the oldest first."""
    return [
        (uri, source)
        for uri, source in store.rows("SELECT uri, source FROM uris WHERE item = ? ORDER BY place", (number,))
    ]


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
    with store.snapshot("filter it"):
        among, values = matching_items(store, condition)
        return [uri for (uri,) in store.rows(f"SELECT uri FROM uris WHERE item IN ({among})", values)]


def places_from(store: Store, manifest: str) -> list[tuple[str, str]]:
    """Return (uri, manifest) of all places that a manifest named."""
    return [(uri, source) for uri, source in store.rows("SELECT uri, source FROM uris WHERE source = ?", (manifest,))]


def places_under(store: Store, folder: str) -> list[tuple[str, str]]:
    """Return (uri, manifest) of the files in a folder, and of the rows of manifests in it."""
    span = folder_span(folder)
    rows = store.rows(
        "SELECT uri, source FROM uris WHERE uri >= ? AND uri < ? UNION "
        "SELECT uri, source FROM uris WHERE source >= ? AND source < ?",
        (*span, *span),
    )
    return [(uri, source) for uri, source in rows if uri.startswith(span[0]) or manifest_of(uri, source) is not None]


def failures_under(store: Store, folder: str) -> list[str]:
    """Return the places in a folder that could not be indexed."""
    return [uri for (uri,) in store.rows("SELECT uri FROM failures WHERE uri >= ? AND uri < ?", folder_span(folder))]


def place_pages(store: Store, size: int = 1000) -> Iterator[list[Place]]:
    """Yield all places, oldest first, so many at a time."""
    place = 0
    while rows := store.rows(
        "SELECT u.place, u.uri, u.source, i.id, i.kind, i.content FROM uris u JOIN items i ON i.item = u.item "
        "WHERE u.place > ? ORDER BY u.place LIMIT ?",
        (place, size),
    ):
        yield [Place(*row[1:]) for row in rows]
        place = rows[-1][0]


def remove_places(store: Store, uris: Iterable[str]) -> RemoveReport:
    """Forget places, failures there, and items that thereby lie nowhere, in one transaction."""
    with store.writing("remove items"):
        before = _counts(store)
        items = store.unlink(uris)
        after = _counts(store)
    return RemoveReport(items, before[0] - after[0], before[1] - after[1])


def _counts(store: Store) -> tuple[int, int]:
    places, failures = store.rows("SELECT (SELECT count(*) FROM uris), (SELECT count(*) FROM failures)")[0]
    return int(places), int(failures)
