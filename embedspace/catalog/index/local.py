"""The local index: the vectors of every modality in memory or mapped from the packed file, exact search and FAISS.

Few rows are searched exactly. From `min_vectors` on a FAISS index proposes candidates, newer rows are searched exactly
beside it, and all are scored with the catalog's own vectors.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration.background import Background, background_of
from embedspace.catalog.index.ann import (
    AnnIndex,
    build_index,
    index_path,
    index_size,
    load_index,
    save_index,
    search_index,
)
from embedspace.catalog.index.base import IndexState, Nearest, register_index
from embedspace.catalog.index.exact import Best, Rows, best_items
from embedspace.catalog.index.packed import Packed, load_packed, write_packed
from embedspace.catalog.index.sampling import Sample, Watcher, sample_of
from embedspace.catalog.index.settings import IndexSettings
from embedspace.catalog.store.store import Store
from embedspace.catalog.store.vectors import SegmentRows

__all__ = ["LocalIndex"]

_LEFTOVER_SECONDS = 3600


@dataclass(slots=True)
class _Modality:
    """One modality: its rows, how many items it holds, its FAISS index where it has one, and a sample of its items."""

    rows: Rows
    items: int
    ann: AnnIndex | None = None
    sample: Sample | None = None


@register_index("local")
class LocalIndex:
    """The index beside the catalog, see `VectorIndex`."""

    def __init__(self, store: Store, settings: IndexSettings) -> None:
        """Index a store; nothing is read before the first use."""
        self.store, self.settings = store, settings
        self._lock = threading.RLock()
        self._state: IndexState | None = None
        self._packed: Packed | None = None
        self._modalities: dict[str, _Modality] = {}
        self._added: dict[str, list[SegmentRows]] = {}
        self._removed: dict[str, list[NDArray[np.int64]]] = {}

    # -- what it holds -----------------------------------------------------------------------------------------------

    def state(self) -> IndexState:
        """Return the state that was last committed, or that the packed file was written at; see `VectorIndex`."""
        with self._lock:
            if self._state is None:
                self._load()
            return self._state or IndexState()

    def _load(self) -> None:
        """Begin with what the packed file holds."""
        self._packed = packed = load_packed(self.store)
        self._state = IndexState(packed.last_seq, packed.deletions) if packed else IndexState()
        old, self._modalities = self._modalities, {}
        empty = SegmentRows.empty(self.store.embed_dim)
        for name, base in (packed.rows if packed else {}).items():
            self._modalities[name] = self._room(Rows(base, empty), old[name].ann if name in old else None)

    def counts(self) -> dict[str, int]:
        """Return modality -> number of items; see `VectorIndex`."""
        with self._lock:
            return {name: one.items for name, one in self._modalities.items() if one.items}

    def segments(self, modality: str) -> NDArray[np.int64]:
        """Return the segment numbers that are held of a modality; see `VectorIndex`."""
        with self._lock:
            if modality not in self._modalities:
                return np.zeros(0, np.int64)
            rows = self.rows(modality)
            return rows.seq if rows.alive is None else rows.seq[rows.alive]

    def rows(self, modality: str) -> Rows:
        """Return the rows of one modality as they are now; later changes do not touch them."""
        with self._lock:
            return self._modalities[modality].rows

    # -- changing it -------------------------------------------------------------------------------------------------

    def add(self, modality: str, rows: SegmentRows) -> None:
        """Take new segments; see `VectorIndex`."""
        with self._lock:
            self._added.setdefault(modality, []).append(rows)

    def remove(self, modality: str, segments: NDArray[np.int64]) -> None:
        """Forget segments; see `VectorIndex`."""
        with self._lock:
            self._removed.setdefault(modality, []).append(segments)

    def commit(self, state: IndexState) -> None:
        """Make what was added and removed visible; see `VectorIndex`."""
        with self._lock:
            for name in {*self._added, *self._removed}:
                old = self._modalities.get(name)
                rows = self._changed(name, old.rows if old else None)
                self._modalities[name] = self._room(rows, old.ann if old else None)
            self._added, self._removed, self._state = {}, {}, state

    def _changed(self, name: str, old: Rows | None) -> Rows:
        """Return the rows of a modality with what was added and removed; rows that searches still read stay as is."""
        empty = SegmentRows.empty(self.store.embed_dim)
        rows = Rows(empty, empty) if old is None else old
        if added := self._added.get(name):
            tail = SegmentRows.joined([*([rows.tail] if len(rows.tail) else []), *added])
            alive = rows.alive
            rows = Rows(rows.base, tail)
            if alive is not None:
                rows = rows.with_alive(np.append(alive, np.ones(len(rows) - len(alive), np.bool_)))
        if removed := self._removed.get(name):
            alive = np.ones(len(rows), np.bool_) if rows.alive is None else rows.alive.copy()
            alive[rows.positions(np.concatenate(removed))] = False
            rows = rows.with_alive(alive)
        return rows

    def _room(self, rows: Rows, ann: AnnIndex | None) -> _Modality:
        items = len(rows.starts) if rows.alive is None else len(np.unique(rows.item[rows.alive]))
        return _Modality(rows, items, ann if ann is not None and self._still_good(ann, rows) else None)

    # -- searching ---------------------------------------------------------------------------------------------------

    def search(
        self, modality: str, queries: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None = None
    ) -> list[Nearest]:
        """Return the k best items for each query; see `VectorIndex`."""
        with self._lock:
            one = self._modalities.get(modality)
            if one is None or not one.items:
                return [_nothing() for _ in queries]
            exact = self._exact(len(one.rows))
            if not exact and one.ann is None:
                one.ann = self._ann(modality, one.rows)
            if one.sample is None:
                one.sample = sample_of(one.rows)
            rows, items, ann, sample = one.rows, one.items, None if exact else one.ann, one.sample
        chosen = None if allowed is None else rows.positions(allowed)
        if ann is None and chosen is None:  # the sample's items are among those scanned
            watcher = Watcher(len(queries), sample.positions)
            found = best_items(rows, queries, k, watch=watcher)
        else:
            watcher = Watcher(len(queries))
            every = len(sample.rows) == len(rows)  # then the rows need not be gathered
            best_items(rows, queries, 1, None if every else sample.rows, watcher)
            found = self._best(rows, ann, queries, k, chosen)
        backgrounds = background_of(watcher.scores(), items)
        return [
            Nearest(rows.seq[best.rows], rows.key[best.rows], best.scores, background)
            for best, background in zip(found, backgrounds, strict=True)
        ]

    def _best(
        self, rows: Rows, ann: AnnIndex | None, queries: NDArray[np.float32], k: int, chosen: NDArray[np.int64] | None
    ) -> list[Best]:
        """Return the best of the chosen rows: by scanning them where they are few, else by the FAISS index."""
        if ann is None or (chosen is not None and len(chosen) <= self.settings.exact_below):
            return best_items(rows, queries, k, chosen)
        mask = None
        if chosen is not None:
            mask = np.zeros(len(rows), np.bool_)
            mask[chosen] = True
        return search_index(ann, rows, queries, k, mask)

    def _exact(self, count: int) -> bool:
        return self.settings.index == "exact" or count < self.settings.min_vectors

    # -- FAISS and files ---------------------------------------------------------------------------------------------

    def _still_good(self, ann: AnnIndex, rows: Rows) -> bool:
        fresh = len(rows) - int(np.searchsorted(rows.seq, ann.built_at, side="right"))
        dead = 0 if rows.alive is None else int(len(rows) - rows.alive.sum())
        return fresh + dead <= self.settings.rebuild_fraction * max(ann.size, 1)

    def _stored(self, modality: str) -> AnnIndex | None:
        path = index_path(self.store.folder, modality)
        return load_index(path, self.settings, self.store.catalog_id, self.store.embed_dim)

    def _ann(self, modality: str, rows: Rows) -> AnnIndex:
        ann = self._stored(modality)
        if ann is None or not self._still_good(ann, rows):
            ann = build_index(rows, self.settings)
            if not self.store.read_only:
                save_index(ann, index_path(self.store.folder, modality), self.store.catalog_id, self.store.embed_dim)
        return ann

    def save(self, max_bytes: int | None = None) -> None:
        """Write the packed file where it is old, and FAISS indexes where they are due; see `VectorIndex`."""
        with self._lock:
            self._sweep_leftovers()
            self.state()
            packed = self._packed
            current = packed is not None and (packed.last_seq, packed.deletions) == self.store.state()[1:]
            if not current and write_packed(self.store):
                self._load()
            for name, one in self._modalities.items():
                due = not self._exact(len(one.rows)) and one.ann is None
                if due and (max_bytes is None or index_size(one.rows, self.settings) <= max_bytes):
                    one.ann = self._ann(name, one.rows)

    def _sweep_leftovers(self) -> None:
        """Delete half-written files of processes that were killed; those of living ones are younger."""
        for path in (*self.store.folder.glob("*.partial"), *self.store.folder.glob(".*.partial.*")):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _LEFTOVER_SECONDS:
                    path.unlink()

    def describe(self) -> dict[str, str]:
        """Return modality -> how it is searched, in words; see `VectorIndex`."""
        with self._lock:
            return {name: self._described(name, one) for name, one in sorted(self._modalities.items()) if one.items}

    def _described(self, name: str, one: _Modality) -> str:
        if self._exact(len(one.rows)):
            return "exact"
        ann = one.ann or self._stored(name)
        words = f"{self.settings.index}, {self.settings.quantizer}"
        return f"{words}: not built yet" if ann is None else f"{words}: {ann.size} vectors, built at {ann.built_at}"


def _nothing() -> Nearest:
    ints = np.zeros(0, np.int64)
    return Nearest(ints, np.zeros((0, 2), np.uint64), np.zeros(0, np.float32), Background(0))
