"""Art4Apps pictures of pysiogame: photos and drawings with one clean label each.

Debian's copyright file calls all of the game's images public domain; the game's own CREDITS file says that these are
"created by Smart4Kids under a Creative Commons License (CC BY-SA)" without a version. The stricter one is recorded.
"""

from __future__ import annotations

from pathlib import Path

from training.corpora.fetch import unpacked
from training.corpora.manifest import Item
from training.corpora.pictures.normalise import convert_named
from training.corpora.text.words import concept_of

__all__ = ["PACKAGES", "SOURCE", "VERSION", "build"]

SOURCE = "art4apps"
PACKAGES = ("pysiogame",)
VERSION = 1
LICENCE = "CC-BY-SA-3.0"


def build(out: Path) -> list[Item]:
    """Normalise the pictures into `out/files`; the folder's name ("fruit_n_veg") becomes a keyword."""
    folder = unpacked(PACKAGES[0]) / "usr/share/games/pysiogame/res/images/art4apps"
    found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.jpg"))}
    failed = convert_named(SOURCE, out, found)
    items = []
    for stem in found:
        if stem in failed:
            continue
        category, _, name = stem.rpartition("/")
        label = name.replace("_", " ").strip()
        items.append(
            Item(
                id=f"{SOURCE}/{stem}",
                modality="image",
                path=f"{SOURCE}/files/{stem}.png",
                captions=(label,),
                keywords=tuple(word for word in category.split("_") if word != "n"),
                concept=concept_of(label),
                source=SOURCE,
                licence=LICENCE,
                extra={"category": category},
            )
        )
    return items
