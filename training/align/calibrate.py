"""Fit the probabilities of a space anew, and nothing else: rewrites calibration.json.

    python -m training.align.calibrate                          # of the shipped weights
    python -m training.align.calibrate --weights build/runs/default/space

Run it after `python -m training.align`, which knows no questions, no long texts and no composed queries. It encodes the
validation items of the corpora that are built (kept under build/eval-cache) and draws searches with and without a match
from them; galleries are filled up with names of training items, which are only there not to match. Modality means stay
as they are, since generators stand on them. A pair whose corpora are not built keeps what it had.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration.model import Calibration, PairCalibration
from embedspace.encoders.passages import passages
from embedspace.evaluate.encode import SuiteEncoder
from embedspace.evaluate.items import EvalItem, Row, read_rows
from embedspace.files import write_text
from embedspace.query.algebra import compose_rows
from embedspace.space import EmbeddingSpace
from embedspace.train.calibrate import Anchored, Searches, fit_pairs, with_cutoffs
from training.align.measure import bridge
from training.align.vectors import class_names
from training.corpora.manifest import CORPORA
from training.corpora.text.words import concept_of

__all__ = [
    "ASKED",
    "CACHE",
    "Encoded",
    "built",
    "composed",
    "dishes",
    "fillers",
    "first_by_hash",
    "joined",
    "keywords_of",
    "long_texts",
    "searches_of",
    "validation",
]

CACHE = Path("build/eval-cache")
WEIGHTS = Path("embedspace/weights/default")
PICTURES = (
    "openclipart", "openmoji", "emoji-google", "emoji-fluent", "emoji-fluent-flat", "emoji-emojione",
    "emoji-emojione-1", "emoji-firefox", "emoji-blob", "emoji-streamline",
)  # fmt: skip
NAMED = ("openclipart", "openmoji", "stamps", "art4apps", "gcompris", "sounds", "instruments", "recipes")
"""Sources whose training captions fill galleries of names."""
ASKED = "a picture of {}"
COOKED = ("a picture of {}", "how do I make {}?", "{}")
"""How a dish is asked for."""
SPOKEN = 120
NAMES = 11_000
FEWEST = 100
"""Items that a gallery needs: fewer do not show how a score stands out. The sounds kept for validation are too few, and
all of them instruments; pairs that find sounds keep their line over the cosine, and have only cut-offs from them."""
RECIPES = 200


def first_by_hash(rows: Iterable[Row], limit: int) -> list[Row]:
    """Return at most `limit` rows, the first by a hash of their id."""
    return sorted(rows, key=lambda row: hashlib.sha256(str(row["id"]).encode()).hexdigest())[:limit]


@dataclass(frozen=True)
class Encoded:
    """Encodes rows and texts, leaving out what cannot be encoded."""

    encoder: SuiteEncoder

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows of texts."""
        return self.encoder.encode([EvalItem(text, text, "", {}) for text in texts], "text", "texts")

    def media(self, rows: Sequence[Row], modality: str) -> Anchored:
        """Return media with the concepts that their rows name."""
        items = [EvalItem(str(row["id"]), str(row["path"]), "", row) for row in rows]
        vectors = self.encoder.encode(items, modality, modality)
        good = np.isfinite(vectors).all(axis=1)
        return Anchored(vectors[good], np.array([str(row["concept"]) for row in rows], dtype=str)[good])

    def words(self, named: Mapping[str, str]) -> Anchored:
        """Return texts, given with the concepts that they name."""
        return Anchored(self.texts(list(named)), np.array(list(named.values()), dtype=str))


def built(sources: Iterable[str]) -> Iterator[Row]:
    """Yield the rows of the sources that are built."""
    for source in sources:
        if (CORPORA / source / "manifest.jsonl").is_file():
            yield from read_rows(CORPORA, source)


def _is_media(row: Row, split: str) -> bool:
    return row.get("split", "train") == split and bool(row.get("concept")) and bool(row.get("path"))


