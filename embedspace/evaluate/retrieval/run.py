"""Run a suite on a space."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import ConfigError
from embedspace.evaluate.encode import EvalSpace, Progress, SuiteEncoder
from embedspace.evaluate.intervals import Estimate, cluster_codes
from embedspace.evaluate.items import EvalItem, field_of, rows_hash, select_all
from embedspace.evaluate.metrics import per_query_metrics
from embedspace.evaluate.retrieval.answers import beside_suite, clusters_of, excluded, places_by_key, positives_of
from embedspace.evaluate.retrieval.composed import PARTS, ComposedPair, composed_queries, paired_gain, read_pairs
from embedspace.evaluate.retrieval.direction import RetrievalResult, evaluate_pair
from embedspace.evaluate.retrieval.documents import document_search
from embedspace.evaluate.search import positive_ranks
from embedspace.evaluate.suite import Composed, Direction, Suite

__all__ = ["SuiteResult", "corpora_folder", "evaluate_suite"]

Vectors = Mapping[str, NDArray[np.float32]]
Encode = Callable[[Sequence[EvalItem], str], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """What a suite measured.

    Attributes:
        suite: The suite.
        results: One for each direction, in the suite's order.
        sizes: Set -> number of items.
        split_hash: Digest of which items were measured.
        weights_hash: Modality -> fingerprint of its encoder.
        gains: Name -> how far composed queries beat the better of their parts.
        failures: Item id -> why it could not be encoded.
    """

    suite: Suite
    results: tuple[RetrievalResult, ...]
    sizes: Mapping[str, int]
    split_hash: str
    weights_hash: Mapping[str, str]
    gains: Mapping[str, Estimate] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def primary_metric(self) -> float:
        """Mean over the directions of their primary metric."""
        return float(np.mean([result.primary.value for result in self.results]))

    def result(self, query: str, gallery: str, label: str = "") -> RetrievalResult:
        """Return one direction.

        Raises:
            ConfigError: If the suite has no such direction.
        """
        for result in self.results:
            if (result.query, result.gallery) == (query, gallery) and label in ("", result.label):
                return result
        raise ConfigError(f"suite {self.suite.name} has no direction {query} -> {gallery} {label}".rstrip())


def corpora_folder() -> Path:
    """Return where built corpora lie: `EMBEDSPACE_CORPORA`, or build/corpora."""
    return Path(os.environ.get("EMBEDSPACE_CORPORA", "build/corpora"))


def evaluate_suite(
    space: EvalSpace,
    suite: Suite,
    *,
    corpora: Path | None = None,
    cache: Path | None = None,
    encode: Encode | None = None,
    callback: Progress | None = None,
) -> SuiteResult:
    """Measure every direction of a suite.

    Args:
        space: The space.
        suite: From `load_suite`.
        corpora: Folder of the corpora; `corpora_folder()` by default.
        cache: Folder that keeps vectors between runs.
        encode: Replaces the space as the encoder of (items, modality), for vectors made from cached features.
        callback: Told of progress.

    Returns:
        The `SuiteResult`.

    Raises:
        ConfigError: If a manifest, a pairs or a positives file cannot be read, or a set is empty.
        InputError: If a direction has no query with an answer.
    """
    corpora = corpora_folder() if corpora is None else corpora
    sets = select_all(suite, corpora)
    encoder = SuiteEncoder(space, corpora, cache, callback)
    embed = encode or encoder.encode
    used = {name for asked in suite.directions for name in (asked.query, asked.gallery, *asked.fields)}
    used |= {suite.composed.base, suite.composed.gallery} if suite.composed else set()
    vectors: dict[str, NDArray[np.float32]] = {}
    for name, item_set in suite.sets.items():
        if name not in used:
            continue
        if item_set.options and encode is not None:
            raise ConfigError(f"suite {suite.name}: set {name!r} has options, which vectors made elsewhere cannot heed")
        own = encoder.with_options(item_set.modality, item_set.options).encode if item_set.options else embed
        vectors[name] = own(sets[name], item_set.modality)
    results = [
        _direction(suite, asked, sets, _searched(asked, suite, sets, vectors, space), corpora)
        for asked in suite.directions
    ]
    gains: dict[str, Estimate] = {}
    if suite.composed:
        composed, gains = _composed(suite, suite.composed, sets, vectors, (embed, space, corpora))
        results += composed
    return SuiteResult(
        suite=suite,
        results=tuple(results),
        sizes={name: len(items) for name, items in sets.items()},
        split_hash=rows_hash(sets),
        weights_hash=dict(space.fingerprints()),
        gains=gains,
        failures=dict(encoder.failures),
    )


def _searched(
    direction: Direction, suite: Suite, sets: Mapping[str, list[EvalItem]], vectors: Vectors, space: EvalSpace
) -> Vectors:
    """Return query and gallery vectors of a direction: items with all their fields, searched as documents if asked."""
    queries, gallery = vectors[direction.query], vectors[direction.gallery]
    if direction.fields:
        parts = [gallery]
        for name in direction.fields:
            own = {item.key: row for item, row in zip(sets[name], vectors[name], strict=True)}
            lacking = np.full(gallery.shape[1], np.nan, np.float32)
            parts.append(np.stack([own.get(item.key, lacking) for item in sets[direction.gallery]]))
        gallery = np.stack(parts, axis=1)  # (N, fields, embed_dim)
    if direction.documents:
        modality, present = suite.sets[direction.query].modality, np.isfinite(queries).all(axis=1)
        found = space.for_documents(queries[present], modality)
        readings = np.zeros((len(queries), *found.shape[1:]), np.float32)
        readings[present] = found
        queries, gallery = document_search(queries, readings, gallery, space.calibration, modality)
    return {direction.query: queries, direction.gallery: gallery}


def _direction(
    suite: Suite, direction: Direction, sets: Mapping[str, list[EvalItem]], vectors: Vectors, corpora: Path
) -> RetrievalResult:
    queries, gallery = sets[direction.query], sets[direction.gallery]
    positives = positives_of(direction, queries, gallery, suite, corpora)
    return evaluate_pair(
        vectors[direction.query],
        vectors[direction.gallery],
        positives,
        query=direction.query,
        gallery=direction.gallery,
        exclude=excluded(direction, queries, gallery, positives),
        groups=[str(field_of(item.row, direction.by) or "") for item in queries] if direction.by else None,
        clusters=clusters_of(direction, queries, suite.sets[direction.query].key),
        ks=suite.ks,
        primary_metric=suite.primary_metric,
        resamples=suite.resamples,
        seed=suite.seed,
        label=direction.label,
    )


def _composed(
    suite: Suite,
    composed: Composed,
    sets: Mapping[str, list[EvalItem]],
    vectors: Vectors,
    given: tuple[Encode, EvalSpace, Path],
) -> tuple[list[RetrievalResult], dict[str, Estimate]]:
    """Measure picture + words, each part alone, and the target's name in full, all over the same galleries.

    `given` holds the encoder, the space and the corpora folder.
    """
    embed, space, corpora = given

    def embed_texts(texts: Sequence[str]) -> NDArray[np.float32]:
        return embed([EvalItem(f"words {n}", text, "", {}) for n, text in enumerate(texts)], "text")

    bases, targets = places_by_key(sets[composed.base]), places_by_key(sets[composed.gallery])
    pairs = _pairs_among(suite, composed, bases, targets, corpora)
    pictures = vectors[composed.base][[bases[pair.base][0] for pair in pairs]]
    queries = composed_queries(composed, pairs, pictures, suite.sets[composed.base].modality, space, embed_texts)
    asked = _ComposedTask(
        gallery=vectors[composed.gallery],
        positives=[targets[pair.target] for pair in pairs],
        exclude=[_without(targets.get(pair.base, []), targets[pair.target]) for pair in pairs],
        clusters={"picture": [pair.base for pair in pairs], "words": [pair.words for pair in pairs]},
    )
    results = [
        evaluate_pair(
            rows,
            asked.gallery,
            asked.positives,
            query=composed.base,
            gallery=composed.gallery,
            exclude=asked.exclude,
            clusters=asked.clusters,
            ks=suite.ks,
            primary_metric=suite.primary_metric,
            resamples=suite.resamples,
            seed=suite.seed,
            label=label,
        )
        for label, rows in queries.items()
    ]
    return results, _gains(suite, [queries[label] for label in PARTS], asked)


@dataclass(frozen=True, slots=True)
class _ComposedTask:
    """What composed queries search: the gallery, each query's answers and what is hidden from it, their clusters."""

    gallery: NDArray[np.float32]
    positives: list[list[int]]
    exclude: list[list[int]]
    clusters: dict[str, list[str]]


