"""Whether the text encoder knows any word of a text.

Letters thrown together have a vector, too, and it may lie near a name. A word that the encoder has never seen falls
into pieces of one or two letters. A text of such words alone must lie nearer to a name than others before it counts as
known; one of signs that the encoder has no piece for never does.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["BROKEN", "NEAR", "is_broken", "needed_cosine"]

BROKEN = 2.6
"""Letters per piece below which a word counts as broken."""
NEAR = 0.75
"""Cosine with the nearest name that a text of broken words needs.

`training/generators/word_thresholds.py` chose both."""
_UNKNOWN = "[UNK]"


def is_broken(pieces: Sequence[str], limit: float = BROKEN) -> bool:
    """Return whether a word, given as its pieces ("##" before inner ones), is one that the encoder does not know."""
    if _UNKNOWN in pieces:
        return True
    return len(pieces) > 1 and sum(len(piece.removeprefix("##")) for piece in pieces) / len(pieces) < limit


def needed_cosine(words: Sequence[Sequence[str]], limit: float = BROKEN, near: float = NEAR) -> float:
    """Return the cosine with the nearest name that a text needs to count as known; -1 where a word of it is known.

    Args:
        words: The pieces of each word that holds a letter.
        limit: Letters per piece below which a word is broken.
        near: What a text of broken words needs.
    """
    if not words or not all(is_broken(pieces, limit) for pieces in words):
        return -1.0
    return 2.0 if all(_UNKNOWN in pieces for pieces in words) else near