def long_texts(encoded: Encoded, rows: Sequence[Row], known: Iterable[str]) -> Anchored:
    """Return recipes as a catalog holds them: title, ingredients and steps, long ones in passages.

    Args:
        encoded: The encoder.
        rows: Rows of the recipes' manifest.
        known: Concepts that queries name; a recipe also belongs to those that its title ends with ("apple pie": "pie").
    """
    known = set(known)
    texts: list[str] = []
    concepts: list[str] = []
    items: list[int] = []
    for number, row in enumerate(rows):
        fields = [str(row["extra"].get(name, "")) for name in ("title", "ingredients", "steps")]
        parts = [part for field in fields if field for _, _, part in passages(field)]
        words = str(row["concept"]).split()
        also = [tail for k in range(1, len(words)) if (tail := " ".join(words[k:])) in known]
        # the title stands once for each name of the dish: an item belongs to what any of its rows belongs to
        for text, concept in [*((part, row["concept"]) for part in parts), *((parts[0], name) for name in also)]:
            texts.append(text)
            concepts.append(str(concept))
            items.append(number)
    return Anchored(encoded.texts(texts), np.array(concepts, dtype=str), np.array(items, dtype=np.int64))


def joined(*several: Anchored) -> Anchored:
    """Join items into one gallery."""
    kept = [one for one in several if len(one.vectors)]
    offsets = np.cumsum([0, *(int(one.numbers[-1]) + 1 for one in kept)])
    numbers = [one.numbers + offset for one, offset in zip(kept, offsets, strict=False)]
    return Anchored(
        np.concatenate([one.vectors for one in kept]),
        np.concatenate([one.concepts for one in kept]),
        np.concatenate(numbers),
    )


def fillers(taken: Iterable[str]) -> dict[str, str]:
    """Return names and keywords of training items, and ImageNet's classes: none is, or ends with, a taken concept."""
    taken, names = set(taken), dict[str, str]()
    rows = [row for row in built(NAMED) if row.get("captions") and row.get("split", "train") == "train"]
    captions = [(str(row["captions"][0]), row.get("concept")) for row in first_by_hash(rows, len(rows))]
    keywords = sorted({str(word) for row in rows for word in row.get("keywords", ())})
    for caption, own in [*captions, *((name, None) for name in [*sorted(class_names()), *keywords])]:
        concept = concept_of(caption)
        if len(names) < NAMES and not {concept, concept.split(" ")[-1], own} & taken:
            names.setdefault(caption, concept)
    return names


def keywords_of(rows: Iterable[Row]) -> dict[str, str]:
    """Return the first keywords of rows as one text, with what the rows show."""
    found: dict[str, str] = {}
    for row in rows:
        if row.get("keywords"):
            found.setdefault(" ".join(row["keywords"][:4]), str(row["concept"]))
    return found


def dishes(split: str) -> tuple[list[Row], dict[str, str], set[str]]:
    """Return recipes of a split, what asks for their dishes with what it names, and the names that titles end with."""
    usable = [r for r in built(("recipes",)) if r["extra"].get("usable") and r["split"] == split]
    rows = first_by_hash(usable, RECIPES)
    ends = {str(r["concept"]).split()[-1] for r in rows}
    names = {str(r["captions"][0]).casefold(): str(r["concept"]) for r in rows} | {name: name for name in sorted(ends)}
    return rows, {form.format(name): concept for name, concept in names.items() for form in COOKED}, ends


def validation(encoded: Encoded) -> dict[str, Any]:
    """Return the validation items: "image", "audio", "speech" media, "names", "asked", "keywords", "recipes" ..."""
    images = [r for r in built(PICTURES) if r["modality"] == "image" and _is_media(r, "val")]
    sounds = [r for r in built(("sounds", "instruments")) if r["modality"] == "audio" and _is_media(r, "val")]
    spoken = [r for r in built(("speech",)) if _is_media(r, "val") and r.get("language", "en") == "en"]
    spoken = first_by_hash(spoken, SPOKEN)
    rows = [*images, *sounds, *spoken]
    names = {str(r["captions"][0]): str(r["concept"]) for r in rows if r.get("captions")}
    names |= {str(r["concept"]): str(r["concept"]) for r in rows}
    asked = {ASKED.format(concept): concept for concept in dict.fromkeys(names.values())}
    keywords = keywords_of(rows)
    tested, cooked, ends = dishes("val")
    return {
        "image": encoded.media(images, "image"),
        "audio": encoded.media(sounds, "audio"),
        "speech": encoded.media(spoken, "speech"),
        "names": encoded.words(names),
        "asked": encoded.words(asked | keywords),
        "keywords": encoded.words(keywords),
        "recipes": long_texts(encoded, tested, ends) if tested else None,
        "cooked": encoded.words(cooked) if tested else None,
        "fillers": encoded.words(fillers(names.values())),
    }


