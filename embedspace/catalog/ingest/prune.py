"""Forgetting what is no longer there, without taking a drive that is not mounted for one that was emptied.

A place is forgotten only if one can look and nothing is there. What would take more than `MOST` of a source's places
(and more than `FEW`), or all of a folder that is empty or a table without rows, is asked about first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from embedspace.catalog.ingest.scan import Candidate, Skipped
from embedspace.catalog.places import is_gone, manifest_of
from embedspace.catalog.records import Failure, Loss
from embedspace.catalog.store.damaged import damaged_places, forget_damaged
from embedspace.catalog.store.store import Store
from embedspace.catalog.store.uris import failures_under, places_from, places_under

__all__ = ["FEW", "MOST", "Listed", "prune"]

MOST = 0.5
FEW = 10


@dataclass(slots=True)
class Listed:
    """What a manifest held when it was read.

    Attributes:
        uris: Places of its rows, and of the files that they name.
        bad: Rows that could not be read: any place may be theirs.
    """

    uris: set[str] = field(default_factory=set)
    bad: int = 0

    def note(self, manifest: str, entries: Iterable[Candidate | Skipped | Failure]) -> None:
        """Write down what was read."""
        for entry in entries:
            self.uris.add(entry.uri)
            self.bad += isinstance(entry, Failure) and manifest_of(entry.uri) == manifest


@dataclass(slots=True)
class _Finding:
    """What is known of one source: how many places, which are gone, and why that may not be what it seems."""

    known: int = 0
    gone: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    doubt: str = ""
    hidden: int = 0
    obstacle: str = ""


def prune(
    store: Store, source: str | Path, listed: Mapping[str, Listed], confirm: Callable[[Loss], bool] | None
) -> tuple[int, list[Loss]]:
    """Forget the places of a source where nothing is any more.

    Args:
        store: The catalog's rows.
        source: A folder, or a manifest.
        listed: Path of a manifest -> what it held; one that could not be read to its end is not in it.
        confirm: Asked about a loss that may be a mistake; `None` leaves all such places alone.

    Returns:
        The number of items that went, and what was left alone.
    """
    root = os.path.abspath(source)
    if os.path.isdir(root):
        finding = _folder(store, root)
    elif root in listed:
        finding = _manifest(store, root, listed[root])
    else:
        return 0, []
    kept = []
    if finding.hidden:
        kept.append(Loss(root, finding.hidden, finding.known, f"cannot look at them: {finding.obstacle}", sure=False))
    if finding.gone and finding.doubt:
        loss = Loss(root, len(finding.gone), finding.known, finding.doubt, sure=True)
        if confirm is None or not confirm(loss):
            return 0, [*kept, loss]
    if not (finding.gone or finding.failures or any(True for _ in damaged_places(store))):
        return 0, kept
    with store.writing("remove what is gone"):
        removed = store.unlink([*finding.gone, *finding.failures])
        forget_damaged(store, root)
    return removed, kept


def _folder(store: Store, root: str) -> _Finding:
    finding = _Finding()
    places = places_under(store, root)
    finding.known = len(places)
    try:
        with os.scandir(root) as entries:
            empty = next(entries, None) is None
    except OSError as error:
        finding.hidden, finding.obstacle = len(places), error.strerror or str(error)
        return finding
    for uri, source in places:
        try:
            if is_gone(uri, source):
                finding.gone.append(uri)
        except OSError as error:
            finding.hidden, finding.obstacle = finding.hidden + 1, error.strerror or str(error)
    for uri in failures_under(store, root):
        try:
            finding.failures.extend([uri] if is_gone(uri) else [])
        except OSError:
            continue  # nothing is lost with it, but nothing is known either
    finding.doubt = "the folder is empty (is its drive mounted?)" if empty else _too_many(finding)
    return finding


def _manifest(store: Store, root: str, listed: Listed) -> _Finding:
    places = places_from(store, root)
    finding = _Finding(len(places))
    for uri, source in places:
        try:
            if uri not in listed.uris or (manifest_of(uri, source) is None and is_gone(uri, source)):
                finding.gone.append(uri)
        except OSError as error:
            finding.hidden, finding.obstacle = finding.hidden + 1, error.strerror or str(error)
    if not listed.uris:
        finding.doubt = "the table has no rows"
    elif listed.bad:
        finding.doubt = f"{listed.bad} of the table's rows cannot be read, and may be theirs"
    else:
        finding.doubt = _too_many(finding)
    return finding


def _too_many(finding: _Finding) -> str:
    gone = len(finding.gone)
    return f"that is more than {MOST:.0%}" if gone > FEW and gone > MOST * finding.known else ""
