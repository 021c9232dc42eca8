"""Texts as word pieces, in the windows that the text network reads; no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

__all__ = ["WordPieces"]

_WINDOW = 254  # word pieces a window: the model was trained on 256 with its two marks
_UNKNOWN = "[UNK]"


class WordPieces:
    """The word-piece tokenizer of a text backbone."""

    def __init__(self, definition: str) -> None:
        """Take the JSON definition of the `tokenizers` library."""
        self._tokenizer = Tokenizer.from_str(definition)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def windows(self, text: str) -> list[NDArray[np.int64]]:
        """Split one text into word pieces, and those into windows of equal length.

        Args:
            text: Any length; an empty one is encoded as the two marks alone.

        Returns:
            One (pieces + 2,) int64 a window, at most 256 long, each with its start and end mark.
        """
        start, *pieces, end = self._tokenizer.encode(text).ids
        count = max(-(-len(pieces) // _WINDOW), 1)
        size = -(-len(pieces) // count)  # equal windows: a last one of three words would say little
        return [
            np.array([start, *pieces[at : at + size], end], np.int64)
            for at in range(0, max(len(pieces), 1), max(size, 1))
        ]

    def unknown(self, text: str) -> list[str]:
        """Return the parts of a text that the vocabulary lacks, in order; each becomes one and the same piece.

        Characters of many scripts and emoji are such parts: all words written in them look alike to the model.
        """
        encoding = self._tokenizer.encode(text)
        lacking = self._tokenizer.token_to_id(_UNKNOWN)
        spans = zip(encoding.ids, encoding.offsets, strict=True)
        return [text[first:last] for piece, (first, last) in spans if piece == lacking]

    def words_of(self, text: str) -> list[list[str]]:
        """Return the pieces of each word of a text; numbers and punctuation are left out."""
        coded = self._tokenizer.encode(text, add_special_tokens=False)
        words: dict[int | None, list[str]] = {}
        for piece, word in zip(coded.tokens, coded.word_ids, strict=True):
            words.setdefault(word, []).append(piece)
        return [pieces for pieces in words.values() if any(letter.isalpha() for letter in "".join(pieces))]
