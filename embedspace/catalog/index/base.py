"""The contract of an index, and the registry that finds one by name.

An index is derived from the rows of a catalog and may be deleted at any time. It is told what was added and removed,
and answers with segments, content ids and scores; it knows neither files nor metadata. The local one
(`embedspace.catalog.index.local`) is exact search and FAISS beside the catalog; another engine is one file that calls
`register_index`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration.background import Background
from embedspace.catalog.index.settings import IndexSettings
from embedspace.catalog.store.store import Store
from embedspace.catalog.store.vectors import SegmentRows
from embedspace.errors import ConfigError
from embedspace.plugins import Registry

__all__ = ["FillableIndex", "IndexState", "Nearest", "VectorIndex", "factory_of", "index_names", "register_index"]


@dataclass(frozen=True, slots=True)
class IndexState:
    """Up to where an index knows its catalog.

    Attributes:
        last_seq: The highest segment number that had been given.
        deletions: How many segments had been deleted.
    """

    last_seq: int = 0
    deletions: int = 0


@dataclass(frozen=True)
class Nearest:
    """The best items of one modality for one query, best first; ties are broken by content id.

    Attributes:
        seq: (n,) int64 number of each item's best segment.
        key: (n, 2) uint64 content id of each item, as a big number.
        scores: (n,) float32 cosines of query and segment, descending.
        measured: How the query scores against all items of the modality, whatever the filter, or what measures it when
            that is asked for. An engine that cannot score them all measures it on a sample that stays the same, see
            `embedspace.catalog.index.sampling`.
    """

    seq: NDArray[np.int64]
    key: NDArray[np.uint64]
    scores: NDArray[np.float32]
    measured: Background | Callable[[], Background]

    @cached_property
    def background(self) -> Background:
        """How the query scores against all items of the modality."""
        return self.measured() if callable(self.measured) else self.measured

    @classmethod
    def none(cls) -> Nearest:
        """Return what is found where there is nothing."""
        ints = np.zeros(0, np.int64)
        return cls(ints, np.zeros((0, 2), np.uint64), np.zeros(0, np.float32), Background(0))

    @property
    def ids(self) -> list[str]:
        """Content id of each item, in hex."""
        return [f"{high:016x}{low:016x}" for high, low in self.key.tolist()]


class VectorIndex(Protocol):
    """Finds the nearest vectors of a catalog. Every method is safe to call from several threads."""

    def state(self) -> IndexState:
        """Return the state of the catalog that was last committed; the first one where nothing was."""
        ...

    def counts(self) -> dict[str, int]:
        """Return modality -> number of items that have segments of it; modalities without any are left out."""
        ...

    def segments(self, modality: str) -> NDArray[np.int64]:
        """Return (N,) int64 numbers of the segments held of a modality, ascending; none for an unknown modality."""
        ...

    def add(self, modality: str, rows: SegmentRows) -> None:
        """Take new segments of a modality, with higher numbers than all before; found from the next commit on."""
        ...

    def remove(self, modality: str, segments: NDArray[np.int64]) -> None:
        """Forget segments of a modality, (n,) int64 ascending numbers; found until the next commit."""
        ...

    def commit(self, state: IndexState) -> None:
        """Make what was added and removed visible, all at once: it is complete up to this state of the catalog."""
        ...

    def search(
        self, modality: str, queries: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None = None
    ) -> list[Nearest]:
        """Return the k best items of a modality for each query, each by its best segment.

        Args:
            modality: What is searched; nothing is found of an unknown one.
            queries: (Q, embed_dim) float32 unit rows.
            k: Items wanted per query.
            allowed: (n,) int64 ascending numbers of the segments that may be found; all where `None`.
        """
        ...

    def save(self, max_bytes: int | None = None) -> None:
        """Make durable what makes the next start fast.

        Args:
            max_bytes: Leave out what takes more memory than this to build.
        """
        ...

    def build(self, max_bytes: int | None = None) -> None:
        """Make what searches are fast with, where it is due; they go on meanwhile with what there is.

        Args:
            max_bytes: Called at the end of writing: leave out what takes more memory than this, or is hardly worth it.
                Thoroughly where `None`.
        """
        ...

    def describe(self) -> dict[str, str]:
        """Return modality -> how it is searched, in words, for `info`."""
        ...


@runtime_checkable
class FillableIndex(Protocol):
    """An index that wants to know that many rows come: a `VectorIndex` may be one as well."""

    def filling(self) -> AbstractContextManager[None]:
        """Take many rows in a block: what searches are fast with is made after it, not again and again in it."""
        ...


IndexFactory = Callable[[Store, IndexSettings], VectorIndex]
"""Makes the index of an open catalog; it may keep files in `store.folder`, unless `store.read_only`."""

_ENGINES: Registry[IndexFactory] = Registry("index engine", {"local": "embedspace.catalog.index.local"})


def register_index(name: str) -> Callable[[IndexFactory], IndexFactory]:
    """Register a factory (or a class that is one) under the name that settings call it by: `engine = "name"`.

    Raises:
        ConfigError: If the name is taken by another one.
    """
    return _ENGINES.register(name)


def index_names() -> list[str]:
    """Return the names of all engines that are known now."""
    return _ENGINES.names()


def factory_of(settings: IndexSettings) -> IndexFactory:
    """Return the factory that a catalog's settings name.

    Raises:
        ConfigError: If no such engine is registered.
    """
    factory = _ENGINES.get(settings.engine)
    if factory is None:
        raise ConfigError(
            f"index settings {settings.name!r}: unknown engine {settings.engine!r}; known: {', '.join(index_names())}. "
            "One that a package of yours registers is known once that package is imported"
        )
    return factory
