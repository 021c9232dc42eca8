"""Search over all modalities of a catalog: checks, filters, probabilities, one ranking."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedspace.calibration.model import Calibration
from embedspace.catalog.index.base import VectorIndex
from embedspace.catalog.records import Hit
from embedspace.catalog.search.ranking import Scan, fetch_hits, merge_candidates, rate_candidates, uncalibrated
from embedspace.catalog.store.filters.facets import field_names
from embedspace.catalog.store.filters.plan import plan_filter
from embedspace.catalog.store.filters.values import metadata_changes
from embedspace.catalog.store.filters.where import Condition, compile_where
from embedspace.catalog.store.lookup import DOCUMENT_CHARACTERS, document_segments, segments_where
from embedspace.catalog.store.store import Store
from embedspace.errors import InputError
from embedspace.modality import Modality, is_apart, is_modality, modality_names, modality_spec

__all__ = ["Searcher"]

_FILTERS = 16


Allowed = Any
"""What an index takes as the segments that may be found: (n,) int64 ascending numbers, unless it filters itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """What queries may be read as.

    Attributes:
        vectors: (R, embed_dim) unit rows.
        queries: (R,) number of the query that each is a reading of.
        shares: (R,) probability that it is the right one, in (0, 1].
    """

    vectors: NDArray[np.float32]
    queries: NDArray[np.int64]
    shares: NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Remembered:
    """What a filter left.

    Attributes:
        numbers: (N,) ascending numbers of segments.
        revision: The catalog's revision then.
        last_seq: The highest number of a segment that had been given.
        changes: How often the metadata of an item had changed; None where that is not known.
    """

    numbers: NDArray[np.int64]
    revision: int
    last_seq: int
    changes: int | None


