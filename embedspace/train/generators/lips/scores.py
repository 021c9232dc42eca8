"""How near texts that were read are to what is meant: BLEU and chrF, as sacrebleu computes them, beside a control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from embedspace.errors import MissingExtraError
from embedspace.generate.lips.network import letters_of, text_of

__all__ = ["TextScores", "shuffled"]


class TextScores:
    """Corpus BLEU-4 and chrF2 of texts, from 0 to 100.

    Both sides are brought to the letters that a reader knows (lower case, no punctuation), since it writes no others.

    Source: Post 2018, "A Call for Clarity in Reporting BLEU Scores"; Popović 2015, "chrF".
    """

    def __init__(self) -> None:
        """Set both measures up.

        Raises:
            MissingExtraError: If sacrebleu is not installed.
        """
        try:
            from sacrebleu.metrics.bleu import BLEU
            from sacrebleu.metrics.chrf import CHRF
        except ImportError as error:
            raise MissingExtraError("what is signed is scored by sacrebleu: pip install 'embedspace[train]'") from error
        self._measures: dict[str, Any] = {"bleu": BLEU(), "chrf": CHRF()}

    def of(self, said: Sequence[str], read: Sequence[str]) -> dict[str, float]:
        """Return "bleu" and "chrf" of texts.

        Args:
            said: What is meant, one at least.
            read: What was read, as many.

        Raises:
            ValueError: If their numbers differ, or there are none.
        """
        if len(said) != len(read) or not said:
            raise ValueError(f"{len(said)} texts that are meant and {len(read)} that were read")
        truth, own = ([text_of(letters_of(text)) for text in texts] for texts in (said, read))
        return {name: float(one.corpus_score(own, [truth]).score) for name, one in self._measures.items()}

    def beside_shuffled(self, said: Sequence[str], read: Sequence[str], seed: int = 0) -> dict[str, float]:
        """Return the scores of `of`, and "bleu_shuffled" and "chrf_shuffled": the same texts given to other sentences.

        Args:
            said: What is meant.
            read: What was read.
            seed: Seed of the control.
        """
        control = self.of(said, shuffled(read, seed))
        return {**self.of(said, read), **{f"{name}_shuffled": score for name, score in control.items()}}

    @property
    def signatures(self) -> dict[str, str]:
        """What sacrebleu wants named beside a score: its version and settings; known once something was scored."""
        return {name: str(one.get_signature()) for name, one in self._measures.items()}


def shuffled(texts: Sequence[str], seed: int = 0) -> list[str]:
    """Return texts in another order, none in its own place; one alone stays.

    Args:
        texts: Any.
        seed: Seed of the order.
    """
    order = np.random.default_rng(seed).permutation(len(texts))
    out = list(texts)
    for place, source in zip(order, np.roll(order, 1), strict=True):
        out[int(place)] = texts[int(source)]
    return out
