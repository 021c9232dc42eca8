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

import dataclasses
import itertools
import re
import tomllib
from pathlib import Path
from typing import Any, TypeVar

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
from embedspace.modality import Modality

__all__ = ["Composed", "Direction", "ItemSet", "Novelty", "Suite", "described", "load_suite", "modalities_of"]

Record = TypeVar("Record")

CLASS_NAMES = ("imagenet",)
"""Whose names `Novelty.classes` may name."""


def read_toml(path: Path) -> dict[str, Any]:
    """Read a suite's file.

    Raises:
        ConfigError: If it is missing or no TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the suite: {error.strerror}; suites lie under eval/suites/") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None


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
    raw = read_toml(path)
    sets = _table(raw.get("sets", {}), f"{path}: sets")
    raw["sets"] = {name: _read_set(entry, f"{path}: sets.{name}") for name, entry in sets.items()}
    raw["directions"] = _read_directions(raw.get("directions", []), list(sets), f"{path}: directions")
    if "composed" in raw:
        raw["composed"] = _read(Composed, raw["composed"], f"{path}: composed")
    if "folder" in raw:
        raise ConfigError(f"{path}: unknown key 'folder'")
    suite = _read(Suite, raw, str(path), folder=path.parent)
    _check(suite, path)
    return suite


def _read_set(entry: object, where: str) -> ItemSet:
    entry = dict(_table(entry, where))
    if "novel_to" in entry:
        entry["novel_to"] = _read(Novelty, entry["novel_to"], f"{where}.novel_to")
    return _read(ItemSet, entry, where)


def _read_directions(entries: object, names: list[str], where: str) -> tuple[Direction, ...]:
    if entries == "all":
        return tuple(Direction(query, gallery) for query, gallery in itertools.permutations(names, 2))
    if not isinstance(entries, list):
        raise ConfigError(f'{where}: must be "all" or [[directions]] tables, got {entries!r}')
    return tuple(_read(Direction, entry, f"{where}[{n}]") for n, entry in enumerate(entries))


def _table(entry: object, where: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: must be a table, got {entry!r}")
    return entry


def _read(record: type[Record], entry: object, where: str, **extra: object) -> Record:
    """Build a frozen dataclass from a table; unknown and missing keys and wrong types are errors."""
    table = _table(entry, where)
    fields = {f.name: f for f in dataclasses.fields(record)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            raise ConfigError(f"{where}: unknown key {key!r}; known: {' '.join(fields)}")
    values = {key: _checked(value, str(fields[key].type), f"{where}.{key}") for key, value in table.items()}
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in table and name not in extra:
            raise ConfigError(f"{where}: key {name!r} is missing")
    return record(**values, **extra)


def _checked(value: Any, annotation: str, where: str) -> Any:  # noqa: ANN401
    """Return the value as its annotation says; lists become tuples."""
    kinds: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}
    wrong_bool = isinstance(value, bool) and annotation != "bool"
    if annotation in kinds and (not isinstance(value, kinds[annotation]) or wrong_bool):
        raise ConfigError(f"{where}: must be a {annotation}, got {value!r}")
    if annotation.startswith("tuple[") and not annotation.startswith("tuple[Direction"):
        kind = annotation[len("tuple[") :].split(",")[0]
        if not isinstance(value, list) or not all(isinstance(entry, kinds[kind]) for entry in value):
            raise ConfigError(f"{where}: must be a list of {kind}, got {value!r}")
        return tuple(value)
    if annotation.startswith("Mapping"):
        return _table(value, where)
    return float(value) if annotation == "float" else value


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
        if item_set.modality not in list(Modality):
            raise ConfigError(
                f"{path}: sets.{name}: unknown modality {item_set.modality!r}; known: {' '.join(Modality)}"
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
        if modality not in list(Modality):
            raise ConfigError(f"{path}: own_weights: unknown modality {modality!r}; known: {' '.join(Modality)}")
    for direction in suite.directions:
        if len(direction.positives_fields) not in (0, 2):
            raise ConfigError(f"{path}: positives_fields must name two fields, got {direction.positives_fields}")
    if not suite.ks or min(suite.ks) < 1:
        raise ConfigError(f"{path}: ks must be depths of at least 1, got {list(suite.ks)}")
