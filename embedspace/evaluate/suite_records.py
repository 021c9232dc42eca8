"""What a retrieval suite says, as frozen dataclasses; `embedspace.evaluate.suite` reads them from TOML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedspace.modality import Modality

__all__ = ["COUNT", "Composed", "Direction", "ItemSet", "Novelty", "Suite", "described", "modalities_of"]

COUNT = r"\{(\w+)\}"
"""In a description: the number of items of the set that is named."""


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
            photographs trained the backbone, and their names start the projections (ConSE) and train that of texts.
    """

    manifests: tuple[str, ...]
    where: Mapping[str, Any] = field(default_factory=dict)
    about: str = "concept"
    words: str = "all"
    read: tuple[str, ...] = ("captions", "keywords", "concept")
    classes: tuple[str, ...] = ()


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
        options: Options of the encoder, where this set's is set otherwise than the space's; for baselines, such as
            { recognised_share = 1.0 } for speech by the recogniser alone.
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
    options: Mapping[str, Any] = field(default_factory=dict)
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
        fields: More sets whose items with a gallery item's key are further fields of it; it is found by its best one.
        documents: Search with `EmbeddingSpace.for_documents` of the queries, too, as a catalog searches documents.
        label: Shown beside the direction.
    """

    query: str
    gallery: str
    positives: str = ""
    positives_fields: tuple[str, ...] = ()
    by: str = ""
    clusters: tuple[str, ...] = ()
    exclude_by: str = ""
    fields: tuple[str, ...] = ()
    documents: bool = False
    label: str = ""


@dataclass(frozen=True, slots=True)
class Composed:
    """Picture + words -> picture.

    Attributes:
        pairs: JSONL file beside the suite or in the corpora folder, a line
            {"base": key, "words": str, "target": key, "name": str}; "name" may be left out.
        base: Name of the set the base pictures come from.
        gallery: Name of the set that is searched; items with the base's key leave it.
        base_weight: Weight of the picture.
        words_weight: Weight of the words.
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
        description: One or two sentences for the report; "{a set's name}" becomes its number of items.
        sets: Name -> items.
        directions: What is searched for what.
        composed: A composed-query measurement, if any.
        training: What the weights may have seen, for the report ("no stamp in training").
        own_weights: Modalities whose encoders are made for this suite alone, such as projections that saw no stamp; all
            others are those of the space that ships.
        primary_metric: The metric to quote.
        ks: Depths of the recalls.
        resamples: Bootstrap samples.
        seed: Seed of the bootstrap.
        folder: Where the suite file lies.
    """

    name: str
    description: str
    sets: Mapping[str, ItemSet]
    directions: tuple[Direction, ...] = ()
    composed: Composed | None = None
    training: str = ""
    own_weights: tuple[str, ...] = ()
    primary_metric: str = "recall_at_10"
    ks: tuple[int, ...] = (1, 5, 10)
    resamples: int = 1000
    seed: int = 0
    folder: Path = Path()


def described(suite: Suite, sizes: Mapping[str, int]) -> str:
    """Return the suite's description with the number of items of each set that it counts."""
    return re.sub(COUNT, lambda match: str(sizes[match[1]]), suite.description)


def modalities_of(suite: Suite) -> set[str]:
    """Return the modalities whose encoders a suite measures."""
    used = {name for direction in suite.directions for name in (direction.query, direction.gallery)}
    used |= {suite.composed.base, suite.composed.gallery} if suite.composed else set()
    return {suite.sets[name].modality for name in used} | ({"text"} if suite.composed else set())
