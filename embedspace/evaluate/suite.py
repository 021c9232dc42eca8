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
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from embedspace.errors import ConfigError
from embedspace.modality import Modality

__all__ = ["Composed", "Direction", "ItemSet", "Novelty", "Suite", "load_suite"]

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Novelty:
    """Keep only rows about things that other rows never name.

    Attributes:
        manifests: Sources of those other rows.
        where: Which of their rows, as `ItemSet.where`.
        about: The field of the set's row whose words must be new.
        words: "all": none of its words (without stop words) may occur in what is read over there; "phrase": the whole
            field may not occur there as a run of words.
        read: Fields of those rows that are read.
        classes: Frozen backbones whose class names count as said: "imagenet", with synonyms and hypernyms. Their
            photographs trained the backbone, and their names start the heads (ConSE) and train the text head.
    """

    manifests: tuple[str, ...]
    where: Mapping[str, Any] = field(default_factory=dict)
    about: str = "concept"
    words: str = "all"
    read: tuple[str, ...] = ("captions", "keywords", "concept")
    classes: tuple[str, ...] = ()


CLASS_NAMES = ("imagenet",)


@dataclass(frozen=True, slots=True)
class ItemSet:
    """A selection of manifest rows, encoded by one modality.

    Attributes:
        manifests: Sources, in order: <corpora>/<source>/manifest.jsonl.
        rows: Keep rows of this modality; empty for any.
        modality: Encoder to use.
        use: Field that is encoded: "path" (a file, or "shard.npy#start:end"), "text", "caption" (the first), "concept"
            or a dotted field such as "extra.title"; several fields joined by " + " are encoded as one text.
        key: Field that query and answer share; dotted fields allowed.
        where: Field -> value or list of allowed values; strings may hold the wildcards * and ?.
        where_not: Field -> values that drop a row.
        first_by: Keep the first row of each value of this field.
        lone_by: Drop rows whose value of this field occurs more than once.
        within: Name of an earlier set; keep rows whose key occurs there.
        not_within: Name of an earlier set; drop rows whose key occurs there.
        spread_over: Keep rows whose key occurs with at least two different values of this field (in two sources).
        novel_to: Keep only rows about unseen things.
        limit: Keep at most this many rows, the first by a hash of their id; 0 for all.
    """

    manifests: tuple[str, ...]
    rows: str = ""
    modality: str = "image"
    use: str = ""
    key: str = "id"
    where: Mapping[str, Any] = field(default_factory=dict)
    where_not: Mapping[str, Any] = field(default_factory=dict)
    first_by: str = ""
    lone_by: str = ""
    within: str = ""
    not_within: str = ""
    spread_over: str = ""
    novel_to: Novelty | None = None
    limit: int = 0

    @property
    def content(self) -> str:
        """The field that is encoded: `use`, or by modality the caption or the path."""
        return self.use or ("caption" if self.modality == Modality.TEXT else "path")


@dataclass(frozen=True, slots=True)
class Direction:
    """Queries of one set against the items of another.

    Attributes:
        query: Name of a set.
        gallery: Name of a set.
        positives: JSON file {query key: [gallery keys]}, beside the suite or in the corpora folder; empty where an
            answer has the query's key.
        positives_fields: Where the file is a list of tables instead: the field that lists query keys and the field
            that lists the gallery keys that answer them.
        by: Field of the query rows whose values are reported one by one.
        clusters: Fields of the query rows whose values intervals resample, such as caption and speaker; the queries'
            key by default.
        exclude_by: Field; gallery items that share its value with the query, and are no answer, leave its gallery.
        label: Shown beside the direction.
    """

    query: str
    gallery: str
    positives: str = ""
    positives_fields: tuple[str, ...] = ()
    by: str = ""
    clusters: tuple[str, ...] = ()
    exclude_by: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class Composed:
    """Picture + words -> picture.

    Attributes:
        pairs: JSONL file beside the suite or in the corpora folder, a line
            {"base": key, "words": str, "target": key, "name": str}; "name" may be left out.
        base: Name of the set the base pictures come from.
        gallery: Name of the set that is searched; items with the base's key leave it.
        base_weight: Of the picture.
        words_weight: Of the words.
    """

    pairs: str
    base: str
    gallery: str
    base_weight: float = 1.0
    words_weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Suite:
    """A retrieval suite; see the module's docstring.

    Attributes:
        name: Also the name of its results.
        description: One or two sentences for the report.
        sets: Name -> items.
        directions: What is searched for what.
        composed: A composed-query measurement, if any.
        training: What the weights may have seen, for the report ("no stamp in training").
        primary_metric: The metric to quote.
        ks: Depths of the recalls.
        resamples: Bootstrap samples.
        seed: Of the bootstrap.
        folder: Where the suite file lies.
    """

    name: str
    description: str
    sets: Mapping[str, ItemSet]
    directions: tuple[Direction, ...] = ()
    composed: Composed | None = None
    training: str = ""
    primary_metric: str = "recall_at_10"
    ks: tuple[int, ...] = (1, 5, 10)
    resamples: int = 1000
    seed: int = 0
    folder: Path = Path()


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
    kinds: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}
    if annotation in kinds and (not isinstance(value, kinds[annotation]) or isinstance(value, bool)):
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
    pairs = [(d.query, d.gallery) for d in suite.directions]
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
    for direction in suite.directions:
        if len(direction.positives_fields) not in (0, 2):
            raise ConfigError(f"{path}: positives_fields must name two fields, got {direction.positives_fields}")
    if not suite.ks or min(suite.ks) < 1:
        raise ConfigError(f"{path}: ks must be depths of at least 1, got {list(suite.ks)}")
