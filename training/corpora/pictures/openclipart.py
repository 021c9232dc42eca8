"""Open Clip Art: pixels from the PNG package, titles and keywords from the RDF in the SVG package.

Many titles name a collection ("Part of the Flat Icon Collection", "Clipart by ...") and not the picture: the file's
name is used then, if it is made of English words; else the picture is left out. Other titles are Italian, French or
Polish: `openclipart_titles.toml` translates them. A weight keeps icons, stars and playing cards from drowning the rest.
"""

from __future__ import annotations

import functools
import html
import re
import struct
import tomllib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

from training.corpora.fetch import unpacked
from training.corpora.manifest import Item
from training.corpora.pictures.normalise import convert_named
from training.corpora.text.words import clean_caption, concept_of, singular

__all__ = ["PACKAGES", "SOURCE", "VERSION", "Entry", "build", "entry", "licence_of", "title_of", "weight_of"]

SOURCE = "openclipart"
PACKAGES = ("openclipart-png", "openclipart-svg", "wordnet-base")
VERSION = 3
LICENCE = "CC-PDDC"
"""Creative Commons' Public Domain Dedication, which the package's copyright file gives for all pictures."""

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_WORK = re.compile(rb"<(?:\w+:)?RDF\b.*?</(?:\w+:)?RDF>", re.DOTALL)
_COLLECTION = re.compile(
    r"clip ?art by|part of |various clip|architetto francesco|c rollandin|hash\(|menu clip art|boating rules|"
    r".*(?:theme|collection|iconset|icons|s[iu]bmission|signs|symbols|clipart|maps)$|"
    r"(?:gramastar|advertising|sallite|r16.*|dino|people|stick man|card|untitled.*|unknown|image|drawing.*)$",
    re.IGNORECASE,
)
_CODE = re.compile(
    r"\b(?:hash|0x[0-9a-f]+|bw|jon philli|ganson|aiga|svg|md|r\d+|nicu buculei|peterm|mimooh|nn|benji park)\b"
)
_NOT_A_KEYWORD = re.compile(r"^$|^\d+$|hash|^0x|unsorted|architetto|unknown|^sign(s and symbols)?$|^misc")
_HEAVY = ("computer", "shapes", "signs_and_symbols", "special")
_MAX_PIXELS = 16_000_000
_BLACK_AND_WHITE = re.compile(r"\s*\((?:b and w|bw|b&w|black and white)\)\s*", re.IGNORECASE)

