"""Files are written whole or not at all, and nothing half-written stays behind. The standard library alone."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

__all__ = ["replacing", "write_text"]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name beside a file to write to: the file is replaced when the block ends, and as it was if that fails.

    Args:
        path: The file; its folder must be there.

    Yields:
        A path in the same folder, with the same suffix, that is of this thread alone.
    """
    partial = path.with_name(f".{path.stem}.{os.getpid()}-{threading.get_ident()}.partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, "utf-8")
