"""How much memory decoding may hold, whatever the number of threads."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["DECODING", "MAX_DECODING_BYTES", "MemoryGate", "give_back_memory"]

MAX_DECODING_BYTES = 1_300_000_000
"""What one item may take while it is decoded; with the networks that is less than 2 GB for the whole process."""


def give_back_memory() -> None:
    """Have the C library give the system what it keeps of freed memory; others than glibc do so by themselves."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


class MemoryGate:
    """Let threads decode at the same time for as long as what they hold together stays under a number of bytes.

    An item larger than that is decoded alone, after what threads and networks have freed was given back. Whoever comes
    first goes first, so that small items do not keep a large one waiting for ever.
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
        if nbytes > self.capacity:
            give_back_memory()
        try:
            yield
        finally:
            with self._changed:
                self._held -= nbytes
                self._changed.notify_all()


DECODING = MemoryGate(400_000_000)
"""The memory that one process gives to pictures: every decoder of pictures asks it."""
