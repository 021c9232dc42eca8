"""Which captions a mirror would make wrong."""

from __future__ import annotations

__all__ = ["can_mirror"]

_WORDS = frozenset("left right leftwards rightwards clock o'clock thirty arrow letter number".split())


def can_mirror(caption: str) -> bool:
    """Return whether a picture with this caption may be mirrored: it names no side, arrow, letter, number or time."""
    return _WORDS.isdisjoint(caption.lower().replace(":", " ").split())
