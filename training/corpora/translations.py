"""Words of other languages whose English is known: emoji names, word lists of learning games, dictionaries, stamps.

Every reader returns (English, translation) pairs. What is said of the stamps of the test half is never among them.
"""

from __future__ import annotations

import ast
import functools
import gzip
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator, Set
from pathlib import Path

from embedspace.errors import InputError
from training.corpora import manifest
from training.corpora.fetch import unpacked
from training.corpora.manifest import read_manifest
from training.corpora.rcc import read_rcc
from training.corpora.words import clean_caption, concept_of

__all__ = ["LANGUAGES", "art4apps", "cldr", "freedict", "gcompris", "pairs_of", "parse_cldr", "parse_dictd", "stamps"]

LANGUAGES = ("fr", "es", "ro", "ru", "ca", "bg", "el", "be")
"""The languages of the human recordings that have enough of them to be tested."""
SKIN_TONES = re.compile("[\U0001f3fb-\U0001f3ff]")
FLAGS = re.compile("[\U0001f1e6-\U0001f1ff\U000e0020-\U000e007f]|\\d?\ufe0f?\u20e3")
DICTIONARIES = {
    "fr": ("dict-freedict-eng-fra", "dict-freedict-fra-eng"),
    "es": ("dict-freedict-eng-spa", "dict-freedict-spa-eng"),
    "ru": ("dict-freedict-eng-rus",),
    "el": ("dict-freedict-eng-ell",),
}
MAX_LENGTH = 80
BASE64 = {
    letter: value for value, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
}


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


def parse_dictd(index: Path, dictionary: Path) -> Iterator[tuple[str, str]]:
    """Yield (headword, definition) of a dictionary in dictd's format.

    Source: dictd's manual, "index: headword TAB offset TAB length", numbers in base 64.
    """
    content = gzip.decompress(dictionary.read_bytes())
    for line in index.read_text(encoding="utf-8").splitlines():
        fields = line.split("\t")
        if len(fields) < 3 or line.startswith("00database"):
            continue
        offset, length = (functools.reduce(lambda sum_, letter: sum_ * 64 + BASE64[letter], f, 0) for f in fields[1:3])
        yield fields[0], content[offset : offset + length].decode("utf-8", errors="replace")


def _senses(definition: str) -> list[str]:
    """Return the single words or short phrases that a definition gives, first sense first."""
    lines = [re.sub(r"^\s*\d+\.\s*", "", line).strip() for line in definition.splitlines()[1:]]
    words = [word.strip() for line in lines if line for word in re.split(r"[,;]", re.sub(r"[\[(<].*?[\])>]", "", line))]
    return [word for word in words if word and len(word.split()) <= 3]


def freedict(language: str, vocabulary: Set[str]) -> list[tuple[str, str]]:
    """Return the dictionaries' translations of words of a vocabulary of concepts (`words.concept_of`)."""
    pairs = []
    for name in DICTIONARIES.get(language, ()):
        folder = unpacked(name) / "usr/share/dictd"
        stem = name.removeprefix("dict-")
        for headword, definition in parse_dictd(folder / f"{stem}.index", folder / f"{stem}.dict.dz"):
            title = definition.splitlines()[0] if definition else headword
            original = re.split(r"\s+[/<\[]", title)[0].strip() or headword
            for sense in _senses(definition)[:1]:
                english, local = (original, sense) if name.startswith("dict-freedict-eng") else (sense, original)
                if concept_of(english) in vocabulary and english[:1].islower():
                    pairs.append((english, local))
    return pairs


def stamps(language: str, splits: Iterable[str] = ("train",)) -> list[tuple[str, str]]:
    """Return the translations of the stamps of some splits.

    Raises:
        InputError: If the stamps' manifest is not built or not split, since it says which half a stamp is of.
    """
    path = manifest.CORPORA / "stamps/manifest.jsonl"
    if not path.exists():
        raise InputError(f"{path} is missing: build the stamps first, `python -m training.corpora.build --only stamps`")
    wanted = set(splits)
    every = list(read_manifest(path))
    if all(item.split == "train" for item in every):
        raise InputError(f"{path} has no test half: build the splits before the speech")
    items = [item for item in every if item.split in wanted and not item.extra["symbol"]]
    return [
        (item.captions[0], item.extra["captions"][language]) for item in items if language in item.extra["captions"]
    ]


def _tidy(text: str) -> str:
    return clean_caption(re.sub(r"\s*\(.*?\)", "", text)).replace("“", "").replace("”", "")


def pairs_of(language: str, vocabulary: Set[str]) -> Iterator[tuple[str, str, str]]:
    """Yield (English, translation, origin) of a language, the sources with the most concrete words first."""
    seen = set()
    readers = {
        "gcompris": gcompris(language),
        "art4apps": art4apps(language),
        "cldr": cldr(language),
        "freedict": freedict(language, vocabulary),
        "stamps": stamps(language),
    }
    for origin, pairs in readers.items():
        for english, local in pairs:
            english, local = _tidy(english), _tidy(local)
            key = (concept_of(english), local.casefold())
            # Untranslated entries of the word lists look like "<artichoke>".
            usable = english and local and "<" not in local and len(local) <= MAX_LENGTH
            if usable and key not in seen and (origin != "cldr" or key[0] in vocabulary):
                seen.add(key)
                yield english, local, origin
