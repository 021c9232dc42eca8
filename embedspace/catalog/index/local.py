"""The local index: the vectors of every modality in memory or mapped from the packed file, exact search and FAISS.

Few rows are searched exactly. From `min_vectors` on a FAISS index proposes candidates, newer rows are searched exactly
beside it, and all are scored with the catalog's own vectors.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration.background import Background, background_of
from embedspace.catalog.index.ann.search import cheapest_search
from embedspace.catalog.index.base import IndexState, Nearest, register_index
from embedspace.catalog.index.exact import best_items
from embedspace.catalog.index.held import Held, changed_runs, with_part
from embedspace.catalog.index.merging import merge_due, merged_part, merged_runs
from embedspace.catalog.index.packed import PackedFacts
from embedspace.catalog.index.parts import (
    Masks,
    Part,
    Parts,
    load_parts,
    new_part,
    part_of_runs,
    save_parts,
    sweep,
)
from embedspace.catalog.index.runs import SMALL, Rows, Run
from embedspace.catalog.index.sampling.sample import Sample, Watcher, sample_of
from embedspace.catalog.index.settings import IndexSettings
from embedspace.catalog.index.tuning import Tried, tune_index
from embedspace.catalog.index.upkeep import Moment, Upkeep
from embedspace.catalog.store.store import Store
from embedspace.catalog.store.vectors import SegmentRows
from embedspace.errors import CatalogError

__all__ = ["LocalIndex"]

_FLUSHED_ROWS = 20_000
"""So many rows in memory become a part in the background."""
_UNSAVED_ROWS = 1_000
"""Fewer rows are left to SQLite at `close`: reading them again takes less than writing a part."""


@register_index("local")
class LocalIndex:
    """The index beside the catalog, see `VectorIndex`."""

    def __init__(self, store: Store, settings: IndexSettings) -> None:
        """Index a store; nothing is read before the first use."""
        self.store, self.settings = store, settings
        self._upkeep = Upkeep(store, settings)
        self._lock, self._building = threading.RLock(), threading.Lock()
        self._state: IndexState | None = None
        self._parts = Parts()
        self._flushing: threading.Thread | None = None
        self._filling = 0
        self._modalities: dict[str, Held] = {}
        self._added: dict[str, list[SegmentRows]] = {}
        self._removed: dict[str, list[NDArray[np.int64]]] = {}

    # -- what it holds -----------------------------------------------------------------------------------------------

    def state(self) -> IndexState:
        """Return the state that was last committed, or that the packed file was written at; see `VectorIndex`."""
        with self._lock:
            if self._state is None:
                self._use(load_parts(self.store))
            return self._state or IndexState()

    def _use(self, parts: Parts) -> None:
        """Begin with the rows of some parts."""
        self._parts, self._state = parts, IndexState(parts.last_seq, parts.deletions)
        old, self._modalities = self._modalities, {}
        runs: dict[str, list[Run]] = {}
        for part in parts.parts:
            for name, run in part.runs():
                runs.setdefault(name, []).append(run)
        for name, its in runs.items():
            self._modalities[name] = self._changed(old.get(name), Rows(its), len(its))

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
                runs = changed_runs(old, self._added.get(name, ()), self._removed.get(name, ()))
                if runs:
                    self._modalities[name] = self._changed(old, Rows(runs), old.packed if old else 0)
            self._added, self._removed, self._state = {}, {}, state
            self._flush_later()

    def _changed(self, old: Held | None, rows: Rows, packed: int) -> Held:
        known = Held(rows, packed) if old is None else old
        return Held(rows, packed, known.ann, known.stamp, stale=known.sample or known.stale)

    # -- searching ---------------------------------------------------------------------------------------------------

    def search(
        self, modality: str, queries: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None = None
    ) -> list[Nearest]:
        """Return the k best items for each query; see `VectorIndex`."""
        with self._lock:
            one = self._modalities.get(modality)
            if one is None or not one.rows.living:
                return [Nearest.none() for _ in queries]
            self._look(modality, one)
            rows, ann = one.rows, None if self._upkeep.exact(len(one.rows)) else one.ann
            chosen = None if allowed is None else one.chosen(allowed)
        if len(rows) <= SMALL and ann is None and chosen is None:  # the sample's items are among those scanned
            watcher = Watcher(len(queries), self._sample(one).positions(rows))
            found, score = best_items(rows, queries, k, watch=watcher), watcher.scores
        else:
            found = cheapest_search(rows, ann, queries, k, chosen)
            score = partial(self._sample_scores, one, queries)
        backgrounds = cache(lambda: background_of(score(), rows.items))  # of all queries, once that of one is asked for

        def background(query: int) -> Background:
            return backgrounds()[query]

        return [
            Nearest(rows.seq_of(best.rows), rows.key_of(best.rows), best.scores, partial(background, query))
            for query, best in enumerate(found)
        ]

    def _sample(self, one: Held) -> Sample:
        with self._lock:
            if one.sample is None:
                one.sample, one.stale = sample_of(one.rows, one.stale), None
            return one.sample

    def _sample_scores(self, one: Held, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._sample(one).scores(queries)

    # -- FAISS and files ---------------------------------------------------------------------------------------------

    def _look(self, modality: str, one: Held) -> None:
        """Use the index file that there is now, whoever wrote it."""
        if self._upkeep.exact(len(one.rows)):
            return
        stamp = self._upkeep.stamp(modality)
        if stamp != one.stamp:
            one.ann, one.stamp = self._upkeep.stored(modality) or one.ann, stamp

    def tune(self, target: float) -> list[Tried]:
        """Measure ways of searching, keep the fastest that reaches a recall; see `tune_index`."""
        tried: list[Tried] = []
        with self._building:
            with self._lock:
                rows = {name: one.rows for name, one in sorted(self._modalities.items()) if one.rows.living}
                for name in rows:
                    self._look(name, self._modalities[name])
                indexes = {name: self._modalities[name].ann for name in rows}
            for name, ann in indexes.items():
                found, kept = tune_index(self._upkeep, rows, name, ann, target)
                tried.extend(found)
                with self._lock:
                    self._modalities[name].ann, self._modalities[name].stamp = kept, self._upkeep.stamp(name)
        return tried

    def build(self, max_bytes: int | None = None) -> None:
        """Make FAISS indexes where they are due; see `VectorIndex`."""
        self._build(Moment.OPTIMIZE if max_bytes is None else Moment.CLOSE, max_bytes)

    def _build(self, moment: Moment, max_bytes: int | None) -> None:
        with self._building:
            while self._merge():
                pass
            for name in sorted(self._modalities):
                with self._lock:
                    rows = {other: one.rows for other, one in self._modalities.items()}
                    self._look(name, self._modalities[name])
                    ann = self._modalities[name].ann
                if not self._upkeep.due(ann, rows[name], moment):
                    continue
                if max_bytes is None or self._upkeep.size(rows[name]) <= max_bytes:
                    made = self._upkeep.make(name, rows, ann, moment)
                    with self._lock:
                        self._modalities[name].ann, self._modalities[name].stamp = made, self._upkeep.stamp(name)

    def save(self, max_bytes: int | None = None) -> None:
        """Write the rows that no part holds; see `VectorIndex`."""
        if self._flushing is not None:
            self._flushing.join()
        with self._lock:
            self.state()
            with contextlib.suppress(OSError, CatalogError):  # derived: a search does without it
                self._write_parts(thorough=max_bytes is None)

    def _write_parts(self, *, thorough: bool) -> None:
        sweep(self.store.folder, self._parts)
        parts = self._marked()
        first = parts.rewritten_from(thorough=thorough)
        unsaved = self.store.state()[1] - parts.last_seq
        enough = unsaved > (0 if thorough or not parts.parts else _UNSAVED_ROWS)
        if enough or first < len(parts.parts) - (not unsaved):
            written = new_part(self.store, parts, first)
            save_parts(self.store, written)
            self._use(written)
            for part in parts.parts[first:]:
                if all(part.name != kept.name for kept in written.parts):
                    (self.store.folder / part.name).unlink(missing_ok=True)
        elif parts.parts and parts.deletions != self._parts.deletions:
            save_parts(self.store, parts)
            self._parts = parts

    def _packed_runs(self) -> list[dict[str, Run]]:
        """Return modality -> run of each part, with what was deleted until now."""
        waiting = {name: iter(one.rows.runs) for name, one in self._modalities.items()}
        return [{name: next(waiting[name]) for name, _ in part.runs()} for part in self._parts.parts]

    def _marked(self) -> Parts:
        """Return the parts with what was deleted until now."""
        runs = enumerate(self._packed_runs())
        alive: dict[int, Masks] = {number: {name: run.alive for name, run in its.items()} for number, its in runs}
        return self._parts.with_alive(alive, self.state().deletions)

    def _merge(self) -> bool:
        """Make one part of many, where that is due, while searches go on; returns whether it was."""
        with self._lock:
            parts, first = self._parts, merge_due(self._parts)
            if first is None:
                return False
            last, seen = parts.parts[-1].packed.facts, self._packed_runs()[first:]
            facts = replace(last, deletions=self.state().deletions)
        try:
            part = merged_part(self.store.folder, facts, seen)
        except OSError:  # derived: what there is goes on being used
            return False
        with self._lock:
            old, present = parts.parts, self._parts.parts
            if present[: len(old)] != old:  # something else was written meanwhile
                (self.store.folder / part.name).unlink(missing_ok=True)
                return False
            now = self._packed_runs()
            made = merged_runs(part, seen, now[first : len(old)])
            for name, one in self._modalities.items():
                before, after = (sum(name in its for its in now[:end]) for end in (first, len(old)))
                new = [made[name]] if name in made else []
                rows = Rows([*one.rows.runs[:before], *new, *one.rows.runs[after:]])
                self._modalities[name] = self._changed(one, rows, one.packed - (after - before) + len(new))
            self._parts = replace(self._parts, parts=(*old[:first], part, *present[len(old) :]))
            with contextlib.suppress(OSError):
                save_parts(self.store, self._marked())
                for gone in old[first:]:
                    (self.store.folder / gone.name).unlink(missing_ok=True)
        return True

    # -- in the background -------------------------------------------------------------------------------------------

    def _flush_later(self) -> None:
        """Write what is in memory as a part, where it is much and may be written, while searches go on."""
        waiting = sum(len(run) for one in self._modalities.values() for run in one.rows.runs[one.packed :])
        busy = self._flushing is not None and self._flushing.is_alive()
        if waiting >= _FLUSHED_ROWS and not busy and not self.store.read_only:
            runs = {name: one.rows.runs[one.packed :] for name, one in self._modalities.items()}
            arguments = (self._parts, runs, self.state(), self.store.embed_dim)
            self._flushing = threading.Thread(target=self._flush, args=arguments, name="embedspace-flush")
            self._flushing.start()

    def _flush(self, parts: Parts, runs: Mapping[str, tuple[Run, ...]], state: IndexState, embed_dim: int) -> None:
        facts = PackedFacts(self.store.catalog_id, embed_dim, state.last_seq, state.deletions)
        with contextlib.suppress(OSError):  # derived: SQLite has it
            part = part_of_runs(self.store.folder, facts, runs, alone=not parts.parts)
            with self._lock:
                if self._parts is parts:  # else something else was written meanwhile: the part is swept up later
                    self._swap(part)
                    save_parts(self.store, self._marked())
            self._build_later()

    @contextlib.contextmanager
    def filling(self) -> Iterator[None]:
        """Take many rows in a block; indexes are built after it. See `FillableIndex`."""
        with self._lock:
            self._filling, parts = self._filling + 1, self._parts
        try:
            yield
        finally:
            with self._lock:
                self._filling -= 1
            if self._parts is not parts:
                self._build_later()

    def _build_later(self) -> None:
        if not self._filling:
            threading.Thread(target=self._build_quietly, name="embedspace-build").start()

    def _build_quietly(self) -> None:
        with contextlib.suppress(OSError, RuntimeError, MemoryError, CatalogError):  # derived: `close` makes it
            self._build(Moment.BACKGROUND, None)

    def _swap(self, part: Part) -> None:
        """Take the rows of a part that was written in place of those in memory."""
        last_seq = part.packed.facts.last_seq
        for name, run in part.runs():
            one = self._modalities[name]
            self._modalities[name] = self._changed(one, with_part(one, run, last_seq), one.packed + 1)
        self._parts = Parts((*self._parts.parts, part), last_seq, self._parts.deletions)

    def describe(self) -> dict[str, str]:
        """Return modality -> how it is searched, in words; see `VectorIndex`."""
        with self._lock:
            living = {name: one for name, one in sorted(self._modalities.items()) if one.rows.living}
            for name, one in living.items():
                self._look(name, one)
            return {name: self._upkeep.described(len(one.rows), one.ann) for name, one in living.items()}