# What is said beside the name: "hat - clothing", "Ice Cream Cone (4 Scoop)".
_ASIDE = re.compile(r"\s-\s(?:clothing|body part|rpg map elements)$|\((?:[^)]*\d[^)]*|colou?r)\)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Entry:
    """What the RDF of one picture says, cleaned.

    Attributes:
        title: Its title; empty if it has none.
        description: Its description; empty if it has none.
        creator: Who made it.
        keywords: Its keywords.
    """

    title: str = ""
    description: str = ""
    creator: str = ""
    keywords: tuple[str, ...] = ()


def entry(svg: bytes) -> Entry:
    """Read the RDF of an SVG; a picture whose RDF is missing or broken gets an empty entry."""
    found = _WORK.search(svg)
    if found is None:
        return Entry()
    names = b" ".join(re.findall(rb'xmlns:\w+="[^"]*"', svg[: found.start()]))
    declared = set(re.findall(rb"xmlns:(\w+)=", found[0].split(b">", 1)[0]))
    extra = b" ".join(
        name for name in re.findall(rb'xmlns:\w+="[^"]*"', names) if name[6:].split(b"=")[0] not in declared
    )
    try:
        root = ElementTree.fromstring(b"<x " + extra + b">" + found[0] + b"</x>")
    except ElementTree.ParseError:
        return Entry()
    work = root.find(".//" + _DC + "title/..")
    works = [node for node in root.iter() if node.tag.endswith("}Work")]
    work = works[0] if works else work
    if work is None:
        return Entry()
    creator = work.find(f"{_DC}creator//{_DC}title")
    keywords = (" ".join((node.text or "").replace("_", " ").split()).casefold() for node in work.iter(f"{_RDF}li"))
    return Entry(
        title=clean_caption(work.findtext(f"{_DC}title") or ""),
        description=clean_caption(work.findtext(f"{_DC}description") or ""),
        creator=clean_caption((creator.text if creator is not None else "") or ""),
        keywords=tuple(dict.fromkeys(word for word in keywords if not _NOT_A_KEYWORD.search(word))),
    )


def licence_of(svg: bytes) -> str:
    """Return the licence of a picture: the package's, but for the few whose own RDF names the GPL."""
    return "GPL-2.0-only" if re.search(rb'license\s+rdf:resource="[^"]*/GPL/2.0/?"', svg) else LICENCE


@functools.cache
def _translations() -> dict[str, str]:
    with Path(__file__).with_name("openclipart_titles.toml").open("rb") as file:
        return {key.casefold(): value for key, value in tomllib.load(file)["titles"].items()}


@functools.cache
def _english() -> frozenset[str]:
    """Return the words of WordNet's index, "_" and capitals aside."""
    folder = unpacked("wordnet-base") / "usr/share/wordnet"
    words: set[str] = set()
    for part in ("noun", "adj", "verb", "adv"):
        for line in (folder / f"index.{part}").read_text(encoding="utf-8").splitlines():
            if not line.startswith(" "):
                words.update(line.split(" ", 1)[0].split("_"))
    return frozenset(words | {"and", "of", "the", "a", "an", "with", "in", "on", "for", "from", "by", "to"})


def _words(text: str) -> str:
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    text = _CODE.sub(" ", re.sub(r"[_\-#/:,]+|(?<=\D)\d+|^\d+|\.\w{3}$", " ", text).casefold())
    return " ".join(text.split())


def _is_english(words: str) -> bool:
    """Tell whether most words, and the last, are English."""
    found = [word in _english() or singular(word) in _english() for word in re.findall(r"[^\W\d]+", words)]
    return bool(found) and found[-1] and sum(found) * 2 > len(found)


def title_of(path: str, found: Entry) -> tuple[str, bool]:
    """Return the best English caption of a picture, and whether it can be trusted.

    Args:
        path: Below the package's folder, without suffix: "animals/bugs/bee".
        found: What the RDF says.

    Returns:
        The caption ("" if there is none), and False where it may be in another language.
    """
    folder, _, name = path.rpartition("/")
    title = _BLACK_AND_WHITE.sub(" ", found.title).strip()
    title = name if not title or _COLLECTION.match(title) else _ASIDE.sub(" ", html.unescape(title)).strip()
    for key in (re.sub(r"\W*\d*$", "", title.casefold().replace("_", " ")).strip(), _words(title)):
        if key in _translations():
            return _translations()[key], True
    caption = _words(title)
    if " - " in title and not _is_english(caption) and "flags" not in folder:
        # "zielony kubek herbaty - green mug of tea"
        caption = next((part for part in map(_words, title.split(" - ")) if _is_english(part)), caption)
    if "/flags/" in f"/{path}/" and "flag" not in caption:
        return f"flag of {caption}", True
    if folder.startswith("recreation/games/cards"):
        return "playing card", True
    if folder == "people/stickmen" and name.startswith("sm_"):
        return "stick man", True
    if folder == "shapes/stars" and re.search(r"\d+pt", name):
        return "star", True
    foreign = "rchitetto" in found.creator
    return caption, _is_english(caption) and not foreign


def weight_of(folder: str, count: int, trusted: bool) -> float:
    """Return how often a picture should be drawn, 1 being normal.

    Args:
        folder: Its top folder; computer icons, shapes, symbols and patterns count a third.
        count: How many pictures have the same concept; beyond four they share the weight of four.
        trusted: Whether the caption is surely English.
    """
    return round((1 / 3 if folder in _HEAVY else 1.0) * min(1.0, 4 / count) * (1.0 if trusted else 0.25), 4)


def _collect(pngs: Path, svgs: Path) -> dict[str, Item]:
    """Return path below the folder -> item, of all pictures that have a caption."""
    items = {}
    for path in sorted(pngs.rglob("*.png")):
        # The packages link each duplicate to its original.
        if path.is_symlink():
            continue
        stem = path.relative_to(pngs).with_suffix("").as_posix()
        svg = svgs / f"{stem}.svg"
        drawn = svg.read_bytes() if svg.exists() else b""
        found = entry(drawn)
        caption, trusted = title_of(stem, found)
        keywords = tuple(word for word in found.keywords if word != found.creator.casefold())
        if not trusted and (not caption or _COLLECTION.match(found.title)):
            continue
        items[stem] = Item(
            id=f"{SOURCE}/{stem}",
            modality="image",
            path=f"{SOURCE}/files/{stem}.png",
            captions=(caption,),
            keywords=keywords,
            concept=concept_of(caption),
            source=SOURCE,
            licence=licence_of(drawn),
            extra={"folder": stem.split("/")[0], "title": found.title, "trusted": trusted},
        )
    return items


def _pixels(pngs: Path, svgs: Path, stem: str) -> Path:
    """Return the PNG, or the SVG where the PNG is too large to decode in reasonable time (some have 230 megapixels)."""
    png = pngs / f"{stem}.png"
    with png.open("rb") as file:
        width, height = struct.unpack_from(">II", file.read(24), 16)
    return svgs / f"{stem}.svg" if width * height > _MAX_PIXELS else png


def build(out: Path) -> list[Item]:
    """Normalise the pictures into `out/files`.

    `extra` has: folder, title (as the RDF gives it), trusted (the caption is surely English), weight.
    """
    pngs = unpacked("openclipart-png") / "usr/share/openclipart/png"
    svgs = unpacked("openclipart-svg") / "usr/share/openclipart/svg"
    items = _collect(pngs, svgs)
    failed = convert_named(SOURCE, out, {stem: _pixels(pngs, svgs, stem) for stem in items})
    kept = [item for stem, item in items.items() if stem not in failed]
    counts = Counter(item.concept for item in kept)
    return [
        replace(
            item,
            extra=item.extra | {"weight": weight_of(item.extra["folder"], counts[item.concept], item.extra["trusted"])},
        )
        for item in kept
    ]
