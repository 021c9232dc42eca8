"""The searchable side of a catalog: rows and indexes of every modality, kept as new as the SQLite file."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
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
from embedspace.catalog.index.exact import Best, Rows, best_items
from embedspace.catalog.index.packed import Packed, PackedRows, load_packed, read_rows, write_packed
from embedspace.catalog.index.settings import Recipe
from embedspace.catalog.search.sampling import Sample, Watcher, sample_of
from embedspace.catalog.store.store import Store

__all__ = ["Gallery"]

_LEFTOVER_SECONDS = 3600
_REPACK_ROWS = 2000
"""A search that had to read at least this many rows from SQLite writes the packed file anew."""


@dataclass(slots=True)
class _Room:
    """One modality: its rows, its index where it has one, how many items it holds, and rows of a sample of them."""

    rows: Rows
    items: int
    ann: AnnIndex | None = None
    sample: Sample | None = None


class Gallery:
    """Searches the vectors of a `Store`; refreshes itself when any process changed the catalog."""

    def __init__(self, store: Store, recipe: Recipe) -> None:
        """Watch a store; nothing is read before the first search."""
        self.store, self.recipe = store, recipe
        self._lock = threading.RLock()
        self._rooms: dict[str, _Room] = {}
        self._state = (-1, 0, 0)
        self._packed: Packed | None = None

    def modalities(self) -> dict[str, int]:
        """Return modality -> number of items that have segments of it."""
        with self._lock:
            self._refresh()
            return {modality: room.items for modality, room in self._rooms.items() if room.items}

    def rows(self, modality: str) -> Rows:
        """Return the rows of one modality as they are now; later changes do not touch them."""
        with self._lock:
            self._refresh()
            return self._rooms[modality].rows

    def search(
        self, modality: str, queries: NDArray[np.float32], k: int, sequence: NDArray[np.int64] | None = None
    ) -> tuple[Rows, list[Best], list[Background]]:
        """Return the rows of a modality, the k best items of it for each query, and how each scores against all of it.

        The background is that of the whole modality whatever the filter, so that a filter does not change what a score
        is worth.

        Args:
            modality: One of `modalities()`.
            queries: (Q, embed_dim) float32 unit rows.
            k: Items wanted a query.
            sequence: Ascending sequence numbers that a filter leaves; all where `None`.
        """
        with self._lock:
            self._refresh()
            room = self._rooms[modality]
            exact = self._exact(len(room.rows))
            if not exact and room.ann is None:
                room.ann = self._index(modality, room.rows)
            if room.sample is None:
                room.sample = sample_of(room.rows)
            sample = room.sample
        allowed = None if sequence is None else _members(room.rows, sequence)
        if exact and allowed is None:  # the sample's items are among those scanned
            watcher = Watcher(len(queries), sample.positions)
            found = best_items(room.rows, queries, k, watch=watcher)
        else:
            watcher = Watcher(len(queries))
            every = len(sample.rows) == len(room.rows)  # then the rows need not be gathered
            best_items(room.rows, queries, 1, None if every else sample.rows, watcher)
            found = self._best(room, queries, k, allowed)
        return room.rows, found, background_of(watcher.scores(), room.items)

    def _best(self, room: _Room, queries: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None) -> list[Best]:
        """Return the best of the allowed rows: by scanning them where they are few, else by the index."""
        if room.ann is None or (allowed is not None and len(allowed) <= self.recipe.exact_below):
            return best_items(room.rows, queries, k, allowed)
        mask = None
        if allowed is not None:
            mask = np.zeros(len(room.rows), np.bool_)
            mask[allowed] = True
        return search_index(room.ann, room.rows, queries, k, mask)

    def optimize(self, index_bytes: int | None = None) -> None:
        """Write what is derived anew, so that the next process starts fast; a read-only catalog is left as it is.

        Args:
            index_bytes: Leave out indexes that would take more memory than this.
        """
        with self._lock:
            if self.store.read_only:
                return
            self._sweep_leftovers()
            packed = self._packed or load_packed(self.store)
            if packed is None or (packed.last_seq, packed.deletions) != self.store.state()[1:]:
                self._repack()  # before anything is read: packing streams, reading a long tail would not
            self._refresh()
            for modality, room in self._rooms.items():
                due = not self._exact(len(room.rows)) and room.ann is None
                if due and (index_bytes is None or index_size(room.rows, self.recipe) <= index_bytes):
                    room.ann = self._index(modality, room.rows)

    def _sweep_leftovers(self) -> None:
        """Delete half-written files of processes that were killed; those of living ones are younger."""
        for path in self.store.folder.glob("*.partial"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _LEFTOVER_SECONDS:
                    path.unlink()

    def described(self) -> dict[str, str]:
        """Return modality -> how it is searched, in words."""
        with self._lock:
            self._refresh()
            return {modality: self._describe(modality, room) for modality, room in sorted(self._rooms.items())}

    def _describe(self, modality: str, room: _Room) -> str:
        if self._exact(len(room.rows)):
            return "exact"
        ann = room.ann or load_index(
            index_path(self.store.folder, modality), self.recipe, self.store.catalog_id, self.store.embed_dim
        )
        name = f"{self.recipe.index}, {self.recipe.quantizer}"
        return f"{name}: not built yet" if ann is None else f"{name}: {ann.size} vectors, built at {ann.built_at}"

    def _exact(self, count: int) -> bool:
        return self.recipe.index == "exact" or count < self.recipe.min_vectors

    # -- staying fresh -----------------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        state = self.store.state()
        if state == self._state:
            return
        first = self._state[0] < 0
        if first:
            self._packed = load_packed(self.store)
        read = self._build_rooms(state)
        self._state = state
        if first and read >= _REPACK_ROWS and not self.store.read_only:
            self._repack()

    def _build_rooms(self, state: tuple[int, int, int]) -> int:
        """Rows are the packed ones plus those newer than the file, less the deleted; returns rows read from SQLite."""
        packed = self._packed
        after = packed.last_seq if packed else 0
        known = {name for (name,) in self.store.rows("SELECT DISTINCT modality FROM segments")}
        changed_deletions = state[2] != (packed.deletions if packed else -1)
        read, rooms = 0, {}
        for modality in sorted(known):
            old = self._rooms.get(modality)
            base = packed.rows.get(modality) if packed else None
            base = base if base is not None else PackedRows.empty(self.store.embed_dim)
            tail = self._tail(modality, old, base, after)
            read += len(tail.seq)
            same = old is not None and old.rows.base is base and old.rows.tail is tail
            rows = old.rows if same and old is not None else Rows(base, tail)
            rows = rows.with_alive(self._alive(modality, rows) if changed_deletions else None)
            ann = old.ann if old is not None and self._still_good(old.ann, rows) else None
            rooms[modality] = _Room(rows, self._count(rows), ann)
        self._rooms = rooms
        return read

    def _tail(self, modality: str, old: _Room | None, base: PackedRows, after: int) -> PackedRows:
        if old is None or old.rows.base is not base:
            return read_rows(self.store, modality, after)
        tail = old.rows.tail
        newest = int(tail.seq[-1]) if len(tail.seq) else after
        more = read_rows(self.store, modality, newest)
        if not len(more.seq):
            return tail
        names = ("seq", "item", "key", "vectors")
        return PackedRows(*(np.concatenate([getattr(tail, name), getattr(more, name)]) for name in names))

    def _alive(self, modality: str, rows: Rows) -> NDArray[np.bool_] | None:
        living = self.store.rows("SELECT seq FROM segments WHERE modality = ? ORDER BY seq", (modality,))
        sequence = np.fromiter((row[0] for row in living), np.int64, len(living))
        if len(sequence) == len(rows):
            return None
        alive = np.zeros(len(rows), np.bool_)
        alive[_members(rows, sequence)] = True
        return alive

    @staticmethod
    def _count(rows: Rows) -> int:
        if rows.alive is None:
            return len(rows.starts)
        return len(np.unique(rows.item[rows.alive]))

    def _still_good(self, ann: AnnIndex | None, rows: Rows) -> bool:
        if ann is None:
            return False
        fresh = len(rows) - int(np.searchsorted(rows.seq, ann.built_at, side="right"))
        dead = 0 if rows.alive is None else int(len(rows) - rows.alive.sum())
        return fresh + dead <= self.recipe.rebuild_fraction * max(ann.size, 1)

    def _index(self, modality: str, rows: Rows) -> AnnIndex:
        path = index_path(self.store.folder, modality)
        ann = load_index(path, self.recipe, self.store.catalog_id, self.store.embed_dim)
        if ann is None or not self._still_good(ann, rows):
            ann = build_index(rows, self.recipe)
            if not self.store.read_only:
                save_index(ann, path, self.store.catalog_id, self.store.embed_dim)
        return ann

    def _repack(self) -> None:
        if write_packed(self.store):
            self._packed = load_packed(self.store)
            self._state = self.store.state()
            self._build_rooms(self._state)


def _members(rows: Rows, sequence: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the ascending rows that have these ascending sequence numbers."""
    sequence = np.asarray(sequence, np.int64)
    if not len(rows):
        return np.zeros(0, np.int64)
    at = np.minimum(np.searchsorted(rows.seq, sequence), len(rows) - 1)
    found: NDArray[np.int64] = at[rows.seq[at] == sequence]
    return found
