"""Proof that vectors, items, files and what is derived from them agree."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from embedspace.catalog.index.packed import PACKED, load_packed
from embedspace.catalog.ingest.places import is_gone, manifest_of
from embedspace.catalog.ingest.sources import content_hash, file_hash
from embedspace.catalog.records import Problem, VerifyReport
from embedspace.catalog.store.damaged import damaged_places
from embedspace.catalog.store.store import Store, segments_digest
from embedspace.errors import CatalogError

if TYPE_CHECKING:
    from embedspace.catalog.catalog import Catalog

__all__ = ["verify"]

_NORM_TOLERANCE = 5e-3


def verify(catalog: Catalog, *, files: bool = True) -> VerifyReport:
    """Check a catalog.

    Args:
        catalog: An open catalog.
        files: Read every file, too, and compare its content with the id of its item.

    Returns:
        What was checked, and every problem found.
    """
    store = catalog.store
    problems = list(_database(store))
    items = segments = checked = 0
    if not problems:
        items = len(catalog)
        segments = int(store.rows("SELECT count(*) FROM segments")[0][0])
        problems.extend(_items(store))
        problems.extend(_fingerprints(store))
        problems.extend(damaged_places(store))
        problems.extend(_derived(store))
        if files:
            for problem in _files(store):
                checked += 1
                if problem is not None:
                    problems.append(problem)
    return VerifyReport(items, segments, checked, tuple(problems))


def _database(store: Store) -> Iterator[Problem]:
    try:
        for (message,) in store.rows("PRAGMA integrity_check(20)"):
            if message != "ok":
                yield Problem("database", str(store.path), f"{message}; restore it from a copy, or index again")
        for table, row, *_ in store.rows("PRAGMA foreign_key_check"):
            yield Problem("database", str(store.path), f"row {row} of {table} belongs to nothing")
    except CatalogError as error:
        yield Problem("database", str(store.path), str(error))


_SEGMENTS = """
SELECT i.item, i.id, i.digest, s.seq, s.modality, s.start, s."end", s.text, s.label, v.vector FROM items i
LEFT JOIN segments s ON s.item = i.item LEFT JOIN vectors v ON v.seq = s.seq
WHERE i.item > ? ORDER BY i.item, s.seq LIMIT 20000
"""


def _items(store: Store) -> Iterator[Problem]:
    """Walk over all segments, item by item; a page ends within an item, which then starts the next page."""
    last = 0
    while rows := store.rows(_SEGMENTS, (last,)):
        groups = [list(group) for _, group in itertools.groupby(rows, key=lambda row: row[0])]
        if len(groups) > 1 and len(rows) == 20000:
            groups.pop()
        elif len(rows) == 20000:  # one item larger than a page
            groups = [store.rows(_SEGMENTS.replace("i.item > ?", "i.item = ?").replace("LIMIT 20000", ""), rows[0][:1])]
        for group in groups:
            yield from _item(store, group)
        last = groups[-1][0][0]
    for (content_id,) in store.rows("SELECT id FROM items WHERE item NOT IN (SELECT item FROM uris)"):
        yield Problem("item", content_id, "lies nowhere; remove it, or index its file again")


def _item(store: Store, rows: list[tuple[Any, ...]]) -> Iterator[Problem]:
    _, content_id, digest = rows[0][:3]
    if rows[0][3] is None:
        yield Problem("item", content_id, "has no segments; remove it, then index its file again")
        return
    vectors = [row[9] for row in rows]
    if any(vector is None or len(vector) != 2 * store.embed_dim for vector in vectors):
        yield Problem("vector", content_id, "a vector is missing or has the wrong length; index its file again")
        return
    matrix = np.frombuffer(b"".join(vectors), "<f2").reshape(len(rows), -1).astype(np.float32)
    if not np.all(np.abs(np.linalg.norm(matrix, axis=1) - 1.0) <= _NORM_TOLERANCE):
        yield Problem("vector", content_id, "a vector is not of unit norm; index its file again")
    elif segments_digest(content_id, (row[4:] for row in rows)) != digest:
        yield Problem("vector", content_id, "its segments or vectors were changed after indexing; index its file again")


def _fingerprints(store: Store) -> Iterator[Problem]:
    rows = store.rows(
        "SELECT DISTINCT modality FROM segments WHERE modality NOT IN (SELECT modality FROM fingerprints)"
    )
    for (modality,) in rows:
        yield Problem("fingerprint", modality, "nothing says which encoder made its vectors; migrate the catalog")


def _derived(store: Store) -> Iterator[Problem]:
    """What is derived and merely old or absent is no problem: it is made anew when needed."""
    if not (store.folder / PACKED).exists():
        return
    advice = f"delete {store.folder / PACKED}: the next search writes it anew"
    packed = load_packed(store, check=True)
    if packed is None:
        yield Problem("derived file", PACKED, f"damaged, or of another catalog; {advice}")
        return
    for modality, rows in packed.rows.items():
        for first in range(0, len(rows.seq), 8192):
            some = slice(first, first + 8192)
            seq = rows.seq[some].tolist()
            marks = ",".join("?" * len(seq))
            found = dict(store.rows(f"SELECT seq, vector FROM vectors WHERE seq IN ({marks})", seq))
            for number, vector in zip(seq, rows.vectors[some], strict=True):
                if number in found and found[number] != vector.tobytes():
                    yield Problem("derived file", PACKED, f"{modality} vector {number} differs; {advice}")
                    return


def _files(store: Store) -> Iterator[Problem | None]:
    """Yield one result a place: a problem, or `None`."""
    place = 0
    while rows := store.rows(
        "SELECT u.place, u.uri, u.source, i.id, i.kind, i.content FROM uris u JOIN items i ON i.item = u.item "
        "WHERE u.place > ? ORDER BY u.place LIMIT 1000",
        (place,),
    ):
        for _, uri, source, content_id, kind, content in rows:
            yield _file(uri, source, content_id, kind, content)
        place = rows[-1][0]


def _file(uri: str, source: str, content_id: str, kind: str, content: str | None) -> Problem | None:
    if content is not None and content_hash(json.loads(content), kind) != content_id:
        return Problem("item", uri, "its stored text is not the one that was indexed; index it again")
    if not os.path.isabs(uri):
        return None  # a name that the caller made up, not a file
    try:
        if is_gone(uri, source):
            return Problem(
                "missing file", uri, "gone, or not a regular file any more; index its folder with --prune to forget it"
            )
        if content is None and manifest_of(uri, source) is None and file_hash(uri, kind) != content_id:
            return Problem("changed file", uri, "its content is no longer what was indexed; index it again")
    except OSError as error:
        return Problem("missing file", uri, f"cannot be read ({error.strerror or error})")
    return None
