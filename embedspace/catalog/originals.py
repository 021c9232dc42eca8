"""The files that items were indexed from: which may be opened, for whoever shows them."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Protocol

from embedspace.catalog.places import manifest_of
from embedspace.catalog.stored import StoredItem, StoredPlace
from embedspace.errors import MediaError, MediaGoneError

__all__ = ["Originals"]


class _Indexed(Protocol):
    """What is asked of a catalog."""

    @property
    def revision(self) -> int:
        """Number that grows with every change."""
        ...

    def folders(self) -> list[str]:
        """Return every folder that a file of the catalog lies in."""
        ...


class Originals:
    """The files of a catalog's items, where they were indexed, as they were indexed. Safe to share between threads."""

    def __init__(self, catalog: _Indexed) -> None:
        self._catalog = catalog
        self._roots: tuple[int, frozenset[str]] = (-1, frozenset())
        self._lock = threading.Lock()

    def file(self, item: StoredItem) -> Path:
        """Return the real path of an item's file.

        Args:
            item: From the catalog: nothing that anybody asks for becomes part of a path.

        Raises:
            MediaGoneError: If the file is gone, or not as it was indexed.
            MediaError: If it has no file, or its path leads out of the folders that were indexed.
        """
        problem = MediaError("this item has no file")
        for place in item.places:
            if not os.path.isabs(place.uri) or manifest_of(place.uri, place.source) is not None:
                continue
            try:
                return self._checked(place)
            except MediaError as error:
                problem = error
        raise problem

    def _checked(self, place: StoredPlace) -> Path:
        try:
            real = os.path.realpath(place.uri, strict=True)
            facts = os.stat(real, follow_symlinks=False)
        except (OSError, ValueError):
            raise MediaGoneError("the file is no longer there") from None
        if not any(real.startswith(root) for root in self._indexed()):
            raise MediaError("this item's path leads out of what was indexed")
        if (facts.st_size, facts.st_mtime_ns) != (place.size, place.mtime_ns):
            raise MediaGoneError("the file changed since it was indexed")
        return Path(real)

    def _indexed(self) -> frozenset[str]:
        """Return the real paths of the folders that hold files of the catalog, each with its slash."""
        revision = self._catalog.revision
        with self._lock:
            if self._roots[0] != revision:
                real = (os.path.realpath(folder) for folder in self._catalog.folders() if os.path.isabs(folder))
                self._roots = (revision, frozenset(folder.rstrip("/") + "/" for folder in real))
            return self._roots[1]
