"""What there is to index: files, folders and manifests, as one stream of candidates in a stable order."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedspace.catalog.content_ids import content_hash
from embedspace.catalog.ingest.manifests import FOLDER_METADATA, BadRow, row_of
from embedspace.catalog.ingest.tables import read_rows
from embedspace.catalog.places import MANIFEST_SUFFIXES, NOT_REGULAR, manifest_of, row_uri
from embedspace.catalog.records import Failure
from embedspace.catalog.store.schema import DATABASE
from embedspace.errors import InputError, MissingExtraError, UnknownModalityError
from embedspace.modality import holds_several, kind_of, kind_of_modality, modality_of

__all__ = ["Candidate", "Skipped", "chunks", "scan"]

_HELD = 64 << 20
"""Bytes that the rows of one chunk may hold, about."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One file or row that could become an item.

    Attributes:
        uri: Where it is.
        kind: "image", "audio", "text", "video" or another that is registered.
        size: Bytes.
        mtime_ns: Modification time of the file; 0 for a row.
        as_modality: "audio" or "speech" where the user or the row says so, or another of several that its kind holds.
        content: The text of a row that has no file.
        embedded: The bytes of a file that its manifest holds.
        content_hash: Known without reading a file; empty for a file.
        manifest: Where it is named, empty for a file found in a folder.
        metadata: What the manifest says about it.
    """

    uri: str
    kind: str
    size: int
    mtime_ns: int
    as_modality: str = ""
    content: str | dict[str, str] | None = None
    embedded: bytes | None = None
    content_hash: str = ""
    manifest: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file whose suffix says that there is nothing to encode in it."""

    uri: str
    suffix: str


def scan(
    source: str | Path,
    *,
    as_modality: str | None = None,
    text_fields: Sequence[str] | None = None,
) -> Iterator[Candidate | Skipped | Failure]:
    """Yield what a file, folder or manifest holds.

    Args:
        source: A media file, a folder (searched recursively; hidden names and catalogs are left out), or a manifest.
        as_modality: What the user says recordings are: "audio" or "speech"; also the kind of a file named explicitly
            whose suffix does not say it.
        text_fields: Columns of a manifest that hold the text of a row without a file.

    Raises:
        InputError: If the source does not exist, cannot be looked at, or is a manifest that cannot be read.
    """
    path = Path(os.path.abspath(source))
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such file or folder") from None
    except OSError as error:
        raise InputError(f"{path}: cannot look at it: {error.strerror or error}") from error
    if stat.S_ISDIR(mode):
        yield from _folder(path, as_modality)
    elif path.suffix.lower() in MANIFEST_SUFFIXES:
        yield from _manifest(path, as_modality, text_fields)
    else:
        yield _file(str(path), as_modality)


def chunks(
    found: Iterable[Candidate | Skipped | Failure], count: int, nbytes: int = _HELD
) -> Iterator[list[Candidate | Skipped | Failure]]:
    """Divide what `scan` yields into lists of `count`, shorter where what rows hold themselves exceeds `nbytes`."""
    chunk: list[Candidate | Skipped | Failure] = []
    held = 0
    for entry in found:
        chunk.append(entry)
        if isinstance(entry, Candidate) and entry.content_hash:
            held += entry.size
        if len(chunk) >= count or held >= nbytes:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _file(uri: str, as_modality: str | None) -> Candidate | Failure:
    """A file that was named explicitly: a suffix that says nothing is a failure, unless the user says what it is."""
    try:
        kind = modality_of(uri)
    except UnknownModalityError as error:
        if as_modality is None:
            return Failure(uri, str(error))
        kind = kind_of_modality(as_modality)
    try:
        return _candidate(uri, kind, os.stat(uri), as_modality)
    except OSError as error:
        return Failure(uri, f"cannot read it: {error.strerror or error}")


def _candidate(uri: str, kind: str, facts: os.stat_result, as_modality: str | None) -> Candidate | Failure:
    if not stat.S_ISREG(facts.st_mode):
        return Failure(uri, NOT_REGULAR)
    manifest = manifest_of(uri) if "#" in uri else None
    if manifest is not None and os.path.isfile(manifest):
        return Failure(uri, f"it is called like a row of {manifest}; rename it")
    return Candidate(uri, kind, facts.st_size, facts.st_mtime_ns, _imposed(kind, as_modality))


def _imposed(kind: str, as_modality: str | None) -> str:
    """Return the modality that a file is taken as, where one kind of file holds several and one of them is wanted."""
    return as_modality if as_modality and kind_of_modality(as_modality) == kind and holds_several(kind) else ""


