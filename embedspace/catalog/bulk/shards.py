"""A file of an encoding that was made elsewhere: looked at before anything is written, then read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

from embedspace.catalog.bulk.origin import Origin
from embedspace.catalog.bulk.records import joined
from embedspace.catalog.bulk.table import ItemTable
from embedspace.errors import InputError

__all__ = ["Shard"]


class Shard(ABC):
    """One file of encoded items.

    Attributes:
        path: The file.
        size: Its bytes.
        mtime_ns: When it was written, in nanoseconds.
        embed_dim: Length of its vectors; 0 where it holds none.
        rows: How many there are; `None` where that is only known when all are read.
        origin: What it says of their encoder.
    """

    rows: int | None = None
    embed_dim = 0
    origin: Origin | None = None

    def __init__(self, path: Path, modality: str) -> None:
        """Look at a file.

        Args:
            path: The file.
            modality: What the rows are that name none.

        Raises:
            InputError: If it cannot be read, or lacks what is needed.
        """
        self.path, self.modality = path, modality
        try:
            facts = path.stat()
            self.size, self.mtime_ns = facts.st_size, facts.st_mtime_ns
            self.look()
        except (OSError, EOFError) as error:
            raise self.unreadable(error) from error

    def unreadable(self, error: Exception) -> InputError:
        """Return the error for what the system or a library says."""
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return InputError(f"{self.path}: cannot be read: {said.splitlines()[0][:200]}")

    @abstractmethod
    def look(self) -> None:
        """Set `embed_dim`, `rows` and `origin`."""

    @abstractmethod
    def tables(self, first: int) -> Iterator[ItemTable]:
        """Yield the rows after the first ones, some thousand at a time."""

    def read(self, first: int) -> Iterator[ItemTable]:
        """Yield the rows after the first ones; no item is divided.

        Raises:
            InputError: If it cannot be read any further.
        """
        held: ItemTable | None = None
        try:
            for table in self.tables(first):
                if held is not None and joined(held.part(len(held) - 1, len(held)), table.part(0, 1)).continues(1):
                    last = len(held) - 1
                    while last > 0 and held.continues(last):
                        last -= 1
                    if last:
                        yield held.part(0, last)
                    held = joined(held.part(last, len(held)), table)
                else:
                    if held is not None:
                        yield held
                    held = table
        except (OSError, EOFError) as error:
            raise self.unreadable(error) from error
        if held is not None:
            yield held
