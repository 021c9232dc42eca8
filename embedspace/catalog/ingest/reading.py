"""Reading one file so that its hash and what is decoded are of the same bytes, also while somebody writes to it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from embedspace.catalog.content_ids import file_hash
from embedspace.catalog.ingest.encoding import is_fatal
from embedspace.errors import ChangingFileError
from embedspace.segment import Decoded

__all__ = ["UNSETTLED", "Reading", "read_file", "tick_left"]

_ATTEMPTS = 3
UNSETTLED = -1
"""Stands for the modification time of a file that the next run has to read again; no file has it."""
_TICK_NS, _COARSE_TICK_NS = 20_000_000, 2_000_000_000
"""Two writes this close may leave the same modification time; the second where a medium counts whole seconds."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One file as it was at one moment.

    Attributes:
        digest: Its content id.
        decoded: What was decoded; `None` where that was not wanted, or not possible.
        error: Why it could not be decoded, though every byte of it could be read.
    """

    digest: str
    decoded: Decoded | None = None
    error: Exception | None = None


def read_file(path: str | Path, kind: str, decode: Callable[[str], Decoded | None]) -> Reading:
    """Hash a file, decode it, and hash it again: a file that was rewritten meanwhile is read anew.

    Args:
        path: The file.
        kind: "image", "audio", "text" or "video".
        decode: Decodes the file, given its content id; returns `None` where there is no need to.

    Raises:
        ChangingFileError: If it changed while it was read, every time.
        OSError: If it cannot be read.
        EmbedspaceError: If the installation is broken rather than the file.
    """
    for _ in range(_ATTEMPTS):
        before = _state(path)
        _wait_for_the_clock(before[3])
        reading = _decoded(file_hash(path, kind), decode)
        if reading.decoded is None and reading.error is None:
            return reading
        if file_hash(path, kind) == reading.digest and _state(path) == before:
            return reading
    raise ChangingFileError(
        f"{path}: was written to while it was read, {_ATTEMPTS} times; index it again when nothing writes to it"
    )


def _decoded(digest: str, decode: Callable[[str], Decoded | None]) -> Reading:
    try:
        return Reading(digest, decode(digest))
    except Exception as error:  # decoders raise nearly anything on a file that is half written
        if is_fatal(error):
            raise
        return Reading(digest, error=error)


def _state(path: str | Path) -> tuple[int, ...]:
    facts = os.stat(path)
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _wait_for_the_clock(mtime_ns: int) -> None:
    """Wait until whatever is written from now on gets another modification time than what is there."""
    seconds = tick_left(mtime_ns, time.time_ns())
    if seconds > 0:
        time.sleep(seconds)


def tick_left(mtime_ns: int, now_ns: int) -> float:
    """Return for how many seconds a write might leave a modification time as it is; both times in nanoseconds."""
    tick = _TICK_NS if mtime_ns % 1_000_000_000 else _COARSE_TICK_NS
    age = now_ns - mtime_ns
    return max(tick - age, 0) / 1e9 if age > -tick else 0.0  # a time far in the future is not waited for
