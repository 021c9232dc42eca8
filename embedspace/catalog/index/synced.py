"""Keeping an index as new as the catalog's rows, whoever changed them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.index.base import FillableIndex, IndexState, VectorIndex, factory_of
from embedspace.catalog.index.settings import IndexSettings
from embedspace.catalog.store.store import Store
from embedspace.catalog.store.vectors import (
    SegmentRows,
    modality_names,
    removed_since,
    segment_batches,
    segment_numbers,
)

__all__ = ["SyncedIndex"]

_SAVED_ROWS = 2000
"""A first use that had to read at least this many rows from SQLite saves the index."""
_STREAMED_ROWS = 50_000
_TOLD_BYTES = 32 << 20
"""Vectors of this size are told to the index at once, not by its next use."""


class SyncedIndex:
    """The index of a catalog; before each use it is told what any process added or removed."""

    def __init__(self, store: Store, settings: IndexSettings) -> None:
        """Watch a store; nothing is read before the first use.

        Raises:
            ConfigError: If the settings name an unknown engine.
        """
        self.store, self.settings = store, settings
        self._lock = threading.RLock()
        self._create = factory_of(settings)
        self._index = self._create(store, settings)
        self._embed_dim = store.embed_dim
        self._revision = -1
        self._waiting: list[Mapping[str, SegmentRows]] = []

    def current(self) -> VectorIndex:
        """Return the index, which knows all rows that there are now."""
        with self._lock:
            first = self._revision < 0
            added = self._refresh()
            if first and added >= _SAVED_ROWS and not self.store.read_only:
                self._index.save(0)
            return self._index

    def optimize(self, max_bytes: int | None = None) -> None:
        """Save what makes the next start fast; a read-only catalog is left as it is.

        Args:
            max_bytes: Leave out what takes more memory than this to build.
        """
        with self._lock:
            if self.store.read_only:
                return
            self._catch_up(max_bytes)
            index = self._index
            index.save(max_bytes)
        index.build(max_bytes)

    @contextlib.contextmanager
    def filling(self) -> Iterator[None]:
        """Write many rows in a block, and tell the index of them with `append`."""
        with self._lock:
            self._catch_up(0)
            index = self._index
        with index.filling() if isinstance(index, FillableIndex) else contextlib.nullcontext():
            yield

    def append(self, rows: Mapping[str, SegmentRows] | None, before: int) -> bool:
        """Take the segments that a transaction has just written: the index is told without reading them again.

        It is told by its next use, or when they are many, and not at all where nobody has used it yet.

        Args:
            rows: Modality -> its new segments; `None` where more than that changed.
            before: Revision of the catalog when the transaction began.

        Returns:
            Whether they were taken; else a later use reads them.
        """
        with self._lock:
            known = self._revision + len(self._waiting)
            if self._revision < 0 or rows is None or before != known:  # it does not know what came before them
                return False
            self._waiting.append(rows)
            if sum(its.vectors.nbytes for waiting in self._waiting for its in waiting.values()) >= _TOLD_BYTES:
                self._tell_waiting()
            return True

    def catch_up(self) -> None:
        """Tell the index all that is new."""
        with self._lock:
            self._refresh()

    def _tell_waiting(self) -> None:
        """Tell the index what transactions handed over; each took the revision one further."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        last_seq = self._index.state().last_seq
        for modality in sorted({name for rows in waiting for name in rows}):
            its = SegmentRows.joined([rows[modality] for rows in waiting if modality in rows])
            self._index.add(modality, its)
            last_seq = max(last_seq, int(its.seq[-1]))
        self._index.commit(IndexState(last_seq, self._index.state().deletions))
        self._revision += len(waiting)

    def restart(self, settings: IndexSettings) -> None:
        """Search with other settings from now on."""
        with self._lock:
            self.settings, self._create = settings, factory_of(settings)
            self._index, self._revision, self._waiting = self._create(self.store, settings), -1, []

    def _catch_up(self, max_bytes: int | None) -> None:
        _, state = self._renew()
        if state.last_seq - self._index.state().last_seq > _STREAMED_ROWS:
            self._index.save(max_bytes)  # before they are read: saving streams what would not fit in memory
        self._refresh()

    def _renew(self) -> tuple[int, IndexState]:
        """Return the revision and state of the catalog; begin anew where its vectors have another length by now."""
        revision, last_seq, deletions = self.store.state()
        if self.store.embed_dim != self._embed_dim:
            self._index, self._embed_dim = self._create(self.store, self.settings), self.store.embed_dim
        return revision, IndexState(last_seq, deletions)

    def _refresh(self) -> int:
        """Tell the index what is new; returns how many segments were added."""
        if self.store.state()[0] == self._revision:
            return 0
        try:
            self._tell_waiting()
            if self.store.state()[0] == self._revision:
                return 0
            with self.store.snapshot("read its vectors"):
                return self._tell()
        except BaseException:
            self._index, self._revision = self._create(self.store, self.settings), -1  # it was told only a part
            self._waiting = []
            raise

    def _tell(self) -> int:
        revision, state = self._renew()
        index, known = self._index, self._index.state()
        added, modalities = 0, modality_names(self.store)
        for modality in modalities:
            for rows in segment_batches(self.store, modality, known.last_seq):
                index.add(modality, rows)
                added += len(rows)
        if state.deletions != known.deletions and known.last_seq:
            self._tell_removed(index, known, state, modalities)
        index.commit(state)
        self._revision = revision
        return added

    def _tell_removed(self, index: VectorIndex, known: IndexState, state: IndexState, modalities: list[str]) -> None:
        removed = removed_since(self.store, known.deletions, state.deletions)
        if removed is None:
            held = {modality: index.segments(modality) for modality in {*modalities, *index.counts()}}
            removed = {name: _missing(seq, segment_numbers(self.store, name)) for name, seq in held.items()}
        for modality, numbers in removed.items():
            gone = numbers[numbers <= known.last_seq]  # of later ones it has not heard
            if len(gone):
                index.remove(modality, gone)


def _missing(held: NDArray[np.int64], living: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return which of the ascending numbers held are not among the ascending ones that live."""
    if not len(living):
        return held
    at = np.minimum(np.searchsorted(living, held), len(living) - 1)
    gone: NDArray[np.int64] = held[living[at] != held]
    return gone
