"""What each error of SQLite and of the disk means to a user."""

from __future__ import annotations

import contextlib
import errno
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from embedspace.catalog.store.schema import DATABASE
from embedspace.errors import CatalogCorruptError, CatalogError, CatalogLockedError, StorageFullError

__all__ = ["translated"]


@contextlib.contextmanager
def translated(path: Path, doing: str) -> Iterator[None]:
    """Turn SQLite's and the disk's errors into the catalog's.

    Args:
        path: The catalog, for the message.
        doing: What was tried, for the message.

    Raises:
        CatalogLockedError: If another process holds the write lock for longer than the busy timeout.
        StorageFullError: If the disk is full.
        CatalogCorruptError: If the file is not a catalog, or is damaged.
        CatalogError: For anything else that SQLite or the disk refuses.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise _explain(path, doing, error) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(path, doing) from error
        raise CatalogError(f"{path}: cannot {doing}: {error.strerror or error}") from error


def _full(path: Path, doing: str) -> StorageFullError:
    return StorageFullError(
        f"{path}: the disk is full, cannot {doing}; what was committed before is intact. "
        "Free some space and run the same command again: it goes on where it stopped"
    )


def _explain(path: Path, doing: str, error: sqlite3.Error) -> CatalogError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return CatalogLockedError(
            f"{path}: another process is writing to this catalog, cannot {doing}; wait for it to finish "
            "(searching works meanwhile), then run the same command again"
        )
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _no_space(path)):
        return _full(path, doing)
    if code == sqlite3.SQLITE_NOTADB:  # perhaps a file of the user's: nothing that should be deleted
        return CatalogCorruptError(
            f"{path}: not a catalog, or one whose beginning is damaged ({error}); name another path, or restore the "
            "catalog from a copy"
        )
    if code == sqlite3.SQLITE_CORRUPT or (code == sqlite3.SQLITE_ERROR and str(error).startswith("no such ")):
        return CatalogCorruptError(
            f"{path}: the catalog is damaged, cannot {doing} ({error}); restore it from a copy, "
            "or delete it and index again"
        )
    if code == sqlite3.SQLITE_READONLY:
        return CatalogError(f"{path}: the catalog is read-only, cannot {doing}; check the permissions of its folder")
    if code == sqlite3.SQLITE_CANTOPEN:
        return CatalogError(
            f"{path}: cannot {doing}: {DATABASE}, or what SQLite keeps beside it (-wal, -shm), cannot be opened "
            "or made; check the permissions of the folder and of the files in it"
        )
    if code == sqlite3.SQLITE_IOERR:
        return CatalogError(
            f"{path}: cannot {doing}: its drive reports an error ({error.sqlite_errorname}); check that it is "
            f"mounted and sound, then run: embedspace catalog verify {path}"
        )
    return CatalogError(f"{path}: cannot {doing}: {error}")


def _no_space(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return shutil.disk_usage(path).free < 1 << 20
    return False
