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
    "stamps": "training.corpora.stamps",
}
"""Name of a source, which is also its folder's -> its module."""


class Source(Protocol):
    """What a source module offers."""

    PACKAGES: tuple[str, ...]
    VERSION: int
    build: Callable[[Path], list[Item]]


def load_source(name: str) -> Source:
    """Import a source's module.

    Raises:
        InputError: If there is no source of that name.
    """
    if name not in SOURCES:
        raise InputError(f"unknown source {name!r}; known: {' '.join(SOURCES)}")
    return cast("Source", importlib.import_module(SOURCES[name]))


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
