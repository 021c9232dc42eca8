"""Emoji of ten vendors: the same concepts in as many styles, named by emojibase.

A concept is one emoji, found by its hexcode or by one of its names in every vendor, so its name is the same string
everywhere. Flags, components (hair, skin tones) and skin-tone variants are left out.
"""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.corpora.fetch import package, unpacked
from training.corpora.manifest import Item
from training.corpora.pictures.normalise import convert_named
from training.corpora.text.words import clean_caption, concept_of

__all__ = [
    "BLOB",
    "EMOJIONE",
    "EMOJIONE_1",
    "FIREFOX",
    "FLUENT",
    "FLUENT_FLAT",
    "GOOGLE",
    "OPENMOJI",
    "STREAMLINE",
    "TWITTER",
    "Concept",
    "IconSet",
    "Vendor",
    "concepts",
    "hexcode_named",
    "hexcode_of",
    "hexcodes_by_name",
]

_NAMES = "emojibase-data"
_LANGUAGES = ("da", "de", "es", "fr", "it", "lt", "nl", "pt", "ru")
_LEFT_OUT = ("component", "flags")


@dataclass(frozen=True, slots=True)
class Concept:
    """What one emoji shows.

    Attributes:
        hexcode: Code points in upper case, joined by "-", without variation selectors.
        emoji: The character itself.
        label: Its English name.
        name: The normalised name, unique among emoji.
        tags: English keywords.
        group: One of nine groups ("food-drink", ...).
        subgroup: Finer ("food-fruit", ...).
        labels: Language -> name.
    """

    hexcode: str
    emoji: str
    label: str
    name: str
    tags: tuple[str, ...]
    group: str
    subgroup: str
    labels: dict[str, str]


def hexcode_of(name: str) -> str:
    """Return the canonical hexcode of a vendor's file stem: "2764-fe0f" -> "2764"."""
    return "-".join(part for part in name.upper().split("-") if part != "FE0F")


def _load(path: Path) -> Any:  # noqa: ANN401
    return json.loads(path.read_text(encoding="utf-8"))


@functools.cache
def concepts() -> dict[str, Concept]:
    """Return hexcode -> concept of all emoji but flags, components and skin-tone variants."""
    folder = unpacked(_NAMES) / "package"
    meta = _load(folder / "meta/groups.json")
    rows = [row for row in _load(folder / "en/data.json") if "group" in row]
    rows = [row for row in rows if meta["groups"][str(row["group"])] not in _LEFT_OUT]
    counts = Counter(concept_of(row["label"]) for row in rows)
    labels: dict[str, dict[str, str]] = {}
    for language in _LANGUAGES:
        for row in _load(folder / language / "data.json"):
            labels.setdefault(hexcode_of(row["hexcode"]), {})[language] = clean_caption(row["label"])
    found = {}
    for row in rows:
        hexcode, name = hexcode_of(row["hexcode"]), concept_of(row["label"])
        found[hexcode] = Concept(
            hexcode=hexcode,
            emoji=row["emoji"],
            label=clean_caption(row["label"]),
            # "eye" and "eyes" are two emoji: where normalising makes two the same, both keep their labels.
            name=name if counts[name] == 1 else row["label"].casefold(),
            tags=tuple(row.get("tags", ())),
            group=meta["groups"][str(row["group"])],
            subgroup=meta["subgroups"][str(row["subgroup"])],
            labels=labels.get(hexcode, {}),
        )
    return found


@dataclass(frozen=True, slots=True)
class Vendor:
    """One vendor's emoji, as a source.

    Attributes:
        source: Name of the corpus.
        package: Package with the pictures.
        folder: Where they lie in it.
        suffix: Their suffix.
        licence: Licence of the artwork, which can differ from the package's.
    """

    source: str
    package: str
    folder: str
    suffix: str
    licence: str = ""
    VERSION: int = 1

    @property
    def PACKAGES(self) -> tuple[str, ...]:  # noqa: N802
        """The packages it is built from."""
        return self.package, _NAMES

    def build(self, out: Path) -> list[Item]:
        """Normalise the pictures into `out/files`.

        `extra` has: hexcode, emoji, group, subgroup, captions (language -> name).
        """
        pictures = self.pictures()
        known = {hexcode: concept for hexcode, concept in concepts().items() if hexcode in pictures}
        failed = convert_named(self.source, out, {code: pictures[code] for code in known})
        return [self._item(concept) for code, concept in known.items() if code not in failed]

    def pictures(self) -> Mapping[str, Path | bytes]:
        """Return hexcode -> picture: a file, or an SVG's content."""
        folder = unpacked(self.package) / self.folder
        return {hexcode_of(path.stem): path for path in sorted(folder.glob(f"*{self.suffix}"))}

    def _item(self, concept: Concept) -> Item:
        return Item(
            id=f"{self.source}/{concept.hexcode}",
            modality="image",
            path=f"{self.source}/files/{concept.hexcode}.png",
            captions=(concept.label,),
            keywords=concept.tags,
            concept=concept.name,
            source=self.source,
            licence=self.licence or package(self.package).licence,
            group=f"emoji:{concept.hexcode}",
            extra={
                "hexcode": concept.hexcode,
                "emoji": concept.emoji,
                "group": concept.group,
                "subgroup": concept.subgroup,
                "captions": concept.labels,
            },
        )


