"""Cut long text into passages, as long as the encoder of text takes at once."""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["passages"]

# Scripts without spaces count a character as a word; an endless run (base64, a URL) is cut so none overflows.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]{{1,40}}")
_SENTENCE_END = re.compile(r"[.!?\u3002\uff01\uff1f][\"')\]\u2019\u201d]*$")


def passages(
    text: str, max_words: int = 180, overlap: int = 20, fits: Callable[[str], bool] | None = None
) -> list[tuple[int, int, str]]:
    """Cut text into passages that overlap, ending at the end of a sentence where one is near.

    Args:
        text: Any length.
        max_words: Most words of a passage; in scripts without spaces a character is a word.
        overlap: Words repeated at the start of the next passage, fewer where a passage is short; less than half of
            `max_words`.
        fits: Whether a passage is short enough for who reads it, such as a network that keeps 77 tokens; passages are
            shortened until they are, down to one word.

    Returns:
        (start, end, passage) with offsets in characters, in order; `passage` is `text[start:end]`. A text of at most
        `max_words` words, and that fits, is one passage; a text without words gives none.

    Raises:
        ValueError: If `max_words` is not positive or `overlap` is not in [0, max_words / 2).
    """
    if max_words < 1 or not 0 <= overlap < max(max_words / 2, 1):
        raise ValueError(f"max_words {max_words}, overlap {overlap}: need 0 <= overlap < max_words / 2")
    words = [match.span() for match in _WORD.finditer(text)]
    found: list[tuple[int, int, str]] = []
    first = 0
    while first < len(words):
        last = min(first + max_words, len(words))  # one past the last word
        if fits is not None:
            last = _longest(text, words, first, last, fits)
        size = last - first
        if last < len(words):
            last = _sentence_end(text, words, last - min(max_words, size) // 4, last)
        start, end = words[first][0], words[last - 1][1]
        found.append((start, end, text[start:end]))
        if last == len(words):
            break
        first = last - min(overlap, size // 4 if size < max_words else overlap)
    return found


def _longest(text: str, words: list[tuple[int, int]], first: int, last: int, fits: Callable[[str], bool]) -> int:
    """Return one past the last word of the longest run from `first` on, up to `last`, that fits; at least one word."""

    def good(end: int) -> bool:
        return fits(text[words[first][0] : words[end - 1][1]])

    if good(last):
        return last
    low, high = first + 1, last  # `high` does not fit; more words never take fewer tokens
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if good(middle) else (low, middle)
    return low


def _sentence_end(text: str, words: list[tuple[int, int]], earliest: int, latest: int) -> int:
    """Return the latest word boundary in (earliest, latest] after which a sentence or paragraph ends, else `latest`."""
    for last in range(latest, earliest, -1):
        end = words[last - 1][1]
        if "\n\n" in text[end : words[last][0]] or _SENTENCE_END.search(text, max(end - 4, 0), end):
            return last
    return latest
