"""A small language model over words: counts of words and of pairs of words, and what read words cost."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from embedspace.errors import WeightsError
from embedspace.files import write_text
from embedspace.generate.lips.network import LETTERS, letters_of, text_of

__all__ = ["START", "WordModel", "word_errors"]

START = ""
"""Stands before the first word of a sentence."""
_PAIRS = 0.75
"""Taken from every count of a pair and given to words that did not follow (absolute discounting)."""
_LETTER = math.log(1 / len(LETTERS))


@dataclass(frozen=True)
class WordModel:
    """Bigrams with absolute discounting; a word that is not known costs the same for each of its letters.

    Attributes:
        words: Word -> times it was said.
        pairs: Word -> the words after it -> times; `START` stands before a sentence.
        unknown: Natural logarithm of what begins an unknown word.
        prefixes: All beginnings of known words.
        total: All words that were said.
    """

    words: dict[str, int]
    pairs: dict[str, dict[str, int]]
    unknown: float = -8.0
    prefixes: frozenset[str] = field(init=False)
    total: int = field(init=False)

    def __post_init__(self) -> None:
        """Note all beginnings of words."""
        begun = {word[:k] for word in self.words for k in range(1, len(word) + 1)}
        object.__setattr__(self, "prefixes", frozenset(begun))
        object.__setattr__(self, "total", sum(self.words.values()))

    @classmethod
    def of(cls, texts: Iterable[str]) -> WordModel:
        """Count the words of texts."""
        words: Counter[str] = Counter()
        pairs: dict[str, Counter[str]] = {}
        for text in texts:
            before = START
            for word in text_of(letters_of(text)).split():
                words[word] += 1
                pairs.setdefault(before, Counter())[word] += 1
                before = word
        return cls(dict(words), {before: dict(after) for before, after in pairs.items()})

    def log_probability(self, word: str, before: str) -> float:
        """Return the natural logarithm of a word's probability after another one."""
        if word not in self.words:
            return self.unknown + _LETTER * len(word)
        alone = self.words[word] / self.total
        after = self.pairs.get(before)
        if not after:
            return math.log(alone)
        said = sum(after.values())
        kept = max(after.get(word, 0) - _PAIRS, 0.0) / said
        return math.log(kept + _PAIRS * len(after) / said * alone)

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        write_text(path, json.dumps({"words": self.words, "pairs": self.pairs}, separators=(",", ":")) + "\n")

    @classmethod
    def load(cls, path: Path) -> WordModel:
        """Read it.

        Raises:
            WeightsError: If the file is missing or damaged.
        """
        try:
            table = json.loads(path.read_text("utf-8"))
            return cls(dict(table["words"]), dict(table["pairs"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WeightsError(f"{path}: damaged or missing words of a reader of lips ({error})") from error


def word_errors(said: Sequence[str], read: Sequence[str]) -> tuple[int, int]:
    """Return (words that are wrong, missing or too many; words that were said) of texts."""
    wrong = words = 0
    for truth, text in zip(said, read, strict=True):
        a, b = text_of(letters_of(truth)).split(), text_of(letters_of(text)).split()
        row = list(range(len(b) + 1))
        for i, one in enumerate(a, 1):
            last, row[0] = row[0], i
            for j, other in enumerate(b, 1):
                last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (one != other))
        wrong += row[-1]
        words += len(a)
    return wrong, words
