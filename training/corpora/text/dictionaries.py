"""Words of other languages from dictionaries: FreeDict's (dictd's format) and Apertium's (finite-state transducers).

Where no dictionary leads from a language to English, one by way of a third language does: a French word's English and
its Russian are each other's translation, often enough to learn from. Nouns only, first senses only.
"""

from __future__ import annotations

import functools
import gzip
import re
import subprocess
from collections.abc import Iterable, Iterator, Set
from pathlib import Path

from embedspace.errors import MissingExtraError
from training.corpora.fetch import unpacked
from training.corpora.text.words import concept_of

__all__ = ["dictionary", "parse_dictd", "through_apertium"]

DIRECT = {
    "fr": ("eng-fra", "fra-eng"),
    "es": ("eng-spa", "spa-eng"),
    "bg": ("eng-bul",),
    "el": ("eng-ell", "ell-eng"),
    "ru": ("eng-rus",),
}
"""Language -> FreeDict's dictionaries from or to English."""
PIVOTS = {"ru": (("deu-eng", "deu-rus"), ("fra-eng", "fra-rus"))}
"""Language -> pairs of FreeDict's dictionaries whose headwords are of a third language."""
APERTIUM = {"ca": "apertium-eng-cat/eng-cat", "es": "apertium-eng-spa/eng-spa"}
"""Language -> package and pair that translates English lemmas."""
BELARUSIAN = "apertium-bel-rus/rus-bel"
RUSSIAN_NOUNS = tuple(f"<n>{gender}" for gender in ("<m><aa>", "<m><nn>", "<f><aa>", "<f><nn>", "<nt><nn>"))
BASE64 = {
    letter: value for value, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
}
MAX_WORDS = 3
_STRESS = "\u0301"


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
    return [word for word in words if word and len(word.split()) <= MAX_WORDS]


@functools.cache
def _first_senses(pair: str) -> dict[str, str]:
    """Return headword -> first sense of a FreeDict dictionary; headwords that are marked as no noun are left out."""
    folder = unpacked(f"dict-freedict-{pair}") / "usr/share/dictd"
    senses: dict[str, str] = {}
    for headword, definition in parse_dictd(folder / f"freedict-{pair}.index", folder / f"freedict-{pair}.dict.dz"):
        title = definition.splitlines()[0] if definition else headword
        kinds = re.findall(r"<([a-z]+)", title)
        if kinds and not {"n", "masc", "fem", "neut", "f", "m"} & set(kinds):
            continue
        original = re.split(r"\s+[/<\[]", title)[0].strip() or headword
        if found := _senses(definition):
            senses.setdefault(original, re.sub(r"\s+\d+\.?$", "", found[0].replace(_STRESS, "")))
    return senses


def _freedict(language: str) -> Iterator[tuple[str, str]]:
    for pair in DIRECT.get(language, ()):
        for headword, sense in _first_senses(pair).items():
            yield (headword, sense) if pair.startswith("eng") else (sense, headword)
    for to_english, to_local in PIVOTS.get(language, ()):
        local = _first_senses(to_local)
        yield from (
            (english, local[headword]) for headword, english in _first_senses(to_english).items() if headword in local
        )


def through_apertium(package_and_pair: str, lemmas: Iterable[str]) -> dict[str, str]:
    """Translate tagged lemmas ("toucan<n>") by a bilingual dictionary of Apertium.

    Returns:
        Lemma with its tags -> first translation without any, for those that the dictionary has.

    Raises:
        MissingExtraError: If lttoolbox is not installed.
    """
    wanted = list(lemmas)
    name, _, _ = package_and_pair.partition("/")
    path = unpacked(name) / "usr/share/apertium" / f"{package_and_pair}.autobil.bin"
    text = "\n".join(f"^{lemma}$" for lemma in wanted)
    try:
        done = subprocess.run(["lt-proc", "-b", str(path)], input=text, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise MissingExtraError(
            "lt-proc is not installed; it reads Apertium's dictionaries: apt-get install lttoolbox"
        ) from None
    found = {}
    for lemma, line in zip(wanted, done.stdout.splitlines(), strict=True):
        _, _, first = line.strip("^$").partition("/")
        first = first.split("/")[0]
        if first and not first.startswith("@"):
            found[lemma] = re.sub(r"<.*", "", first).replace("_", " ").replace("#", "")
    return found


def _apertium(language: str, vocabulary: Set[str]) -> Iterator[tuple[str, str]]:
    words = sorted(word for word in vocabulary if re.fullmatch(r"[a-z][a-z ]+", word))
    for lemma, local in through_apertium(APERTIUM[language], (f"{word}<n>" for word in words)).items():
        yield lemma.removesuffix("<n>"), local


def _belarusian() -> Iterator[tuple[str, str]]:
    """Yield what Russian words of the dictionaries are in Belarusian."""
    english = {local: word for word, local in _freedict("ru") if " " not in local and word[:1].islower()}
    for tags in RUSSIAN_NOUNS:
        for lemma, local in through_apertium(BELARUSIAN, (f"{word}{tags}" for word in english)).items():
            yield english[lemma.removesuffix(tags)], local


def _all_pairs(language: str, vocabulary: Set[str]) -> Iterator[tuple[str, str]]:
    yield from _freedict(language)
    if language in APERTIUM:
        yield from _apertium(language, vocabulary)
    if language == "be":
        yield from _belarusian()


def dictionary(language: str, vocabulary: Set[str]) -> list[tuple[str, str]]:
    """Return (English, translation) of the words of a vocabulary of concepts (`words.concept_of`)."""
    pairs = dict.fromkeys(
        (re.sub(r"^(?:an?|the|to) ", "", english), local)
        for english, local in _all_pairs(language, vocabulary)
        if english[:1].islower() and local
    )
    return [(english, local) for english, local in pairs if concept_of(english) in vocabulary]