def _folder(root: Path, as_modality: str | None) -> Iterator[Candidate | Skipped | Failure]:
    pending, visited = [str(root)], set[tuple[int, int]]()
    described: dict[str, Candidate] = {}
    while pending:
        folder = pending.pop()
        try:
            facts = os.stat(folder)
            if (facts.st_dev, facts.st_ino) in visited:
                continue  # a link back into a folder above
            visited.add((facts.st_dev, facts.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            yield Failure(folder, f"cannot list the folder: {error.strerror or error}")
            continue
        names = {entry.name for entry in entries}
        if DATABASE in names:
            continue  # a catalog
        tables: set[str] = set()
        for name in FOLDER_METADATA:
            if name in names and not os.path.isdir(f"{folder}/{name}"):
                found, failures = _described(Path(folder) / name)
                described.update(found)
                yield from failures
                tables.update([name] if found or failures else [])
        subfolders = []
        for entry in entries:
            if entry.name.startswith(".") or entry.name in tables:
                continue
            try:
                is_folder = entry.is_dir()
            except OSError as error:  # a link to itself, or into a folder that may not be entered
                yield Failure(entry.path, f"cannot look at it: {error.strerror or error}")
                continue
            if is_folder:
                subfolders.append(entry.path)
            else:
                yield _entry(entry, as_modality, described)
        pending.extend(reversed(subfolders))


def _entry(
    entry: os.DirEntry[str], as_modality: str | None, described: dict[str, Candidate]
) -> Candidate | Skipped | Failure:
    suffix = os.path.splitext(entry.name)[1].lower()
    kind = kind_of(entry.name)
    if kind is None:
        return Skipped(entry.path, suffix or "(none)")
    try:
        found = _candidate(entry.path, kind, entry.stat(), as_modality)
    except OSError as error:
        return Failure(entry.path, f"cannot read it: {error.strerror or error}")
    known = described.pop(entry.path, None)
    if known is None or isinstance(found, Failure):
        return found
    return dataclasses.replace(found, manifest=known.manifest, metadata=known.metadata, as_modality=known.as_modality)


def _described(manifest: Path) -> tuple[dict[str, Candidate], list[Failure]]:
    """Return file -> what a folder's metadata file says of it, and its bad rows; neither where it is another table."""
    found: dict[str, Candidate] = {}
    failures: list[Failure] = []
    try:
        for number, raw in enumerate(read_rows(manifest), 1):
            row = raw if isinstance(raw, BadRow) else row_of(raw, number)
            if isinstance(row, BadRow) or not row.path:
                reason = row.reason if isinstance(row, BadRow) else "it names no file"
                failures.append(Failure(row_uri(manifest, str(number)), reason))
                continue
            uri = os.path.normpath(manifest.parent / row.path)
            modality = row.modality if kind_of_modality(row.modality) != row.modality else ""
            found[uri] = Candidate(uri, "", 0, 0, modality, manifest=str(manifest), metadata=row.metadata or {})
    except (InputError, MissingExtraError) as error:
        return found, [*failures, Failure(str(manifest), str(error))]
    return (found, failures) if found else ({}, [])


def _manifest(
    path: Path, as_modality: str | None, text_fields: Sequence[str] | None
) -> Iterator[Candidate | Skipped | Failure]:
    names: set[str] = set()
    for number, raw in enumerate(read_rows(path), 1):
        row = raw if isinstance(raw, BadRow) else row_of(raw, number, text_fields)
        if isinstance(row, BadRow):
            yield Failure(row_uri(path, str(row.number)), row.reason)
            continue
        name = row.name
        while name in names:
            name = f"{name}:{number}"
        names.add(name)
        imposed = row.modality or as_modality
        metadata, uri = row.metadata or {}, row_uri(path, name)
        if row.content is not None:
            size = len(row.content) if isinstance(row.content, str) else sum(map(len, row.content.values()))
            digest = content_hash(row.content, "text")
            yield Candidate(uri, "text", size, 0, "", row.content, None, digest, str(path), metadata)
        elif row.embedded is not None:
            kind = kind_of_modality(row.modality) if row.modality else kind_of(row.path) or "image"
            digest, size = content_hash(row.embedded, kind), len(row.embedded)
            yield Candidate(
                uri, kind, size, 0, _imposed(kind, imposed), None, row.embedded, digest, str(path), metadata
            )
        else:
            yield _named_file(path, row.path, imposed, metadata)


def _named_file(
    manifest: Path, written: str, as_modality: str | None, metadata: Mapping[str, Any]
) -> Candidate | Failure:
    """A file named by a row: relative to the manifest's folder, or, as in a set of corpora, to the folder above it."""
    uri = os.path.normpath(manifest.parent / written)
    above = os.path.normpath(manifest.parent.parent / written)
    if not os.path.exists(uri) and os.path.exists(above):
        uri = above
    if not os.path.exists(uri):
        return Failure(uri, f"no such file (named in {manifest})")
    found = _file(uri, as_modality)
    if isinstance(found, Failure):
        return found
    return dataclasses.replace(found, manifest=str(manifest), metadata=metadata)
