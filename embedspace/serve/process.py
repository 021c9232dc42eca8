"""What a server sets for its whole process: heaps of the C library, turns of threads, pauses for garbage."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import time
from collections.abc import Callable
from typing import Any

__all__ = ["PauseBound", "bound_arenas", "prepare_process"]

_SWITCH_SECONDS = 0.001
"""How long a thread that searches may keep the event loop waiting for the interpreter; Python's own 5 ms add up."""
_OLDEST = 2

_ARENA_MAX = -8
"""`M_ARENA_MAX` of glibc's malloc.h."""


def bound_arenas(most: int = 2) -> bool:
    """Let all threads of this process share a few heaps; returns whether that is so now.

    glibc gives threads heaps ("arenas") of their own, up to eight per core, and each keeps what its thread once took:
    under load a server was seen to grow by 16 MB per minute that way, and with two arenas not at all. Python's threads
    take turns anyway, so that they wait for each other no longer than before. Arenas that exist stay: call it early.

    Args:
        most: Arenas; the variable MALLOC_ARENA_MAX, where it is set, goes before it.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library, which has no arenas
        return False
    return bool(mallopt(_ARENA_MAX, most))


class PauseBound:
    """Keeps the collector of garbage from stopping a server for long.

    Every few hundred requests Python looks through all objects of the process for cycles, with all threads stopped:
    90 ms beside the million objects that imports leave, so that one search in twenty took twice as long as the others.
    What survives such a search of more than `seconds` is set aside (`gc.freeze`) and not looked at again; references
    still free it. What is imported later is set aside in the same way. A cycle that was set aside while in use stays,
    but the next long search comes only when as many new objects have gathered.

    Args:
        seconds: Longest search for garbage that does not set aside what it leaves.
        clock: Tells seconds; by default of this thread's own work: a search that only waited its turn is no long one.
    """

    def __init__(self, seconds: float = 0.02, clock: Callable[[], float] = time.thread_time) -> None:
        self._seconds, self._clock, self._begun = seconds, clock, 0.0

    def __call__(self, phase: str, info: dict[str, Any]) -> None:
        """Be told by `gc.callbacks` that a search begins or ends."""
        if info["generation"] != _OLDEST:
            return
        if phase == "start":
            self._begun = self._clock()
        elif self._clock() - self._begun > self._seconds:
            gc.freeze()


def prepare_process() -> None:
    """Set what a server needs for its whole process; call it early, and once."""
    bound_arenas()
    sys.setswitchinterval(_SWITCH_SECONDS)
    if not any(isinstance(told, PauseBound) for told in gc.callbacks):
        gc.callbacks.append(PauseBound())
