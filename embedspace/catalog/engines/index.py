"""An engine as the index of a catalog: it proposes segments, the catalog's own vectors score them."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration.background import Background, background_of
from embedspace.catalog.engines.contract import RECORD, SAMPLE, Engine, Filter, Record
from embedspace.catalog.engines.opening import read_record
from embedspace.catalog.engines.push import push
from embedspace.catalog.index.base import IndexState, Nearest
from embedspace.catalog.index.exact import best_items
from embedspace.catalog.index.runs import Rows, Run
from embedspace.catalog.index.sampling.drawn import item_starts
from embedspace.catalog.index.sampling.sample import Sample
from embedspace.catalog.store.bulk.points import some_rows
from embedspace.catalog.store.store import Store
from embedspace.catalog.store.vectors import SegmentRows
from embedspace.errors import EngineError

__all__ = ["DOCUMENTS", "EngineIndex"]

DOCUMENTS: Filter = {"key": "document", "match": {"any": ["yes"]}}
_MARGIN = 16
"""Segments that are asked for beyond those wanted: an item may have several."""
_MOST = 20_000
"""Segments that are asked for at most, where items have many."""
_TIES = 1e-3
"""An engine may be so far off with a score: halves that are multiplied as halves."""


class EngineIndex:
    """Finds the nearest vectors of a catalog by an engine, see `VectorIndex`.

    An engine filters itself: where the segments that may be found are given, they are a filter, or their numbers.
    """

    def __init__(self, store: Store, engine: Engine) -> None:
        """Search a catalog's vectors by an engine; nothing is read before the first use."""
        self.store, self.engine = store, engine
        self._record: Record | None = None
        self._samples: dict[str, Sample] = {}
        self._lock = threading.RLock()

    @property
    def record(self) -> Record:
        """What the engine says of the catalog that it was filled from.

        Raises:
            EngineError: If it holds nothing, another catalog, another encoder's vectors, or no push ever ended.
        """
        with self._lock:
            if self._record is None:
                self._record = self._checked(read_record(self.engine))
            return self._record

    def _checked(self, record: Record | None) -> Record:
        address, again = self.engine.address, f"embedspace catalog push {self.store.path} --to {self.engine.address}"
        if record is None:
            raise EngineError(f"{address}: nothing is there; run: {again}")
        if record.catalog_id != self.store.catalog_id:
            raise EngineError(f"{address}: holds another catalog ({record.catalog}), not {self.store.path}")
        if record.revision is None:
            raise EngineError(f"{address}: only partly filled, no push has ended; run: {again}")
        if record.embed_dim != self.store.embed_dim:
            raise EngineError(
                f"{address}: holds vectors of length {record.embed_dim}, the catalog {self.store.embed_dim}; push it "
                "to another name"
            )
        ours = self.store.fingerprints()
        if differ := sorted(name for name, digest in record.fingerprints.items() if ours.get(name, digest) != digest):
            raise EngineError(f"{address}: its {', '.join(differ)} vectors are of another encoder; run: {again}")
        return record

    # -- what it holds -----------------------------------------------------------------------------------------------

    def state(self) -> IndexState:
        """Return the state of the catalog when a push last ended; see `VectorIndex`."""
        record = read_record(self.engine)
        return IndexState() if record is None else IndexState(record.last_seq, record.deletions)

    def counts(self) -> dict[str, int]:
        """Return modality -> number of items; see `VectorIndex`."""
        return dict(self.record.items)

    def segments(self, modality: str) -> NDArray[np.int64]:
        """Return the segment numbers that are held of a modality; see `VectorIndex`."""
        found = [
            one.id
            for page in self.engine.pages(payload=("modality",))
            for one in page
            if one.payload.get("modality") == modality and one.id != RECORD
        ]
        return np.asarray(sorted(found), np.int64)

    def describe(self) -> dict[str, str]:
        """Return modality -> how it is searched; see `VectorIndex`."""
        return {name: f"{self.engine.address}, {count} segments" for name, count in self.record.segments.items()}

    # -- changing it -------------------------------------------------------------------------------------------------

    def add(self, modality: str, rows: SegmentRows) -> None:
        """Nothing: `commit` reads what is new from the catalog, with what filters ask; see `VectorIndex`."""

    def remove(self, modality: str, segments: NDArray[np.int64]) -> None:
        """Nothing: `commit` finds what is gone; see `VectorIndex`."""

    def commit(self, state: IndexState) -> None:
        """Make the engine agree with the catalog; see `VectorIndex`."""
        push(self.store, self.engine)
        with self._lock:
            self._record, self._samples = None, {}

    def save(self, max_bytes: int | None = None) -> None:
        """Nothing: an engine keeps what it was given; see `VectorIndex`."""

    def build(self, max_bytes: int | None = None) -> None:
        """Make the engine's searches fast; see `VectorIndex`."""
        self.engine.optimize()

    # -- searching ---------------------------------------------------------------------------------------------------

    def search(
        self,
        modality: str,
        queries: NDArray[np.float32],
        k: int,
        allowed: NDArray[np.int64] | Filter | None = None,
    ) -> list[Nearest]:
        """Return the k best items for each query; see `VectorIndex`.

        Args:
            modality: What is searched.
            queries: (Q, embed_dim) float32 unit rows.
            k: Items wanted per query.
            allowed: A filter of the engine, or (n,) int64 numbers of the segments that may be found; all where `None`.
        """
        size = self.record.items.get(modality, 0)
        if not size:
            return [Nearest.none() for _ in queries]
        chosen = allowed if not isinstance(allowed, np.ndarray) else {"must": [{"has_id": allowed.tolist()}]}
        sample = cache(lambda: background_of(self._sample(modality).scores(queries), size))

        def background(query: int) -> Background:
            return sample()[query]

        return [
            dataclasses.replace(found, measured=partial(background, number))
            for number, found in enumerate(self._nearest(modality, queries, k, chosen))
        ]

    def _nearest(self, modality: str, queries: NDArray[np.float32], k: int, chosen: Filter | None) -> list[Nearest]:
        """Return the k best items for each query; more segments are asked for where they are of few items."""
        found: list[Nearest] = [Nearest.none()] * len(queries)
        left, limit = np.arange(len(queries)), 2 * k + _MARGIN
        while len(left):
            proposed = self.engine.nearest(modality, queries[left], limit, chosen)
            rows = some_rows(self.store, sorted({number for one in proposed for number, _ in one}))
            again = []
            for query, one in zip(left.tolist(), proposed, strict=True):
                found[query] = _scored(rows, [number for number, _ in one], queries[query], k)
                enough = len(found[query].seq) >= k and one[-1][1] < found[query].scores[-1] - _TIES
                if len(one) == limit and not enough and limit < _MOST:
                    again.append(query)
            left, limit = np.asarray(again, np.int64), min(4 * limit, _MOST)
        return found

    def _sample(self, modality: str) -> Sample:
        with self._lock:
            if modality not in self._samples:
                found = self.engine.read([SAMPLE]).get(SAMPLE)
                rows = some_rows(self.store, found.payload["seq"].get(modality, []) if found else [])
                self._samples[modality] = Sample(
                    np.arange(len(rows)), rows.seq, item_starts(rows.item), rows.vectors.astype(np.float32)
                )
            return self._samples[modality]


def _scored(rows: SegmentRows, numbers: Sequence[int], query: NDArray[np.float32], k: int) -> Nearest:
    """Return the k best items among some segments, scored with the catalog's own vectors."""
    its = Rows([Run(rows)])
    at = its.positions(np.asarray(sorted(numbers), np.int64))
    if not len(at):
        return Nearest.none()
    best = best_items(its, query[None], k, at)[0]
    return Nearest(its.seq_of(best.rows), its.key_of(best.rows), best.scores, Background(0))
