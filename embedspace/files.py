"""Files are written whole or not at all, nothing half-written stays behind; configurations say their format.

The standard library alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from embedspace.errors import WeightsError

__all__ = ["read_config", "replacing", "write_text"]


def read_config(path: Path, newest: int, what: str) -> dict[str, Any]:
    """Read a JSON configuration that lies beside weights.

    Args:
        path: The file; its key "format" is a number.
        newest: The newest format that the caller reads.
        what: What the file should be, for the message: "configuration of a generator".

    Raises:
        WeightsError: If it is missing, damaged or of a newer format.
    """
    try:
        config = json.loads(path.read_text("utf-8"))
        newer = int(config["format"]) > newest
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: not the {what}: {error!r}") from error
    if newer:
        raise WeightsError(f"{path}: format {config['format']}, this version reads up to {newest}; update embedspace")
    return dict(config)


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
