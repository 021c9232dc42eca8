"""Which captions a mirror would make wrong."""

from __future__ import annotations

__all__ = ["is_sided"]

_WORDS = frozenset("left right leftwards rightwards clock o'clock thirty arrow letter number".split())


def is_sided(caption: str) -> bool:
    """Return whether a picture with this caption must not be mirrored."""
    return not _WORDS.isdisjoint(caption.lower().replace(":", " ").split())
