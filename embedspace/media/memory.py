"""How much memory decoding may hold, whatever the number of threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["DECODING", "MAX_DECODING_BYTES", "MemoryGate"]

MAX_DECODING_BYTES = 1_300_000_000
"""What one item may take while it is decoded; with the networks that is less than 2 GB for the whole process."""


class MemoryGate:
    """Let threads decode at the same time for as long as what they hold together stays under a number of bytes.

    An item larger than that is decoded alone. Whoever comes first goes first, so that small items do not keep a large
    one waiting for ever.
    """

    def __init__(self, capacity: int) -> None:
        """Set the number of bytes."""
        self.capacity = capacity
        self._held = 0
        self._turn = threading.Lock()
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, nbytes: int) -> Iterator[None]:
        """Wait until there is room for so many bytes; they count until the block ends. Not to be nested."""
        with self._turn, self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + nbytes <= self.capacity)
            self._held += nbytes
        try:
            yield
        finally:
            with self._changed:
                self._held -= nbytes
                self._changed.notify_all()


DECODING = MemoryGate(400_000_000)
"""The memory that one process gives to pictures: every decoder of pictures asks it."""
