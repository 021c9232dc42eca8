"""Hits for tests."""

from __future__ import annotations

from embedspace.catalog import Hit

__all__ = ["hit"]


def hit(item: str, score: float, modality: str = "audio") -> Hit:
    """Return a hit of an item."""
    return Hit(item, f"/{item}", modality, modality, score, None, 0.0, 4.0, "", "", {}, 1)