def _squashed(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


@functools.cache
def hexcodes_by_name() -> dict[str, str]:
    """Return squashed name -> hexcode: labels of the concepts, then their shortcodes; what two share has neither."""
    folder = unpacked(_NAMES) / "package/en/shortcodes"
    known = concepts()
    found = {_squashed(concept.label): code for code, concept in known.items()}
    for shortcodes in ("cldr", "github", "iamcal", "emojibase", "joypixels", "emojibase-legacy"):
        named: dict[str, set[str]] = {}
        for code, names in _load(folder / f"{shortcodes}.json").items():
            for name in [names] if isinstance(names, str) else names:
                if (hexcode := hexcode_of(code)) in known:
                    named.setdefault(_squashed(name), set()).add(hexcode)
        for name, codes in named.items():
            if len(codes) == 1:
                found.setdefault(name, min(codes))
    return found


def hexcode_named(name: str) -> str | None:
    """Return the hexcode of a name, or of a name with a number behind it, as several drawings of one emoji have."""
    known = hexcodes_by_name()
    return known.get(_squashed(name)) or known.get(_squashed(re.sub(r"-\d$", "", name)))


@dataclass(frozen=True, slots=True)
class IconSet(Vendor):
    """A vendor whose emoji are SVG bodies in one Iconify JSON file, `folder`, by name instead of hexcode."""

    def pictures(self) -> Mapping[str, Path | bytes]:
        """Return hexcode -> SVG of the icons whose name is an emoji's; the first of two for one emoji stands."""
        found: dict[str, Path | bytes] = {}
        for name, svg in self.drawings().items():
            code = hexcode_named(name)
            if code is not None:
                found.setdefault(code, svg)
        return found

    def drawings(self) -> dict[str, bytes]:
        """Return name -> SVG of all icons, by name."""
        icons = _load(unpacked(self.package) / self.folder)
        found = {}
        for name, icon in sorted(icons["icons"].items()):
            if icon.get("hidden"):
                continue
            left, top = icon.get("left", 0), icon.get("top", 0)
            width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
            box = f'viewBox="{left} {top} {width} {height}" width="{width}" height="{height}"'
            namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
            found[name] = f"<svg {namespaces} {box}>{icon['body']}</svg>".encode()
        return found


def _icons(source: str, name: str, licence: str) -> IconSet:
    return IconSet(source, f"@iconify-json/{name}", "package/icons.json", ".svg", licence)


OPENMOJI = Vendor("openmoji", "openmoji", "package/color/svg", ".svg")
# The packages are MIT, the artwork of Google (Noto Emoji) is Apache-2.0 and that of Twitter (Twemoji) CC-BY-4.0.
GOOGLE = Vendor("emoji-google", "emoji-datasource-google", "package/img/google/64", ".png", "MIT AND Apache-2.0")
TWITTER = Vendor("emoji-twitter", "emoji-datasource-twitter", "package/img/twitter/64", ".png", "MIT AND CC-BY-4.0")
FLUENT = Vendor("emoji-fluent", "@lobehub/fluent-emoji-3d", "package/assets", ".webp")
# Drawn with other hands again, so that what an emoji shows is learnt and not how one vendor draws it.
EMOJIONE = _icons("emoji-emojione", "emojione", "CC-BY-4.0")
EMOJIONE_1 = _icons("emoji-emojione-1", "emojione-v1", "CC-BY-SA-4.0")
FIREFOX = _icons("emoji-firefox", "fxemoji", "Apache-2.0")
BLOB = _icons("emoji-blob", "noto-v1", "Apache-2.0")
FLUENT_FLAT = _icons("emoji-fluent-flat", "fluent-emoji-flat", "MIT")
STREAMLINE = _icons("emoji-streamline", "streamline-emojis", "CC-BY-4.0")