def _pairs_among(
    suite: Suite, composed: Composed, bases: Mapping[str, list[int]], targets: Mapping[str, list[int]], corpora: Path
) -> list[ComposedPair]:
    """Return the pairs; each must name items of the sets."""
    pairs = read_pairs(beside_suite(composed.pairs, suite, corpora))
    lost = [pair for pair in pairs if pair.base not in bases or pair.target not in targets]
    if lost or not pairs:
        raise ConfigError(
            f"suite {suite.name}: {len(lost)} of {len(pairs)} pairs of {composed.pairs} name no item of the sets, "
            f"for example {lost[:1]}; the corpora or their splits have changed: build the pairs again"
        )
    return pairs


def _gains(suite: Suite, queries: Sequence[NDArray[np.float32]], asked: _ComposedTask) -> dict[str, Estimate]:
    """Return by how much each recall of the first queries is above that of the better of the others."""
    values = [
        per_query_metrics(positive_ranks(rows, asked.gallery, asked.positives, exclude=asked.exclude), suite.ks)
        for rows in queries
    ]
    clusters = cluster_codes(*asked.clusters.values())
    return {
        name: paired_gain(
            values[0][name],
            [part[name] for part in values[1:]],
            resamples=suite.resamples,
            seed=suite.seed,
            clusters=clusters,
        )
        for name in values[0]
        if name.startswith("recall_at_")
    }


def _without(positions: list[int], answers: list[int]) -> list[int]:
    return [position for position in positions if position not in answers]
