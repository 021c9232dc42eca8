"""How much memory the C library keeps for a process of many threads."""

from __future__ import annotations

import ctypes
import os

__all__ = ["bound_arenas"]

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