class Searcher:
    """What `Catalog.search` does; it remembers recent filters and the parsed calibration."""

    def __init__(self, store: Store, current: Callable[[], VectorIndex]) -> None:
        """Search an index and read what hits show from the store.

        Args:
            store: The catalog's rows.
            current: Returns the index, as new as these rows are.
        """
        self.store, self._current = store, current
        self._calibration: tuple[int, str, Calibration] = (-1, "", Calibration())
        self._filters: dict[str, Remembered] = {}
        self._documents: tuple[int, int, NDArray[np.int64]] | None = None

    @property
    def calibration(self) -> Calibration:
        """The score distributions of the space."""
        return self._calibration_of(self.store.state()[0])

    def _calibration_of(self, now: int) -> Calibration:
        """Return the score distributions as of a revision of the catalog."""
        revision, text, calibration = self._calibration
        if revision != now:
            found = str(self.store.meta("calibration") or "")
            if found != text:
                calibration = Calibration.from_json(found) if found else Calibration()
            self._calibration = (now, found, calibration)
        return calibration

    def search(
        self,
        vectors: ArrayLike,
        query_modality: str | Sequence[str],
        k: int,
        to: str | Sequence[str] | None,
        where: str | None,
        min_probability: float | None,
        document_vectors: ArrayLike | None = None,
        filter_seconds: float | None = None,
    ) -> list[list[Hit]]:
        """Return the best items for each query; see `Catalog.search`."""
        index = self._current()
        queries = self._queries(vectors)
        readings = None if document_vectors is None else self._readings(document_vectors, len(queries))
        names = (
            [query_modality] * len(queries)
            if isinstance(query_modality, str)
            else [str(name) for name in query_modality]
        )
        if len(names) != len(queries):
            raise InputError(f"search: {len(queries)} queries but {len(names)} query modalities")
        if k < 1:
            raise InputError(f"search: k = {k}; it must be at least 1")
        if min_probability is not None and not 0.0 <= min_probability <= 1.0:
            raise InputError(f"search: min_probability = {min_probability}; it must be between 0 and 1")
        held = index.counts()
        targets = [name for name in _comparable(names, self._targets(to, held), to is None) if name in held]
        if to is None:
            targets = _rated(names, targets, self.calibration)
        if min_probability is not None and (lacking := uncalibrated(names, targets, self.calibration)):
            raise InputError(
                f"search: min_probability = {min_probability}, but the catalog's space gives no probabilities for "
                f"{', '.join(lacking)}: it was not calibrated on such pairs; leave min_probability out"
            )
        allowed = self._filtered(where, filter_seconds) if where else None
        scans: list[list[Scan]] = [[] for _ in queries]
        for target in targets:
            whole = Readings(queries, np.arange(len(queries)), np.ones(len(queries)))
            for part, sequence in self._parts(target, whole, readings, allowed):
                found = index.search(target, part.vectors, max(k, 2), sequence)  # a margin needs two
                owners, shares = part.queries.tolist(), part.shares.tolist()
                for query, share, nearest in zip(owners, shares, found, strict=True):
                    scans[query].append(Scan(target, nearest, share))
        calibration = self._calibration_of(self.store.last_state()[0])
        rated = (rate_candidates(found, name, calibration) for found, name in zip(scans, names, strict=True))
        return [fetch_hits(self.store, merge_candidates(found, k, min_probability)) for found in rated]

    def _parts(
        self,
        target: str,
        queries: Readings,
        readings: Readings | None,
        allowed: Allowed | None,
    ) -> Iterator[tuple[Readings, Allowed | None]]:
        """Yield which vectors search which sequence numbers (`None`: all) of a modality.

        Documents are searched with the query and with each of its readings: an item keeps the best of its log-odds,
        each of which is judged by how its own vector scores against the whole modality.
        """
        yield queries, allowed
        if readings is None or not len(readings.vectors) or target != Modality.TEXT:
            return
        found = self._documents_among(allowed)
        if found is not None:
            yield readings, found

    def _documents_among(self, allowed: Allowed | None) -> Allowed | None:
        """Return which of the segments that may be found are documents' text; `None` where none is."""
        found = self._document_segments()
        if allowed is not None:
            found = found[np.isin(found, allowed, assume_unique=True)]
        return found if len(found) else None

    def has_documents(self) -> bool:
        """Return whether some text belongs to documents."""
        return bool(len(self._document_segments()))

    def _document_segments(self) -> NDArray[np.int64]:
        """Return the ascending sequence numbers of text that belongs to documents: fields, and long passages."""
        _, last_seq, deletions = self.store.state()
        before = self._documents
        if before is None or before[1] != deletions:
            self._documents = (last_seq, deletions, document_segments(self.store, DOCUMENT_CHARACTERS))
        elif before[0] != last_seq:  # segments never change, so that newer ones are all that is new
            newer = document_segments(self.store, DOCUMENT_CHARACTERS, before[0])
            self._documents = (last_seq, deletions, np.union1d(before[2], newer) if len(newer) else before[2])
        assert self._documents is not None
        return self._documents[2]

    def _readings(self, vectors: ArrayLike, queries: int) -> Readings:
        """Take apart what each query may be read as; a reading of length 0 is none."""
        rows = np.asarray(vectors, dtype=np.float32)
        rows = rows.reshape(-1, 1, rows.shape[-1]) if 0 < rows.ndim < 3 else rows
        if rows.ndim != 3 or rows.shape[2] != self.store.embed_dim or not np.isfinite(rows).all():
            expected = f"finite numbers (Q, {self.store.embed_dim}) or (Q, K, {self.store.embed_dim})"
            raise InputError(f"search: document vectors of shape {rows.shape}; expected {expected}")
        if len(rows) != queries:
            raise InputError(f"search: {queries} queries but {len(rows)} document vectors")
        lengths = np.linalg.norm(rows, axis=2)
        owner, reading = np.nonzero(lengths > 0)
        found = lengths[owner, reading]
        return Readings(np.ascontiguousarray(rows[owner, reading] / found[:, None]), owner, np.minimum(found, 1.0))

    def _queries(self, vectors: ArrayLike) -> NDArray[np.float32]:
        queries = np.asarray(vectors, dtype=np.float32)
        queries = queries if queries.ndim > 1 else queries.reshape(1, -1)
        if queries.ndim != 2 or queries.shape[1] != self.store.embed_dim:
            raise InputError(f"search: query vectors of shape {queries.shape}; expected (Q, {self.store.embed_dim})")
        norms = np.sqrt(np.vecdot(queries, queries))[:, None]
        if not ((norms > 0) & np.isfinite(norms)).all():
            raise InputError("search: a query vector is zero or not finite")
        return np.ascontiguousarray(queries / norms)

    @staticmethod
    def _targets(to: str | Sequence[str] | None, held: Iterable[str]) -> list[str]:
        known = list(dict.fromkeys([*modality_names(), *held]))
        wanted = known if to is None else [to] if isinstance(to, str) else list(to)
        for name in wanted:
            if name not in known:
                raise InputError(f"unknown modality {name!r}; known: {', '.join(known)}")
        return list(dict.fromkeys(str(name) for name in wanted))

    def condition(self, where: str) -> Condition:
        """Compile a filter against the names that this catalog's metadata has."""
        return compile_where(where, field_names(self.store))

    def explain(self, where: str) -> str:
        """Return in words how a filter finds its items."""
        condition = self.condition(where)
        with self.store.reading("plan a filter"):
            return plan_filter(self.store, condition).words

    def _filtered(self, where: str, seconds: float | None) -> Allowed:
        """Return the ascending sequence numbers that a filter leaves; recent filters are remembered.

        What is remembered stays right while metadata does: segments never change, their numbers are given once, and
        those that are gone are no harm. Only newer ones are asked then.
        """
        revision, last_seq, _ = self.store.state()
        before = self._filters.pop(where, None)
        if before is not None and before.revision == revision:
            self._filters[where] = before
            return before.numbers
        condition, changes = self.condition(where), metadata_changes(self.store)
        if before is None or changes is None or before.changes != changes or condition.of_places:
            numbers = segments_where(self.store, condition, seconds)
        else:
            newer = segments_where(self.store, condition, seconds, before.last_seq)
            numbers = np.union1d(before.numbers, newer) if len(newer) else before.numbers
        while len(self._filters) >= _FILTERS:
            self._filters.pop(next(iter(self._filters)))
        self._filters[where] = Remembered(numbers, revision, last_seq, changes)
        return numbers


