"""Clean captions, and names of concepts that are the same string in every source."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["clean_caption", "concept_of", "singular"]

_SPACE = re.compile(r"\s+")
_LEADING = re.compile(r"^(?:(?:an?|the|some|this is|here is)\s+)+(?=\w)", re.IGNORECASE)
_PAIR = re.compile(r"^(?:pair|bunch|piece|slice|set|glass|cup|box) of (?!a )", re.IGNORECASE)
_TRAILING = re.compile(r"[\s.!?;:,…]+$")
_NOT_WORD = re.compile(r"[^\w\s'&+-]+")

_IRREGULAR = {
    "children": "child", "feet": "foot", "geese": "goose", "leaves": "leaf", "knives": "knife", "loaves": "loaf",
    "men": "man", "mice": "mouse", "people": "person", "teeth": "tooth", "women": "woman", "wolves": "wolf",
}  # fmt: skip
_INVARIANT = frozenset(
    "glasses sunglasses scissors jeans shorts trousers pants binoculars headphones pliers tongs series species chess "
    "gas bus glass dress grass cross compass mattress canvas iris cactus octopus walrus hippopotamus asparagus hummus "
    "citrus virus lens swiss news tennis christmas bias atlas pancreas abacus crocus hibiscus lotus platypus "
    "rhinoceros tyrannosaurus stegosaurus albatross kiss boss moss princess actress waitress fireworks".split()
)


def clean_caption(text: str) -> str:
    """Return a caption in NFC with single spaces and without the full stop at its end."""
    text = _SPACE.sub(" ", unicodedata.normalize("NFC", text)).strip()
    text = re.sub(r"^[-–—]\s+", "", text)
    return text.rstrip() if text.endswith("...") else text.removesuffix(".").rstrip()


def singular(word: str) -> str:
    """Return the singular of an English noun in lower case; a word that is none comes back as it is."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in _INVARIANT or len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return f"{word[:-3]}y" if len(word) > 4 else word[:-1]
    if word.endswith(("shes", "ches", "xes", "sses", "oes")) and word not in ("shoes", "toes", "canoes"):
        return word[:-2]
    return word[:-1]


def concept_of(text: str) -> str:
    """Return the normalised name of what a caption or title names.

    Lower case, no article, no count ("a pair of"), no punctuation, last word in the singular: "Some cherries." and
    "a cherry" are both "cherry".
    """
    text = _TRAILING.sub("", unicodedata.normalize("NFKC", text).casefold()).replace("’", "'").replace("_", " ")
    text = _LEADING.sub("", _SPACE.sub(" ", _NOT_WORD.sub(" ", text)).strip())
    text = _LEADING.sub("", _PAIR.sub("", text))
    head, space, last = text.rpartition(" ")
    return f"{head}{space}{singular(last)}"
