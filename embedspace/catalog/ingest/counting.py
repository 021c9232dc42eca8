"""Counting what there is to index while indexing goes on, so that a long run can say how much is left."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from embedspace.catalog.ingest.scan import Skipped, scan
from embedspace.catalog.ingest.tables import read_rows
from embedspace.catalog.places import MANIFEST_SUFFIXES
from embedspace.errors import EmbedspaceError

__all__ = ["SourceCounter"]

_PATIENCE = 1.0


class SourceCounter:
    """Counts files and rows in a thread of its own, which starts only when a run turns out to take a while."""

    def __init__(self, sources: Sequence[str | Path], patience: float = _PATIENCE) -> None:
        """Take the sources of a run.

        Args:
            sources: Files, folders and manifests, as `scan` takes them; those that are missing count one each.
            patience: Seconds before anything is counted.
        """
        self._sources, self._due = list(sources), time.monotonic() + patience
        self._total: int | None = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def total(self) -> int | None:
        """Return how many files and rows there are; `None` while that is not known."""
        if self._thread is None and time.monotonic() >= self._due:
            self._thread = threading.Thread(target=self._count, name="count", daemon=True)
            self._thread.start()
        return self._total

    def close(self) -> None:
        """Stop counting."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _count(self) -> None:
        count = 0
        for source in self._sources:
            try:
                for entry in _entries(Path(os.path.abspath(source))):
                    count += not isinstance(entry, Skipped)
                    if self._stopped.is_set():
                        return
            except (EmbedspaceError, OSError):
                count += 1  # it is one failure of the run, too
        self._total = count


def _entries(source: Path) -> Iterator[object]:
    """Yield one thing for every entry that `scan` would yield; the rows of a table are not looked into."""
    if source.suffix.lower() == ".parquet" and source.is_file():
        yield from _parquet_rows(source)
    elif source.suffix.lower() in MANIFEST_SUFFIXES and source.is_file():
        yield from read_rows(source)
    else:
        yield from scan(source)


def _parquet_rows(source: Path) -> Iterator[int]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        yield 0  # the run will say so: one failure
        return
    try:
        with pq.ParquetFile(source) as file:
            yield from range(file.metadata.num_rows)
    except pa.ArrowException:
        yield 0