def _comparable(queries: Sequence[str], targets: Sequence[str], everything: bool) -> list[str]:
    """Leave out, or refuse where they are named, modalities whose vectors lie in another space than the queries'.

    Raises:
        InputError: If voices are to be found by anything else, or anything else by a voice.
    """
    apart = {name for name in queries if is_apart(name)}
    if len({_group(name) for name in apart}) > 1 or (apart and apart != set(queries)):
        raise InputError(
            f"search: {', '.join(sorted(set(queries)))} cannot be searched with together; search one by one"
        )
    groups = {_group(name) for name in apart}
    fit = [name for name in targets if (_group(name) in groups if apart else not is_apart(name))]
    if not everything and len(fit) < len(targets):
        lost = next(name for name in targets if name not in fit)
        asked = next(iter(queries), "")
        raise InputError(
            f"search: {lost} cannot be found by {asked}: a voice is compared with voices alone, timing with timing; "
            "search with a recording as a voice (--by voice), or for something else"
        )
    return fit


def _group(name: str) -> frozenset[str]:
    """Return the modalities that share a space of their own: voices, or the timing of what is seen and heard."""
    beside = modality_spec(name).beside if is_apart(name) else ""
    return frozenset({name, beside} - {""})


def _rated(queries: Sequence[str], targets: Sequence[str], calibration: Calibration) -> list[str]:
    """Leave out modalities without probabilities whose items are found by another that has them, as videos by frames.

    One of them would take the probabilities from all hits.

    Args:
        queries: Modalities of the queries.
        targets: Modalities that a search over everything looks through.
        calibration: Calibration of the catalog's space.
    """
    rated = [name for name in targets if not uncalibrated(queries, [name], calibration)]
    spare = [
        name for name in targets if name not in rated and is_modality(name) and modality_spec(name).beside in rated
    ]
    return [name for name in targets if name not in spare]
