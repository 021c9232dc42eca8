"""Tux Paint's stamps: what the main suite measures, since image, text, sound and human speech of the same thing exist.

Each stamp is a picture (PNG or SVG, sometimes both) beside a text file: its first line is the English caption, each
further one a translation (`fr.utf8=Un chien.`). The suite's gallery holds the stamps outside `symbols/` whose
caption names a thing that no other of them names ("Some cherries" and "A pair of cherries" both name cherries): 563 of
701.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from training.corpora.fetch import package, unpacked
from training.corpora.manifest import Item
from training.corpora.pictures.normalise import convert_named
from training.corpora.text.words import clean_caption, concept_of

__all__ = ["LANGUAGES", "PACKAGES", "SOURCE", "VERSION", "build", "read_text", "stamps_folder"]

SOURCE = "stamps"
PACKAGES = ("tuxpaint-stamps-default",)
VERSION = 1
LANGUAGES = ("fr", "es", "ro", "ru", "ca", "bg", "el", "be", "da", "lt", "nl", "de", "it", "pt")
"""Languages whose translations are kept: those that have recordings, and the largest of the others."""


def stamps_folder() -> Path:
    """Return the folder of the unpacked stamps."""
    return unpacked(PACKAGES[0]) / "usr/share/tuxpaint/stamps"


def read_text(path: Path) -> tuple[str, dict[str, str]]:
    """Read a stamp's text file.

    Returns:
        The English caption, and language -> caption for `LANGUAGES`; all cleaned.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    translations = {}
    for line in lines[1:]:
        key, _, value = line.partition("=")
        language = key.strip().removesuffix(".utf8")
        if language in LANGUAGES and (caption := clean_caption(value)):
            translations[language] = caption
    return clean_caption(lines[0] if lines else ""), translations


def _picture(text: Path) -> Path | None:
    # The PNG first: it needs no rasteriser, and where both exist they show the same.
    for suffix in (".png", ".svg"):
        if (path := text.with_suffix(suffix)).exists():
            return path
    return None


def build(out: Path) -> list[Item]:
    """Normalise all stamps into `out/files` and return their items.

    `extra` has: stem (path below the stamps folder, as the recordings' names begin), symbol (letters, digits, coins),
    unique (in the suite's gallery), captions (language -> translation), vector (drawn from an SVG).
    """
    folder = stamps_folder()
    found = [(text, picture) for text in sorted(folder.rglob("*.txt")) if (picture := _picture(text))]
    stems = {text: text.relative_to(folder).with_suffix("").as_posix() for text, _ in found}
    failed = convert_named(SOURCE, out, {stems[text]: picture for text, picture in found})
    items = []
    for text, picture in found:
        stem = stems[text]
        if stem in failed:
            continue
        caption, translations = read_text(text)
        extra = {"stem": stem, "symbol": stem.startswith("symbols/"), "captions": translations}
        if picture.suffix == ".svg":
            extra["vector"] = True
        items.append(
            Item(
                id=f"{SOURCE}/{stem}",
                modality="image",
                path=f"{SOURCE}/files/{stem}.png",
                captions=(caption,),
                keywords=tuple(stem.split("/")[:-1]),
                concept=concept_of(caption),
                source=SOURCE,
                licence=package(PACKAGES[0]).licence,
                extra=extra,
            )
        )
    _mark_unique(items)
    return items


def _mark_unique(items: list[Item]) -> None:
    counts = Counter(item.concept for item in items if not item.extra["symbol"])
    for item in items:
        item.extra["unique"] = not item.extra["symbol"] and counts[item.concept] == 1