def composed(media: Anchored, words: Anchored, modality: str, means: Mapping[str, NDArray[np.float32]]) -> Anchored:
    """Return each medium plus a text of its concept, as `embedspace.query.compose` adds them."""
    first = {concept: k for k, concept in reversed(list(enumerate(words.concepts.tolist())))}
    kept = [k for k, concept in enumerate(media.concepts.tolist()) if concept in first]
    texts = words.vectors[[first[media.concepts[k]] for k in kept]]
    rows = compose_rows([(1.0, modality, media.vectors[kept]), (1.0, "text", texts)], means)
    return Anchored(rows, media.concepts[kept])


def searches_of(found: Mapping[str, Any], means: Mapping[str, NDArray[np.float32]]) -> list[Searches]:
    """Return what is searched with what, of items as `validation` returns them."""
    texts = joined(found["names"], found["fillers"])
    media = {name: found[name] for name in ("image", "audio", "speech") if len(found[name].vectors)}
    result: list[Searches] = []
    for name, items in media.items():
        result.append(Searches(f"{name}>text", items, texts))
        result += [Searches(f"text>{name}", found[kind], items) for kind in ("names", "asked")]
        result += [
            Searches(f"{name}>{other}", items, other_items, name == other) for other, other_items in media.items()
        ]
    result += [Searches("text>text", found["asked"], texts), Searches("text>text", found["names"], texts, own=True)]
    if found["recipes"] is not None:
        result.append(Searches("text>text", found["cooked"], found["recipes"]))
        result.append(Searches("text>text", found["cooked"], joined(found["recipes"], found["fillers"])))
    for name in ("image", "audio"):
        if name in media:
            mixed = composed(media[name], found["keywords"], name, means)
            result += [Searches(f"mixed>{other}", mixed, items, own=True) for other, items in media.items()]
            result.append(Searches("mixed>text", mixed, texts))
    return result


def _enough(some: Searches) -> bool:
    return len(np.unique(some.gallery.numbers)) >= FEWEST


def _at_its_lowest(pair: PairCalibration) -> PairCalibration:
    """Return a pair with the lowest of its cut-offs at every size: instruments are easier to name than other sounds."""
    lowest = min((chance for _, chance in pair.cutoffs), default=0.0)
    return dataclasses.replace(pair, cutoffs=tuple((size, lowest) for size, _ in pair.cutoffs))


def refit(space: EmbeddingSpace, encoded: Encoded) -> Calibration:
    """Return the space's calibration with every pair fitted anew that validation items are there for."""
    given = space.calibration
    searches = searches_of(validation(encoded), given.means)
    kept = {
        pair: one if one.model is not None else dataclasses.replace(one, cutoffs=())
        for pair, one in given.pairs.items()
    }
    pairs = {**kept, **fit_pairs(some for some in searches if _enough(some))}
    pairs |= {pair: _at_its_lowest(one) for pair, one in pairs.items() if pair.startswith("audio>")}
    lines = {pair: one for pair, one in pairs.items() if one.model is None}
    pairs |= with_cutoffs(lines, (some for some in searches if not _enough(some)))
    modalities = [str(modality) for modality in space.modalities]
    return bridge(Calibration(given.means, pairs), modalities)


def _tell(doing: str, done: int, of: int) -> None:
    if of:
        print(f"{time.strftime('%H:%M:%S')} {doing}: {done}/{of}", flush=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder of the space; the shipped one by default")
    folder: Path = parser.parse_args().weights
    space = EmbeddingSpace.from_pretrained(folder)
    encoder = SuiteEncoder(space, CORPORA, CACHE, functools.partial(_tell))
    made = refit(space, Encoded(encoder))
    for pair, one in sorted(made.pairs.items()):
        model = f"score {one.model.score:.1f}" if one.model else "no model"
        print(f"{pair:14} {model:12} cut-offs {', '.join(f'{size:,.0f}: {p:.4f}' for size, p in one.cutoffs)}")
    write_text(folder / "calibration.json", made.to_json() + "\n")
    for item, reason in encoder.failures.items():
        print(f"left out: {item}: {reason}", file=sys.stderr)


if __name__ == "__main__":
    main()
