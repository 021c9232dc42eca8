"""Collect the texts that the synthetic voices say, with their English: build/corpora/speech/texts.jsonl.

python -m training.corpora.text.captions
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from embedspace.encoders.towers.imagenet import imagenet_classes
from training.corpora import manifest
from training.corpora.manifest import read_manifest
from training.corpora.text.translations import LANGUAGES, art4apps, gcompris, pairs_of, stamp_items
from training.corpora.text.words import clean_caption, concept_of

__all__ = [
    "ENGLISH_SOURCES",
    "Text",
    "collect",
    "english_texts",
    "held_out_concepts",
    "read_texts",
    "sayable",
    "vocabulary",
    "words_of_pictures",
]

TEXTS = "speech/texts.jsonl"
ENGLISH_SOURCES = {
    "stamps": ("stamps",),
    "emoji": ("openmoji",),
    "sounds": ("sounds", "instruments"),
    "art4apps": ("art4apps",),
    "gcompris": ("gcompris",),
    "openclipart": ("openclipart",),
    "recipes": ("recipes",),
}
"""Origin of a text -> the manifests that its captions are taken from, in order of importance."""
CONCRETE = ("stamps", "openmoji", "art4apps", "gcompris", "sounds", "instruments")
MAX_WORDS = {"openclipart": 4, "recipes": 7}
MAX_WORDS_ELSEWHERE = 40
WORD = re.compile(r"[^\W\d_]{2,}(?:['’-][^\W\d_]+)*$|^(?:a|i)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Text:
    """Something to say.

    Attributes:
        text: As it is said, in `language`.
        language: BCP 47.
        english: What it means: the caption that the recording is to be found by.
        origin: Where it is from ("stamps", "emoji", ...).
    """

    text: str
    language: str
    english: str
    origin: str


def sayable(text: str, max_words: int) -> bool:
    """Return whether a caption or title reads as words: letters only, no initials or file names, not too long."""
    words = re.split(r"[\s,&+/]+", text.strip(".!?"))
    return 0 < len(words) <= max_words and all(WORD.match(word) for word in words)


def _captions(source: str) -> Iterator[str]:
    path = manifest.CORPORA / source / "manifest.jsonl"
    if not path.exists():
        print(f"captions: {path} is not built; its captions are left out")
        return
    for item in read_manifest(path):
        if item.extra.get("silent") or (item.modality == "text" and source != "recipes"):
            continue
        # An instrument's further captions only vary how it plays.
        yield from item.captions[: 1 if source == "instruments" else None]


def english_texts() -> Iterator[Text]:
    """Yield every English text once."""
    seen: set[str] = set()
    for origin, sources in ENGLISH_SOURCES.items():
        limit = MAX_WORDS.get(origin, MAX_WORDS_ELSEWHERE)
        extra = {"art4apps": art4apps, "gcompris": gcompris}
        captions = [caption for source in sources for caption in _captions(source)]
        captions += [english for english, _ in extra[origin]("en")] if origin in extra else []
        for caption in captions:
            text = clean_caption(caption)
            strict = origin in MAX_WORDS
            if text.casefold() in seen or "<" in text or not (sayable(text, limit) if strict else text):
                continue
            seen.add(text.casefold())
            yield Text(text, "en", text, origin)
    yield from _bare_names(seen)


def _bare_names(seen: set[str]) -> Iterator[Text]:
    """Yield what people say when they name a stamp: "frog", where its caption is "A frog"."""
    for caption in _captions("stamps"):
        name = concept_of(caption)
        if name not in seen and sayable(name, MAX_WORDS["openclipart"]):
            seen.add(name)
            yield Text(name, "en", clean_caption(caption), "names")


def vocabulary() -> set[str]:
    """Return the concepts of everything that is pictured or heard, which foreign words are chosen by."""
    return {concept_of(caption) for source in CONCRETE for caption in _captions(source)}


def words_of_pictures() -> set[str]:
    """Return the concepts and single words of pictures that training sees and of ImageNet's classes.

    A dictionary's words are chosen by them; what only held-out stamps are called is not among them.
    """
    texts = [name for row in imagenet_classes() for name in (row.name, *row.synonyms)]
    for source in (*CONCRETE, "openclipart"):
        path = manifest.CORPORA / source / "manifest.jsonl"
        for item in read_manifest(path) if path.exists() else ():
            texts += item.captions if item.modality == "image" and item.split == "train" else ()
    return {word for text in texts for word in (concept_of(text), *re.findall(r"[a-z]+", text.casefold()))}


def held_out_concepts() -> frozenset[str]:
    """Return the concepts of the stamps' test half: no voice says them in training, in any language or wording.

    Raises:
        InputError: If the stamps are not built or not split.
    """
    return frozenset(concept_of(caption) for item in stamp_items(["test"]) for caption in item.captions)


def collect() -> list[Text]:
    """Return all texts that training may hear, English first; none names a held-out concept."""
    held_out = held_out_concepts()
    return [text for text in _every_text() if concept_of(text.english) not in held_out]


def _every_text() -> list[Text]:
    concepts, words = vocabulary(), words_of_pictures()
    texts = list(english_texts())
    for language in LANGUAGES:
        texts += [
            Text(local, language, english, origin) for english, local, origin in pairs_of(language, concepts, words)
        ]
    return texts


def read_texts(path: Path | None = None) -> list[Text]:
    """Read the table that `main` writes."""
    path = path or manifest.CORPORA / TEXTS
    return [Text(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Write the table and count it."""
    texts = collect()
    path = manifest.CORPORA / TEXTS
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(dataclasses.asdict(text), ensure_ascii=False) for text in texts)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for (language, origin), count in sorted(Counter((text.language, text.origin) for text in texts).items()):
        print(f"{language:3} {origin:12} {count:5}")


if __name__ == "__main__":
    main()
