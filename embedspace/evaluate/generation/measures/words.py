"""Words of captions: does one name what is there, and how many of those meant were heard."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

__all__ = ["content_words", "names_all", "names_any", "spoken_words", "word_errors"]

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_STOP = frozenset(
    "a an the of and or in on at to with for from by is are this that it its some very into as be no not".split()
)
_NUMBERS = dict(enumerate("zero one two three four five six seven eight nine ten".split()))


def content_words(text: str) -> set[str]:
    """Return the words of a text that say what is there, in lower case, plural and -ing endings taken off."""
    return {_stem(word) for word in _WORD.findall(text.casefold()) if word not in _STOP}


def _stem(word: str) -> str:
    for ending in ("'s", "ing", "es", "s", "ed"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            return word[: -len(ending)].rstrip("e")
    return word.rstrip("e") if len(word) > 3 else word


def names_any(caption: str, names: Iterable[str]) -> bool:
    """Return whether a caption holds a content word of one of an item's names."""
    said = content_words(caption)
    return any(said & content_words(name) for name in names)


def names_all(caption: str, names: Iterable[str]) -> bool:
    """Return whether a caption holds every content word of one of an item's names."""
    said = content_words(caption)
    return any((words := content_words(name)) and words <= said for name in names)


def spoken_words(text: str) -> list[str]:
    """Return the words of a text as one hears them: no case, punctuation or hyphens; small numbers as words."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    words = _WORD.findall(plain)
    return [_NUMBERS.get(int(word), word) if word.isdecimal() else word for word in words]


def word_errors(said: Sequence[str], heard: Sequence[str]) -> int:
    """Return the least number of substitutions, deletions and insertions that turn `said` into `heard`.

    Source: Levenshtein 1966; the numerator of the word error rate.
    """
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]
