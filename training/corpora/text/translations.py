"""Words of other languages whose English is known: emoji names, word lists of learning games, dictionaries, stamps.

Every reader returns (English, translation) pairs. What is said of the stamps of the test half is never among them.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator, Set
from pathlib import Path

from embedspace.errors import InputError
from training.corpora import manifest
from training.corpora.fetch import unpacked
from training.corpora.manifest import Item, read_manifest
from training.corpora.pictures.rcc import read_rcc
from training.corpora.text.dictionaries import dictionary
from training.corpora.text.words import clean_caption, concept_of

__all__ = ["LANGUAGES", "art4apps", "cldr", "gcompris", "pairs_of", "parse_cldr", "stamp_items", "stamps"]

LANGUAGES = ("fr", "es", "ro", "ru", "ca", "bg", "el", "be")
"""The languages of the human recordings that have enough of them to be tested."""
SKIN_TONES = re.compile("[\U0001f3fb-\U0001f3ff]")
FLAGS = re.compile("[\U0001f1e6-\U0001f1ff\U000e0020-\U000e007f]|\\d?\ufe0f?\u20e3")
MAX_LENGTH = 80


def parse_cldr(path: Path) -> dict[str, str]:
    """Return emoji -> spoken name of a CLDR annotations file, without flags, keycaps and skin tones."""
    names = {}
    for node in ElementTree.parse(path).getroot().iter("annotation"):
        emoji = node.get("cp", "")
        plain = node.get("type") == "tts" and node.text and not SKIN_TONES.search(emoji) and not FLAGS.search(emoji)
        if plain and node.text and "↑" not in node.text:  # ↑↑↑ means "as in the parent language"
            names[emoji] = node.text.strip()
    return names


@functools.cache
def _cldr_names(language: str) -> dict[str, str]:
    root = unpacked("unicode-cldr-core") / "usr/share/unicode/cldr/common"
    files = [root / folder / f"{language}.xml" for folder in ("annotations", "annotationsDerived")]
    return {emoji: name for file in files for emoji, name in parse_cldr(file).items()}


def cldr(language: str) -> list[tuple[str, str]]:
    """Return the emoji names of CLDR."""
    english = _cldr_names("en")
    return [(english[emoji], name) for emoji, name in _cldr_names(language).items() if emoji in english]


@functools.cache
def _gcompris_words() -> dict[str, dict[str, str]]:
    path = unpacked("gcompris-qt-data") / "usr/share/gcompris-qt/rcc/lang.rcc"
    pattern = re.compile(r"content-([a-z]{2})\.json$")
    tables = {}
    for name, content in read_rcc(path).items():
        if match := pattern.search(name):
            tables[match[1]] = json.loads(content)
    return tables


def gcompris(language: str) -> list[tuple[str, str]]:
    """Return the vocabulary of GCompris's language lessons; language "en" gives the English words with themselves."""
    tables = _gcompris_words()
    english, local = tables["en"], tables.get(language, {})
    return [(english[key], word) for key, word in local.items() if english.get(key) and word and "U00" not in key]


def _python_lists(path: Path) -> dict[str, list[str]]:
    """Read a module of the form `d["name"] = [...]` without running it."""
    lists = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            lists[str(ast.literal_eval(node.targets[0].slice))] = list(ast.literal_eval(node.value))
    return lists


def art4apps(language: str) -> list[tuple[str, str]]:
    """Return the labels of pysiogame's Art4Apps pictures; "en" gives the English labels with themselves."""
    folder = unpacked("pysiogame") / "usr/share/games/pysiogame/i18n/custom/a4a_py"
    path = folder / f"{'en_GB' if language == 'en' else language}.py"
    if not path.exists():
        return []
    english, local = _python_lists(folder / "en_GB.py"), _python_lists(path)
    pairs = []
    for name, words in english.items():
        # Lists of other lengths are not aligned word by word.
        if len(local.get(name, [])) == len(words):
            pairs.extend(zip(words, local[name], strict=True))
    return pairs


def stamp_items(splits: Iterable[str]) -> list[Item]:
    """Return the stamps of some splits, letters and other symbols left out.

    Raises:
        InputError: If the stamps' manifest is not built or not split, since it says which half a stamp is of.
    """
    path = manifest.CORPORA / "stamps/manifest.jsonl"
    if not path.exists():
        raise InputError(f"{path} is missing: build the stamps first, `python -m training.corpora --only stamps`")
    wanted = set(splits)
    every = list(read_manifest(path))
    if all(item.split == "train" for item in every):
        raise InputError(f"{path} has no test half: build the splits before the speech")
    return [item for item in every if item.split in wanted and not item.extra["symbol"]]


def stamps(language: str, splits: Iterable[str] = ("train",)) -> list[tuple[str, str]]:
    """Return the translations of the stamps of some splits; raises as `stamp_items`."""
    items = stamp_items(splits)
    return [
        (item.captions[0], item.extra["captions"][language]) for item in items if language in item.extra["captions"]
    ]


def _tidy(text: str) -> str:
    return clean_caption(re.sub(r"\s*\(.*?\)", "", text)).replace("“", "").replace("”", "")


def pairs_of(language: str, vocabulary: Set[str], words: Set[str]) -> Iterator[tuple[str, str, str]]:
    """Yield (English, translation, origin) of a language, the sources with the most concrete words first.

    Args:
        language: One of `LANGUAGES`.
        vocabulary: Concepts that CLDR's names are chosen by.
        words: Concepts and single words that the dictionaries' are. Of theirs only what is not said yet is taken.
    """
    seen: set[tuple[str, str]] = set()
    said: set[str] = set()
    readers = {
        "gcompris": gcompris(language),
        "art4apps": art4apps(language),
        "cldr": cldr(language),
        "stamps": stamps(language),
        "dictionary": dictionary(language, words),
    }
    for origin, pairs in readers.items():
        for english, local in pairs:
            english, local = _tidy(english), _tidy(local)
            key = (concept_of(english), local.casefold())
            # Untranslated entries of the word lists look like "<artichoke>".
            usable = english and local and "<" not in local and len(local) <= MAX_LENGTH
            if not usable or key in seen or (origin == "cldr" and key[0] not in vocabulary):
                continue
            new = [word for word in re.findall(r"\w+", key[1]) if word not in said]
            if new or origin != "dictionary":
                seen.add(key)
                said.update(new)
                yield english, local, origin
