"""Where an item lies: the uri of a file or of a row, and whether anything is there still.

The uri of a file is its absolute path. That of a row is "<manifest>#<row>"; % and # in the manifest's path are written
%25 and %23, so that the first # ends the path whatever the row is called.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

__all__ = [
    "MANIFEST_SUFFIXES",
    "NOT_REGULAR",
    "folder_span",
    "is_gone",
    "manifest_of",
    "name_of",
    "open_regular",
    "row_uri",
]

MANIFEST_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet"})
"""Suffixes of tables whose rows are items."""
NOT_REGULAR = "not a regular file"


def row_uri(manifest: str | Path, name: str) -> str:
    """Return the uri of a row of a manifest."""
    return f"{_escaped(str(manifest))}#{name}"


def _escaped(path: str) -> str:
    return path.replace("%", "%25").replace("#", "%23")


def manifest_of(uri: str, source: str | None = None) -> str | None:
    """Return the manifest of a row's uri, `None` for the uri of a file.

    Args:
        uri: Place of a file or row.
        source: The manifest that named it, empty where it was found in a folder; `None` where that is not known, and
            the uri itself must tell.
    """
    if source is not None:
        written = (f"{_escaped(source)}#", f"{source}#")  # the second by catalogs of before paths were escaped
        return source if source and uri.startswith(written) else None
    head, sharp, _ = uri.partition("#")
    path = head.replace("%23", "#").replace("%25", "%")
    return path if sharp and os.path.splitext(path)[1].lower() in MANIFEST_SUFFIXES else None


def name_of(uri: str) -> str:
    """Return how people call a place: its file's name, or its row's."""
    return uri.rpartition("#")[2] if manifest_of(uri) is not None else os.path.basename(uri) or uri


def folder_span(folder: str) -> tuple[str, str]:
    """Return the bounds of all uris in a folder: they sort between "folder/" and "folder0", for "0" follows "/"."""
    return f"{folder.rstrip('/')}/", f"{folder.rstrip('/')}0"


def is_gone(uri: str, source: str | None = None) -> bool:
    """Return whether nothing is at a place any more: no file, or for a row no manifest; what is no file does not count.

    Args:
        uri: Place of a file or row.
        source: As in `manifest_of`.

    Raises:
        OSError: If one cannot look, as into a folder without permission, on a drive with errors, or behind a link
            whose target is missing (a drive that is not mounted).
    """
    path = manifest_of(uri, source) or uri
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        _refuse_broken_link(path)
        return True
    except ValueError:  # a NUL: no file's name
        return True
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:  # a link whose target is missing, or may not be looked at
        return False


def _refuse_broken_link(path: str) -> None:
    """Raise an `OSError` if the nearest folder above that is there is a link to something that is not."""
    for folder in Path(path).parents:
        if os.path.lexists(folder):
            if not os.path.exists(folder):
                raise OSError(errno.ENOLINK, f"{folder} is a link whose target is missing")
            return


def open_regular(path: str | Path) -> BufferedReader:
    """Open a file for reading; pipes, devices and sockets are refused, and never waited for.

    Raises:
        OSError: If it cannot be opened, or is not a regular file.
    """
    _require_regular(os.stat(path))  # before opening: to open a device may already do something
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _require_regular(os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _require_regular(facts: os.stat_result) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(errno.EINVAL, NOT_REGULAR)
