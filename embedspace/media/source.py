"""What all readers share: naming a source in a message, and the checks that come before any decoder."""

from __future__ import annotations

import os
from pathlib import Path

from embedspace.errors import EmptyMediaError, MediaError

__all__ = ["check_file", "describe", "one_line"]


def describe(source: object) -> str:
    """Return how a message names a source: the path, or what kind of object it is."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source) if not isinstance(source, Path) else str(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return f"<{len(source)} bytes>"
    return f"<{type(source).__name__}>"


def one_line(error: BaseException, limit: int = 160) -> str:
    """Return a decoder's complaint as one short line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."


def check_file(path: str | os.PathLike[str]) -> Path:
    """Return the path if a decoder may open it.

    Raises:
        MediaError: If it does not exist, is no regular file, or may not be read.
        EmptyMediaError: If it holds no byte.
    """
    file = Path(path)
    try:
        status = file.stat()
    except FileNotFoundError:
        raise MediaError(f"{file}: no such file; check the path") from None
    except (OSError, ValueError) as error:  # a name too long, a NUL in it, no permission on a parent folder
        raise MediaError(f"{file}: cannot be looked at: {one_line(error)}") from None
    if file.is_dir():
        raise MediaError(f"{file}: is a folder, not a file; name a file in it")
    if not file.is_file():
        raise MediaError(f"{file}: is not a regular file; copy its content to one")
    if status.st_size == 0:
        raise EmptyMediaError(f"{file}: the file is empty (0 bytes); replace or remove it")
    if not os.access(file, os.R_OK):
        raise MediaError(f"{file}: may not be read; change its permissions")
    return file
