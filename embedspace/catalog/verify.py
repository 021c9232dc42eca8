"""Proof that vectors, items, files and what is derived from them agree."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from embedspace.catalog.content_ids import content_hash, file_hash
from embedspace.catalog.index.ann.files import sound_index
from embedspace.catalog.index.packed import load_packed
from embedspace.catalog.index.parts import MANIFEST, PACKED, load_parts, read_manifest
from embedspace.catalog.places import is_gone, manifest_of
from embedspace.catalog.records import Problem, VerifyReport
from embedspace.catalog.store.audit import (
    StoredItem,
    homeless_items,
    stored_items,
    structural_faults,
    unknown_encoders,
)
from embedspace.catalog.store.contents import count_items, count_segments
from embedspace.catalog.store.damaged import damaged_places
from embedspace.catalog.store.digests import segments_digest
from embedspace.catalog.store.filters.values import values_agree
from embedspace.catalog.store.store import Store
from embedspace.catalog.store.uris import Place, place_pages
from embedspace.catalog.store.vectors import vector_bytes
from embedspace.errors import CatalogError

__all__ = ["verify"]

_NORM_TOLERANCE = 5e-3


def verify(store: Store, *, files: bool = True) -> VerifyReport:
    """Check a catalog.

    Args:
        store: The rows of an open catalog.
        files: Read every file, too, and compare its content with the id of its item.

    Returns:
        What was checked, and every problem found.
    """
    store.state()  # a migration in another process may have changed the length of the vectors
    problems = list(_database(store))
    items = segments = checked = 0
    if not problems:
        items, segments = count_items(store), count_segments(store)
        problems.extend(_items(store))
        problems.extend(
            Problem("fingerprint", modality, "nothing says which encoder made its vectors; migrate the catalog")
            for modality in unknown_encoders(store)
        )
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
        for fault in structural_faults(store):
            yield Problem("database", str(store.path), fault)
    except CatalogError as error:
        yield Problem("database", str(store.path), str(error))


def _items(store: Store) -> Iterator[Problem]:
    for item in stored_items(store):
        problem = _item(item, store.embed_dim)
        if problem is not None:
            yield problem
    for content_id in homeless_items(store):
        yield Problem("item", content_id, "lies nowhere; remove it, or index its file again")


def _item(item: StoredItem, embed_dim: int) -> Problem | None:
    if not item.segments:
        return Problem("item", item.content_id, "has no segments; remove it, then index its file again")
    vectors = [row[-1] for row in item.segments]
    if any(vector is None or len(vector) != 2 * embed_dim for vector in vectors):
        return Problem("vector", item.content_id, "a vector is missing or has the wrong length; index its file again")
    matrix = np.frombuffer(b"".join(vectors), "<f2").reshape(len(vectors), -1).astype(np.float32)
    if not np.all(np.abs(np.linalg.norm(matrix, axis=1) - 1.0) <= _NORM_TOLERANCE):
        return Problem("vector", item.content_id, "a vector is not of unit norm; index its file again")
    if segments_digest(item.content_id, item.segments) != item.digest:
        return Problem(
            "vector", item.content_id, "its segments or vectors were changed after indexing; index its file again"
        )
    return None


def _derived(store: Store) -> Iterator[Problem]:
    """What is derived and merely old or absent is no problem: it is made anew when needed."""
    if not values_agree(store):
        detail = f"differs from the metadata of the items; run: embedspace catalog optimize {store.path}"
        yield Problem("derived file", "field_values", detail)
    for path in sorted(store.folder.glob("[!.]*.faiss")):  # not those that a killed process left half-written
        if not sound_index(path):
            yield Problem("derived file", path.name, f"damaged; {_advice(path)}")
    manifest = read_manifest(store)
    named = [] if manifest is None else [store.folder / str(entry["file"]) for entry in manifest["parts"]]
    unreadable = [path for path in {store.folder / PACKED, *named} if load_packed(path, store.catalog_id) is None]
    for path in [*unreadable, *([store.folder / MANIFEST] if manifest is None else [])]:
        if path.exists():
            yield Problem("derived file", path.name, f"damaged, or of another catalog; {_advice(path)}")
            return
    for part in load_parts(store, check=False).parts:
        path = store.folder / part.name
        for modality, rows in part.packed.rows.items():
            if not part.packed.sound(modality):
                yield Problem("derived file", part.name, f"damaged; {_advice(path)}")
                return
            for first in range(0, len(rows.seq), 8192):
                some = slice(first, first + 8192)
                seq = rows.seq[some].tolist()
                found = vector_bytes(store, seq)
                for number, vector in zip(seq, rows.vectors[some], strict=True):
                    if number in found and found[number] != vector.tobytes():
                        yield Problem("derived file", part.name, f"{modality} vector {number} differs; {_advice(path)}")
                        return


def _advice(path: Path) -> str:
    return f"delete {path}: it is written anew when the catalog is next changed or optimized"


def _files(store: Store) -> Iterator[Problem | None]:
    """Yield one result per place: a problem, or `None`."""
    for page in place_pages(store):
        for place in page:
            yield _file(place)


def _file(place: Place) -> Problem | None:
    uri, source, content_id, kind, content = place
    if content is not None and content_hash(json.loads(content), kind) != content_id:
        return Problem("item", uri, "its stored text is not the one that was indexed; index it again")
    if not os.path.isabs(uri):
        return None  # a name that the caller made up, not a file
    try:
        if is_gone(uri, source):
            return Problem(
                "missing file",
                uri,
                "gone, or not a regular file any more; index its folder with prune=True (--prune) to forget it",
            )
        if content is None and manifest_of(uri, source) is None and file_hash(uri, kind) != content_id:
            return Problem("changed file", uri, "its content is no longer what was indexed; index it again")
    except OSError as error:
        return Problem("missing file", uri, f"cannot be read ({error.strerror or error})")
    return None
