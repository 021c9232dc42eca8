"""Reading words and named media as one text: "cat.png + with tears of joy" is also "cat with tears of joy".

A sum of vectors cannot tell "cook" from "cooking" or bind "with a hat" to "cat"; a text encoder can. So each medium is
replaced by what the space would call it, and the text that names and words make together joins the sum. That helps
where the words say more of the same thing. Where they name a second thing ("dog.png + a violin"), the names, which may
be wrong, would only stand before the picture, which is right: there the sum stays a sum.

Search and measurements choose by the same function, `stands_apart`. Numpy only: no torch, no FAISS.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence

__all__ = ["Names", "join_names", "stands_apart"]

Names = Sequence[tuple[str, float]]
"""What something may be called, with shares that sum to one."""

_PHRASES = 5
"""Readings of a query that are kept."""
_DETERMINER = re.compile(r"(?:a|an|the|some|another|one|two|three|four|five|my|your|our|his|her|their|this|that)\s")
_SENTENCE_ENDS = (".", "!", "?")


def join_names(parts: Sequence[Names]) -> Names:
    """Join one name of each part in order; returns the likeliest phrases, likeliest first, with their shares."""
    joined = [
        (" ".join(name for name, _ in choice), math.prod(share for _, share in choice))
        for choice in itertools.product(*parts)
    ]
    kept = sorted(joined, key=lambda pair: -pair[1])[:_PHRASES]
    total = sum(share for _, share in kept)
    return [(text, share / total) for text, share in kept]


def stands_apart(words: str) -> str:
    """Say why words that are added to media name another thing; "" where they say more of the same thing.

    Args:
        words: As the user wrote them: "with tears of joy", "cook", "a violin".
    """
    start = _DETERMINER.match(words.strip().casefold())
    if start:
        return f"it begins with {start[0].strip()!r}, so it names a thing of its own"
    if words.rstrip().endswith(_SENTENCE_ENDS):
        return "it is a sentence of its own"
    return ""
