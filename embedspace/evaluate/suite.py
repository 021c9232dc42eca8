"""Retrieval suites: what is measured, as a TOML file that lists only what differs from the defaults below.

    name = "stamps"
    description = "..."
    directions = "all"                       # or [[directions]] tables
    [sets.image]                             # a set of items; its name is its column in the report
    manifests = ["stamps"]                   # <corpora>/stamps/manifest.jsonl
    where = { split = "test" }
    [sets.text]
    manifests = ["stamps"]
    modality = "text"                        # encoded as text ...
    use = "caption"                          # ... from this field
    where = { split = "test" }

A gallery item answers a query when both have the same value in their set's `key` field, or when the direction's
`positives` file says so.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from embedspace.config import build, read_toml
from embedspace.errors import ConfigError
from embedspace.evaluate.suite_records import (
    COUNT,
    Composed,
    Direction,
    ItemSet,
    Novelty,
    Suite,
    described,
    modalities_of,
)
from embedspace.modality import is_modality, modality_names

__all__ = [
    "Composed",
    "Direction",
    "ItemSet",
    "Novelty",
    "Suite",
    "described",
    "load_suite",
    "modalities_of",
    "read_suite",
]

CLASS_NAMES = ("imagenet",)
"""Whose names `Novelty.classes` may name."""


def read_suite(path: Path) -> dict[str, Any]:
    """Read a suite's file.

    Raises:
        ConfigError: If it is missing or no TOML.
    """
    return read_toml(path, what="suite", hint="suites lie under eval/suites/")


def load_suite(path: str | Path) -> Suite:
    """Read and check a suite file.

    Args:
        path: The TOML file.

    Returns:
        The suite.

    Raises:
        ConfigError: If the file is missing or no TOML, a key is unknown or missing, a value has the wrong type, or a
            name refers to no set.
    """
    path = Path(path)
    raw = read_suite(path)
    if isinstance(directions := raw.get("directions", []), str):
        raw["directions"] = _every_direction(directions, raw.get("sets", {}), f"{path}: directions")
    suite = build(Suite, raw, str(path), folder=path.parent)
    _check(suite, path)
    return suite


def _every_direction(directions: str, names: Iterable[str], where: str) -> list[dict[str, str]]:
    """Return the tables that `directions = "all"` stands for: every set against every other."""
    if directions != "all":
        raise ConfigError(f'{where}: must be "all" or [[directions]] tables, got {directions!r}')
    return [{"query": query, "gallery": gallery} for query, gallery in itertools.permutations(names, 2)]


def _check(suite: Suite, path: Path) -> None:
    """Check what no single table can: that names refer to sets and values are known."""
    known = list(suite.sets)
    pairs: list[tuple[str, ...]] = [(d.query, d.gallery, *d.fields) for d in suite.directions]
    if suite.composed:
        pairs.append((suite.composed.base, suite.composed.gallery))
    if not pairs:
        raise ConfigError(f'{path}: no directions; say directions = "all" or add a [[directions]] table')
    for name in itertools.chain.from_iterable(pairs):
        if name not in known:
            raise ConfigError(f"{path}: no set {name!r}; known: {' '.join(known)}")
    for position, (name, item_set) in enumerate(suite.sets.items()):
        for other in filter(None, (item_set.within, item_set.not_within)):
            if other not in known[:position]:
                raise ConfigError(f"{path}: sets.{name}: {other!r} is no earlier set; earlier: {known[:position]}")
        if not is_modality(item_set.modality):
            raise ConfigError(
                f"{path}: sets.{name}: unknown modality {item_set.modality!r}; known: {' '.join(modality_names())}"
            )
        if item_set.novel_to and item_set.novel_to.words not in ("all", "phrase"):
            raise ConfigError(f"{path}: sets.{name}.novel_to.words: 'all' or 'phrase', got {item_set.novel_to.words!r}")
        for classes in item_set.novel_to.classes if item_set.novel_to else ():
            if classes not in CLASS_NAMES:
                raise ConfigError(
                    f"{path}: sets.{name}.novel_to.classes: no names of {classes!r}; known: {' '.join(CLASS_NAMES)}"
                )
    for name in re.findall(COUNT, suite.description):
        if name not in known:
            raise ConfigError(f"{path}: description counts {{{name}}}, which is no set; known: {' '.join(known)}")
    for modality in suite.own_weights:
        if not is_modality(modality):
            known_ones = " ".join(modality_names())
            raise ConfigError(f"{path}: own_weights: unknown modality {modality!r}; known: {known_ones}")
    for direction in suite.directions:
        if len(direction.positives_fields) not in (0, 2):
            raise ConfigError(f"{path}: positives_fields must name two fields, got {direction.positives_fields}")
    if not suite.ks or min(suite.ks) < 1:
        raise ConfigError(f"{path}: ks must be depths of at least 1, got {list(suite.ks)}")
