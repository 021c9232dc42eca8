"""The sources that can be built: name -> module.

A source module has `PACKAGES` (names in packages.toml), `VERSION` (raise it when the built items change) and
`build(out: Path) -> list[Item]`, which writes files below `out` and returns the items; it may skip files that exist.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

from embedspace.errors import InputError
from training.corpora.fetch import package
from training.corpora.manifest import CORPORA, Item, write_manifest

__all__ = ["SOURCES", "Source", "build_source", "is_built", "load_source"]

SOURCES: dict[str, str] = {
    "stamps": "training.corpora.pictures.stamps",
    "openclipart": "training.corpora.pictures.openclipart",
    "openmoji": "training.corpora.pictures.emoji:OPENMOJI",
    "emoji-google": "training.corpora.pictures.emoji:GOOGLE",
    "emoji-twitter": "training.corpora.pictures.emoji:TWITTER",
    "emoji-fluent": "training.corpora.pictures.emoji:FLUENT",
    "emoji-emojione": "training.corpora.pictures.emoji:EMOJIONE",
    "emoji-emojione-1": "training.corpora.pictures.emoji:EMOJIONE_1",
    "emoji-firefox": "training.corpora.pictures.emoji:FIREFOX",
    "emoji-blob": "training.corpora.pictures.emoji:BLOB",
    "emoji-fluent-flat": "training.corpora.pictures.emoji:FLUENT_FLAT",
    "emoji-streamline": "training.corpora.pictures.emoji:STREAMLINE",
    "art4apps": "training.corpora.pictures.art4apps",
    "gcompris": "training.corpora.pictures.gcompris",
    "recipes": "training.corpora.text.recipes",
    "human": "training.corpora.speech.human",
    "sounds": "training.corpora.sounds.effects",
    "instruments": "training.corpora.sounds.instruments",
    "rendered": "training.corpora.video.rendered",
}
"""Name of a source, which is also its folder's -> its module, or "module:object" where one module has several."""


class Source(Protocol):
    """What a source offers."""

    @property
    def PACKAGES(self) -> tuple[str, ...]:  # noqa: N802
        """Names in packages.toml."""

    @property
    def VERSION(self) -> int:  # noqa: N802
        """Raise it when the built items change."""

    @property
    def build(self) -> Callable[[Path], list[Item]]:
        """Write files below the folder and return the items."""


def load_source(name: str) -> Source:
    """Import a source.

    Raises:
        InputError: If there is no source of that name.
    """
    if name not in SOURCES:
        raise InputError(f"unknown source {name!r}; known: {' '.join(SOURCES)}")
    module, _, attribute = SOURCES[name].partition(":")
    found = importlib.import_module(module)
    return cast("Source", getattr(found, attribute) if attribute else found)


def _key(source: Source) -> str:
    stated = {"version": source.VERSION, "packages": {name: package(name).sha256 for name in source.PACKAGES}}
    return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()


def is_built(name: str, corpora: Path = CORPORA) -> bool:
    """Tell whether a source is built from the pinned packages by the present version of its builder."""
    stamp = corpora / name / "built.json"
    if not stamp.exists() or not (corpora / name / "manifest.jsonl").exists():
        return False
    return bool(json.loads(stamp.read_text())["key"] == _key(load_source(name)))


def build_source(name: str, corpora: Path = CORPORA) -> int:
    """Build one source: its files, its manifest, and the stamp that says from what.

    Returns:
        Number of items.
    """
    source = load_source(name)
    items = source.build(corpora / name)
    count = write_manifest(corpora / name / "manifest.jsonl", items)
    stamp = {"key": _key(source), "items": count, "version": source.VERSION, "packages": list(source.PACKAGES)}
    (corpora / name / "built.json").write_text(json.dumps(stamp, indent=1) + "\n")
    return count
