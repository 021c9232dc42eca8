"""From the network's letters to words: a beam of prefixes with a language model over words, and how well texts fit."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from embedspace.generate.lips.network import BLANK, LETTERS, letters_of
from embedspace.generate.lips.words import START, WordModel

__all__ = ["BeamSettings", "fits_of", "read_words"]

_SPACE = LETTERS.index(" ") + 1
_NEVER = -1e9


@dataclass(frozen=True, slots=True)
class BeamSettings:
    """How words are searched.

    Attributes:
        width: Prefixes that are kept after each picture.
        language: Weight of the language model.
        word: Added for each word, against its preference for few.
        unlikely: Logarithm of the probability below which a letter is not looked at.
    """

    width: int = 24
    language: float = 0.8
    word: float = 1.5
    unlikely: float = -6.0


def read_words(
    letters: NDArray[np.float32], words: WordModel | None, settings: BeamSettings | None = None
) -> tuple[str, float]:
    """Return the likeliest text, and the natural logarithm of its probability by the network and the words.

    Args:
        letters: (T, 29) logarithms of probabilities; class 0 is the blank.
        words: The language model; None for letters alone.
        settings: How to search.

    Source: Hannun et al. 2014, "First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional
    Recurrent DNNs", algorithm 1.
    """
    settings = settings or BeamSettings()
    cost = _Cost(words, settings)
    beams: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, _NEVER)}  # prefix -> ends in a blank, or in a letter
    for row in letters:
        likely = [(int(k), float(row[k])) for k in np.flatnonzero(row > settings.unlikely)]
        after: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [_NEVER, _NEVER])
        for prefix, (blank, letter) in beams.items():
            whole = _add(blank, letter)
            for k, p in likely:
                if k == BLANK:
                    after[prefix][0] = _add(after[prefix][0], whole + p)
                elif prefix and prefix[-1] == k:
                    after[prefix][1] = _add(after[prefix][1], letter + p)
                    longer = after[*prefix, k]
                    longer[1] = _add(longer[1], blank + p)
                elif not (k == _SPACE and (not prefix or prefix[-1] == _SPACE)):
                    longer = after[*prefix, k]
                    longer[1] = _add(longer[1], whole + p)
        ranked = sorted(after.items(), key=lambda one: -(_add(*one[1]) + cost.so_far(one[0])))
        beams = {prefix: (values[0], values[1]) for prefix, values in ranked[: settings.width]}
    best = max(beams, key=lambda prefix: _add(*beams[prefix]) + cost.whole(prefix))
    return " ".join(_words_of(best).split()), _add(*beams[best]) + cost.whole(best)


def fits_of(letters: NDArray[np.float32], texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the natural logarithm of the probability of each text given the letters, (N,); -inf where it is too long.

    Args:
        letters: (T, 29) logarithms of probabilities.
        texts: What may have been said.
    """
    coded = [letters_of(text) for text in texts]
    rows = torch.from_numpy(letters)[:, None].expand(-1, len(texts), -1)
    targets = torch.tensor([one for each in coded for one in each], dtype=torch.long)
    lengths = torch.full((len(texts),), len(letters))
    counts = torch.tensor([len(each) for each in coded])
    loss = F.ctc_loss(rows, targets, lengths, counts, blank=BLANK, reduction="none")
    return (-loss).numpy().astype(np.float32)


class _Cost:
    """What the words of a prefix cost by the language model; every prefix is asked for many times."""

    def __init__(self, words: WordModel | None, settings: BeamSettings) -> None:
        self.words, self.settings = words, settings
        self._known: dict[tuple[int, ...], tuple[float, str]] = {(): (0.0, START)}

    def so_far(self, prefix: tuple[int, ...]) -> float:
        """Return the cost of the whole words, and a share of that of an unknown word that is begun."""
        if self.words is None:
            return 0.0
        cut = _last_space(prefix)
        cost, _ = self._done(prefix[: cut + 1])
        begun = _words_of(prefix[cut + 1 :])
        if begun and begun not in self.words.prefixes:
            cost += self.settings.language * self.words.log_probability(begun, START)
        return cost

    def whole(self, prefix: tuple[int, ...]) -> float:
        """Return the cost of a prefix that ends here."""
        if self.words is None:
            return 0.0
        return self._done((*prefix, _SPACE))[0]

    def _done(self, prefix: tuple[int, ...]) -> tuple[float, str]:
        """Return the cost of a prefix that ends in a space, or of none, and its last word."""
        assert self.words is not None
        if prefix not in self._known:
            inner = prefix[:-1]
            if not inner or inner[-1] == _SPACE:
                self._known[prefix] = self._done(inner)
            else:
                cut = _last_space(inner)
                cost, before = self._done(prefix[: cut + 1])
                word = _words_of(inner[cut + 1 :])
                cost += self.settings.language * self.words.log_probability(word, before) + self.settings.word
                self._known[prefix] = cost, word
        return self._known[prefix]


def _last_space(prefix: tuple[int, ...]) -> int:
    return next((k for k in range(len(prefix) - 1, -1, -1) if prefix[k] == _SPACE), -1)


def _words_of(prefix: tuple[int, ...]) -> str:
    return "".join(LETTERS[k - 1] for k in prefix).strip()


def _add(a: float, b: float) -> float:
    """Return log(exp a + exp b)."""
    if a < b:
        a, b = b, a
    return a if b <= _NEVER or a - b > 40 else a + math.log1p(math.exp(b - a))
