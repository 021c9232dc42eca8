"""Emoji of four vendors: the same concepts in four styles, named by emojibase.

A concept is one emoji, found by its hexcode in every vendor, so its name is the same string everywhere. Flags,
components (hair, skin tones) and skin-tone variants are left out.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.corpora.fetch import package, unpacked
from training.corpora.manifest import Item
from training.corpora.pictures import convert_named
from training.corpora.words import clean_caption, concept_of

__all__ = ["FLUENT", "GOOGLE", "OPENMOJI", "TWITTER", "Concept", "Vendor", "concepts", "hexcode_of"]

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
        folder = unpacked(self.package) / self.folder
        pictures = {hexcode_of(path.stem): path for path in sorted(folder.glob(f"*{self.suffix}"))}
        known = {hexcode: concept for hexcode, concept in concepts().items() if hexcode in pictures}
        failed = convert_named(self.source, out, {code: pictures[code] for code in known})
        return [self._item(concept) for code, concept in known.items() if code not in failed]

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


OPENMOJI = Vendor("openmoji", "openmoji", "package/color/svg", ".svg")
# The packages are MIT, the artwork of Google (Noto Emoji) is Apache-2.0 and that of Twitter (Twemoji) CC-BY-4.0.
GOOGLE = Vendor("emoji-google", "emoji-datasource-google", "package/img/google/64", ".png", "MIT AND Apache-2.0")
TWITTER = Vendor("emoji-twitter", "emoji-datasource-twitter", "package/img/twitter/64", ".png", "MIT AND CC-BY-4.0")
FLUENT = Vendor("emoji-fluent", "@lobehub/fluent-emoji-3d", "package/assets", ".webp")
