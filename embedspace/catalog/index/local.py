"""The local index: the vectors of every modality in memory or mapped from the packed file, exact search and FAISS.

Few rows are searched exactly. From `min_vectors` on a FAISS index proposes candidates, newer rows are searched exactly
beside it, and all are scored with the catalog's own vectors.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field

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
from embedspace.catalog.index.exact import Best, best_items
from embedspace.catalog.index.packed import Packed, load_packed, write_packed
from embedspace.catalog.index.runs import SMALL, Chosen, Rows, Run
from embedspace.catalog.index.sampling import Sample, Watcher, sample_of
from embedspace.catalog.index.scan import scan_items
from embedspace.catalog.index.settings import IndexSettings
from embedspace.catalog.store.store import Store
from embedspace.catalog.store.vectors import SegmentRows

__all__ = ["LocalIndex"]

_LEFTOVER_SECONDS = 3600
_FILTERS = 8
"""How many filters a modality remembers."""


@dataclass(slots=True)
class _Modality:
    """One modality: its rows, its FAISS index where it has one, a sample of its items, and its latest filters."""

    rows: Rows
    packed: int = 0
    """How many of its runs are in the packed file."""
    ann: AnnIndex | None = None
    sample: Sample | None = None
    stale: Sample | None = None
    """The sample before the latest change."""
    filters: list[tuple[NDArray[np.int64], Chosen]] = field(default_factory=list)


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
        for name, base in (packed.rows if packed else {}).items():
            if len(base):
                self._modalities[name] = self._changed(old.get(name), Rows.of(base), 1)

    def counts(self) -> dict[str, int]:
        """Return modality -> number of items; see `VectorIndex`."""
        with self._lock:
            return {name: one.rows.items for name, one in self._modalities.items() if one.rows.living}

    def segments(self, modality: str) -> NDArray[np.int64]:
        """Return the segment numbers that are held of a modality; see `VectorIndex`."""
        with self._lock:
            return self.rows(modality).living_seq()

    def rows(self, modality: str) -> Rows:
        """Return the rows of one modality as they are now; later changes do not touch them."""
        with self._lock:
            return self._modalities[modality].rows if modality in self._modalities else Rows([])

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
                runs = self._runs(name, old)
                if runs:
                    self._modalities[name] = self._changed(old, Rows(runs), old.packed if old else 0)
            self._added, self._removed, self._state = {}, {}, state

    def _runs(self, name: str, old: _Modality | None) -> list[Run]:
        """Return the runs of a modality with what was added and removed; those that searches still read stay as is."""
        runs = list(old.rows.runs) if old else []
        if added := [rows for rows in self._added.get(name, ()) if len(rows)]:
            new = Run(SegmentRows.joined(added))
            last = runs[-1] if old and len(runs) > old.packed else None
            if last is not None and len(last) < SMALL:
                runs[-1] = _joined(last, new)
            else:
                runs.append(new)
        for removed in self._removed.get(name, ()):
            runs = [run.without(run.positions(removed)) for run in runs]
        return runs

    def _changed(self, old: _Modality | None, rows: Rows, packed: int) -> _Modality:
        if old is None:
            return _Modality(rows, packed)
        ann = old.ann if old.ann is not None and self._still_good(old.ann, rows) else None
        return _Modality(rows, packed, ann, stale=old.sample or old.stale)

    # -- searching ---------------------------------------------------------------------------------------------------

    def search(
        self, modality: str, queries: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None = None
    ) -> list[Nearest]:
        """Return the k best items for each query; see `VectorIndex`."""
        with self._lock:
            one = self._modalities.get(modality)
            if one is None or not one.rows.living:
                return [_nothing() for _ in queries]
            if not self._exact(len(one.rows)) and one.ann is None:
                one.ann = self._ann(modality, one.rows)
            if one.sample is None:
                one.sample, one.stale = sample_of(one.rows, one.stale), None
            rows, sample, ann = one.rows, one.sample, None if self._exact(len(one.rows)) else one.ann
            chosen = None if allowed is None else _chosen(one, allowed)
        if len(rows) <= SMALL and ann is None and chosen is None:  # the sample's items are among those scanned
            watcher = Watcher(len(queries), sample.positions(rows))
            found, scores = best_items(rows, queries, k, watch=watcher), watcher.scores()
        else:
            found, scores = self._best(rows, ann, queries, k, chosen), sample.scores(queries)
        backgrounds = background_of(scores, rows.items)
        return [
            Nearest(rows.seq_of(best.rows), rows.key_of(best.rows), best.scores, background)
            for best, background in zip(found, backgrounds, strict=True)
        ]

    def _best(
        self, rows: Rows, ann: AnnIndex | None, queries: NDArray[np.float32], k: int, chosen: Chosen | None
    ) -> list[Best]:
        """Return the best of the chosen rows: by scanning them where that costs less, else by the FAISS index."""
        if ann is not None and (chosen is None or chosen.count > self.settings.exact_below):
            return search_index(ann, rows, queries, k, chosen)
        if len(rows) > SMALL:
            return scan_items(rows, queries, k, chosen)
        return best_items(rows, queries, k, None if chosen is None else chosen.positions())

    def _exact(self, count: int) -> bool:
        return self.settings.index == "exact" or count < self.settings.min_vectors

    # -- FAISS and files ---------------------------------------------------------------------------------------------

    def _still_good(self, ann: AnnIndex, rows: Rows) -> bool:
        fresh = len(rows.after(ann.built_at))
        dead = len(rows) - rows.living
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
            return {
                name: self._described(name, one) for name, one in sorted(self._modalities.items()) if one.rows.living
            }

    def _described(self, name: str, one: _Modality) -> str:
        if self._exact(len(one.rows)):
            return "exact"
        ann = one.ann or self._stored(name)
        words = f"{self.settings.index}, {self.settings.quantizer}"
        return f"{words}: not built yet" if ann is None else f"{words}: {ann.size} vectors, built at {ann.built_at}"


def _joined(one: Run, other: Run) -> Run:
    if one.alive is None and other.alive is None:
        return Run(SegmentRows.joined([one.rows, other.rows]))
    alive = [np.ones(len(run), np.bool_) if run.alive is None else run.alive for run in (one, other)]
    return Run(SegmentRows.joined([one.rows, other.rows]), np.concatenate(alive))


def _chosen(one: _Modality, allowed: NDArray[np.int64]) -> Chosen:
    """Return what a filter leaves of a modality; the same array, given again, costs nothing."""
    for sequence, chosen in one.filters:
        if sequence is allowed:
            return chosen
    chosen = one.rows.chosen(allowed)
    one.filters = [*one.filters[1 - _FILTERS :], (allowed, chosen)]
    return chosen


def _nothing() -> Nearest:
    ints = np.zeros(0, np.int64)
    return Nearest(ints, np.zeros((0, 2), np.uint64), np.zeros(0, np.float32), Background(0))
