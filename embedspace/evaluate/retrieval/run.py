"""Run a suite on a space."""

from __future__ import annotations

import json
import os
from collections import defaultdict
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
from embedspace.evaluate.retrieval.composed import PARTS, composed_queries, paired_gain, read_pairs
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


def _by_key(items: Sequence[EvalItem]) -> dict[str, list[int]]:
    positions: dict[str, list[int]] = defaultdict(list)
    for position, item in enumerate(items):
        positions[item.key].append(position)
    return dict(positions)


def _beside(name: str, suite: Suite, corpora: Path) -> Path:
    """Return the path of a file that lies beside the suite or in the corpora folder."""
    path = next((folder / name for folder in (suite.folder, corpora) if (folder / name).is_file()), None)
    if path is None:
        raise ConfigError(f"suite {suite.name}: {name!r} lies neither in {suite.folder} nor in {corpora}")
    return path


def _read_positives(direction: Direction, suite: Suite, corpora: Path) -> dict[str, list[str]]:
    """Read a direction's query key -> gallery keys."""
    path = _beside(direction.positives, suite, corpora)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if not direction.positives_fields:
            return {str(key): [str(answer) for answer in answers] for key, answers in raw.items()}
        asked, answering = direction.positives_fields
        table: dict[str, list[str]] = defaultdict(list)
        for entry in raw:
            for key in entry[asked]:
                table[str(key)] += [str(answer) for answer in entry[answering]]
        return table
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise ConfigError(f"{path}: not the table of answers that the suite expects: {error!r}") from None


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
    positions = _by_key(gallery)
    if direction.positives:
        table = _read_positives(direction, suite, corpora)
        positives = [[p for key in table.get(item.key, ()) for p in positions.get(key, ())] for item in queries]
    else:
        positives = [positions.get(item.key, []) for item in queries]
    if direction.query == direction.gallery:
        positives = [[p for p in entry if p != own] for own, entry in enumerate(positives)]
    return evaluate_pair(
        vectors[direction.query],
        vectors[direction.gallery],
        positives,
        query=direction.query,
        gallery=direction.gallery,
        exclude=_excluded(direction, queries, gallery, positives),
        groups=[str(field_of(item.row, direction.by) or "") for item in queries] if direction.by else None,
        clusters=_clusters(direction, queries, suite.sets[direction.query].key),
        ks=suite.ks,
        primary_metric=suite.primary_metric,
        resamples=suite.resamples,
        seed=suite.seed,
        label=direction.label,
    )


def _clusters(direction: Direction, queries: Sequence[EvalItem], key: str) -> dict[str, list[str]]:
    """Return kind of cluster -> each query's: what they share with their answers, or what the direction names."""
    if not direction.clusters:
        return {key.rpartition(".")[2]: [item.key for item in queries]}
    return {
        name.rpartition(".")[2]: [str(field_of(item.row, name) or "") for item in queries]
        for name in direction.clusters
    }


def _excluded(
    direction: Direction, queries: list[EvalItem], gallery: list[EvalItem], positives: list[list[int]]
) -> list[list[int]] | None:
    """Return what each query may not find: itself, and what shares its `exclude_by` value without being an answer."""
    if direction.exclude_by:
        shared: dict[str, list[int]] = defaultdict(list)
        for position, item in enumerate(gallery):
            shared[str(field_of(item.row, direction.exclude_by))].append(position)
        values = [str(field_of(item.row, direction.exclude_by)) for item in queries]
        pairs = zip(values, positives, strict=True)
        return [[p for p in shared.get(value, ()) if p not in set(mine)] for value, mine in pairs]
    return [[own] for own in range(len(queries))] if direction.query == direction.gallery else None


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

    bases, targets = _by_key(sets[composed.base]), _by_key(sets[composed.gallery])
    pairs = read_pairs(_beside(composed.pairs, suite, corpora))
    lost = [pair for pair in pairs if pair.base not in bases or pair.target not in targets]
    if lost or not pairs:
        raise ConfigError(
            f"suite {suite.name}: {len(lost)} of {len(pairs)} pairs of {composed.pairs} name no item of the sets, "
            f"for example {lost[:1]}; the corpora or their splits have changed: build the pairs again"
        )
    pictures = vectors[composed.base][[bases[pair.base][0] for pair in pairs]]
    queries = composed_queries(composed, pairs, pictures, suite.sets[composed.base].modality, space, embed_texts)
    positives = [targets[pair.target] for pair in pairs]
    exclude = [_without(targets.get(pair.base, []), targets[pair.target]) for pair in pairs]
    gallery = vectors[composed.gallery]
    clusters = {"picture": [pair.base for pair in pairs], "words": [pair.words for pair in pairs]}
    results = [
        evaluate_pair(
            rows,
            gallery,
            positives,
            query=composed.base,
            gallery=composed.gallery,
            exclude=exclude,
            clusters=clusters,
            ks=suite.ks,
            primary_metric=suite.primary_metric,
            resamples=suite.resamples,
            seed=suite.seed,
            label=label,
        )
        for label, rows in queries.items()
    ]
    values = [
        per_query_metrics(positive_ranks(queries[label], gallery, positives, exclude=exclude), suite.ks)
        for label in PARTS
    ]
    gains = {
        name: paired_gain(
            values[0][name],
            [part[name] for part in values[1:]],
            resamples=suite.resamples,
            seed=suite.seed,
            clusters=cluster_codes(*clusters.values()),
        )
        for name in values[0]
        if name.startswith("recall_at_")
    }
    return results, gains


def _without(positions: list[int], answers: list[int]) -> list[int]:
    return [position for position in positions if position not in answers]
