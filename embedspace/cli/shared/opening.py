"""The one place where commands that only read open a catalog; one that was kept open is used again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from embedspace.errors import InputError

if TYPE_CHECKING:
    from embedspace.catalog import Catalog

__all__ = ["keep_catalog", "opened_catalog"]

_KEPT: dict[tuple[int, int], Catalog] = {}
"""Device and number of a database's file -> the catalog that this process keeps open."""


def keep_catalog(path: Path) -> None:
    """Open a catalog for the commands that this process will run; one in a folder that cannot be written to is not.

    There SQLite may not look at what others change (`immutable`), so that each command opens it anew.

    Raises:
        CatalogError: If it cannot be opened.
    """
    from embedspace.catalog import Catalog

    catalog = Catalog.open(path.resolve(), read_only=True)
    if os.access(catalog.store.folder, os.W_OK):
        _KEPT[_key(path)] = catalog
    else:
        catalog.close()


@contextlib.contextmanager
def opened_catalog(path: Path, pushed: Path | None = None, timeout: float | None = None) -> Iterator[Catalog]:
    """Open a catalog for reading while a block runs.

    Args:
        path: Its folder, or the engine that it was pushed to.
        pushed: Folder of the catalog that was pushed, where that has moved.
        timeout: Seconds that one answer of an engine may take.

    Raises:
        CatalogError: If it cannot be opened, or the engine cannot be used.
    """
    from embedspace.catalog import Catalog
    from embedspace.catalog.engines.address import is_engine

    if is_engine(str(path)):
        from embedspace.catalog.engines.served import open_served

        with open_served(str(path), pushed, timeout) as served:
            yield served
        return
    if pushed is not None:
        raise InputError(f"--catalog {pushed}: only where an engine is searched; {path} is a catalog itself")

    try:
        kept = _KEPT.get(_key(path))
    except OSError:  # it is not there; the catalog says so
        kept = None
    if kept is not None:
        kept.call(path)
        yield kept
        return
    with Catalog.open(path, read_only=True) as catalog:
        yield catalog


def _key(path: Path) -> tuple[int, int]:
    from embedspace.catalog.store.schema import database_path

    facts = os.stat(database_path(path))
    return facts.st_dev, facts.st_ino
