"""A catalog that an engine searches: what is found, and how probable it is, as the catalog itself would say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embedspace.catalog.catalog import Catalog
from embedspace.catalog.engines.address import EngineAddress
from embedspace.catalog.engines.contract import Filter
from embedspace.catalog.engines.filters import FilterTranslator
from embedspace.catalog.engines.index import DOCUMENTS, EngineIndex
from embedspace.catalog.engines.opening import open_engine, read_record
from embedspace.catalog.index.base import VectorIndex
from embedspace.catalog.index.synced import SyncedIndex
from embedspace.catalog.search.searcher import Allowed, Searcher
from embedspace.catalog.store.lookup import segments_where
from embedspace.catalog.store.store import Store
from embedspace.errors import CatalogNotFoundError, EngineError

__all__ = ["ServedCatalog", "open_served"]


class _EngineSearcher(Searcher):
    """Search where the engine evaluates filters."""

    def __init__(self, store: Store, index: EngineIndex) -> None:
        super().__init__(store, self._served)
        self._engine = index
        self.translator = FilterTranslator(store, self._numbers)
        self._seconds: float | None = None

    def _served(self) -> VectorIndex:
        self.store.state()  # what the rest of the search takes from SQLite is of now, as with any index
        return self._engine

    def _numbers(self, words: str) -> Sequence[int]:
        found: list[int] = segments_where(self.store, self.condition(words), self._seconds).tolist()
        return found

    def _filtered(self, where: str, seconds: float | None) -> Filter:
        self._seconds = seconds
        return self.translator.translate(self.condition(where).root)

    def _documents_among(self, allowed: Allowed | None) -> Allowed | None:
        if not self.has_documents():
            return None
        return {"must": [DOCUMENTS, *([] if allowed is None else [allowed])]}

    def has_documents(self) -> bool:
        """Return whether some text belongs to documents."""
        return self._engine.record.documents > 0

    def explain(self, where: str) -> str:
        """Return in words how a filter finds its items."""
        self.translator.translate(self.condition(where).root)
        return f"the engine compares {'the rest' if self.translator.untranslated else 'all of it'}"


class _EngineSynced(SyncedIndex):
    """An engine is as new as its last push; a search does not write to it."""

    def __init__(self, store: Store, index: EngineIndex) -> None:
        self._served = index

    def current(self) -> VectorIndex:
        """Return the engine."""
        return self._served

    def optimize(self, max_bytes: int | None = None) -> None:
        """Nothing: `push` does."""


class ServedCatalog(Catalog):
    """A catalog, open for reading, whose searches an engine answers; everything else its own rows do."""

    def __init__(self, store: Store, index: EngineIndex) -> None:
        """Wrap an open store and an engine that was filled from it; use `open_served`."""
        super().__init__(store)
        self.engine = index
        self._index: SyncedIndex = _EngineSynced(store, index)
        self._searcher: Searcher = _EngineSearcher(store, index)

    def remarks(self, where: str | None = None) -> list[str]:
        """Return what is worth knowing: what the engine lacks, and which part of a filter SQLite answers."""
        found = []
        if self.engine.record.revision != self.revision:
            found.append(
                f"{self.engine.engine.address}: the catalog has changed since it was pushed; "
                f"embedspace catalog push {self.path} --to {self.engine.engine.address}"
            )
        searcher: Any = self._searcher
        return found + (_answered(searcher.translator.untranslated) if where else [])

    def close(self) -> None:
        """Close the files and let go of the engine."""
        try:
            super().close()
        finally:
            self.engine.engine.close()


def _answered(untranslated: dict[str, int]) -> list[str]:
    return [
        f"filter: {words}: not asked of the engine, SQLite answers it ({count} segments)"
        for words, count in untranslated.items()
    ]


def open_served(address: str, catalog: str | Path | None = None, timeout: float | None = None) -> ServedCatalog:
    """Open a catalog for reading, to be searched by the engine that it was pushed to.

    Args:
        address: Of the engine, such as "qdrant:http://127.0.0.1:6333/media".
        catalog: The catalog's folder; None: where it was when it was pushed.
        timeout: Seconds that one answer of a server may take; None: a minute.

    Raises:
        EngineError: If the engine cannot be reached, is empty or half full, or holds something else.
        CatalogError: If the catalog cannot be opened.
    """
    engine = open_engine(EngineAddress.parse(address), timeout)
    try:
        if catalog is None:
            record = read_record(engine)
            if record is None:
                raise EngineError(
                    f"{engine.address}: nothing is there; run: embedspace catalog push CATALOG --to {engine.address}"
                )
            catalog = record.catalog
        try:
            store = Store(Path(catalog), read_only=True)
        except CatalogNotFoundError:
            raise CatalogNotFoundError(
                f"{catalog}: not there, but {engine.address} was filled from it; name its folder with catalog "
                "(--catalog)"
            ) from None
        try:
            served = ServedCatalog(store, EngineIndex(store, engine))
            _ = served.engine.record
        except BaseException:
            store.close()
            raise
    except BaseException:
        engine.close()
        raise
    return served
