"""The catalog: what is known of a collection of media, and the search over it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedspace.calibration.model import Calibration
from embedspace.catalog.bulk.table import ItemTable
from embedspace.catalog.folder import CatalogFolder
from embedspace.catalog.records import (
    AddReport,
    CatalogInfo,
    CatalogItem,
    Hit,
    ItemRecord,
    RemoveReport,
    VerifyReport,
)
from embedspace.catalog.search.searcher import Searcher
from embedspace.catalog.store.contents import catalog_info, count_items, item_records, segment_vectors
from embedspace.catalog.store.filters.facets import field_facts, field_names
from embedspace.catalog.store.fingerprints import adopt_fingerprints, check_fingerprint
from embedspace.catalog.store.lookup import landmark_segments, stored_folders, stored_item
from embedspace.catalog.store.store import Store
from embedspace.catalog.store.uris import places_of, places_where, remove_places
from embedspace.catalog.stored import FieldFacts, StoredItem
from embedspace.errors import InputError, UnknownItemError
from embedspace.segment import modality_rows

__all__ = ["Catalog"]


class Catalog(CatalogFolder):
    """A collection of encoded media that can be searched.

    Example:
        with Catalog.open("media.catalog") as catalog:
            hits = catalog.search(space.encode_text(["a barking dog"]), query_modality="text", to="audio")[0]
    """

    def __init__(self, store: Store) -> None:
        """Wrap an open store; use `create` or `open`."""
        super().__init__(store)
        self._searcher = Searcher(store, self._index.current)

    # -- what it was made with ---------------------------------------------------------------------------------------

    @property
    def fingerprints(self) -> dict[str, str]:
        """Modality -> digest of the encoder whose vectors are here."""
        return self.store.fingerprints()

    @property
    def calibration(self) -> Calibration:
        """The score distributions of the space."""
        return self._searcher.calibration

    def check_fingerprint(self, fingerprints: Mapping[str, str]) -> None:
        """Refuse an encoder that is not the one whose vectors are here.

        Args:
            fingerprints: Modality -> digest, of the encoder at hand; modalities that only one side knows are fine.

        Raises:
            FingerprintMismatchError: Naming the modalities that differ and the way out.
        """
        check_fingerprint(self.store, fingerprints)

    def adopt_fingerprints(self, fingerprints: Mapping[str, str], calibration_json: str = "") -> None:
        """Record the encoder whose vectors are about to be added: modalities that hold no vectors yet are its own.

        Raises:
            FingerprintMismatchError: As `check_fingerprint`.
        """
        adopt_fingerprints(self.store, fingerprints, calibration_json)

    # -- changing it -------------------------------------------------------------------------------------------------

    def add(self, items: Iterable[CatalogItem]) -> AddReport:
        """Add items, or replace those whose content changed; one transaction per batch.

        Args:
            items: Encoded items. Content that is known already gets another place, not another item.

        Raises:
            InputError: If a vector has the wrong length, a NaN, or is not of unit norm.
            CatalogLockedError: If another process keeps writing.
            StorageFullError: If the disk is full; batches written before are intact.
        """
        from embedspace.catalog.bulk.adding import add_items

        return add_items(self.store, self._index, items, self.touched)

    def add_many(
        self, tables: ItemTable | Iterable[ItemTable], *, written: Callable[[ItemTable], None] | None = None
    ) -> AddReport:
        """Add encoded items given as columns, thousands at a time: what `add` does, some ten times as fast.

        Args:
            tables: Best of some thousand rows or more each; one that is larger is written in several transactions.
            written: Called with the rows of each batch at the end of its transaction, which is undone if it raises.

        Returns:
            How many items are new, moved to other content, or were known.

        Raises:
            InputError: If a vector has the wrong length, a NaN, or is not of unit norm, a bound is not finite, a column
                has another length, or an id is that of other segments. The batch that it is in is not written.
            CatalogLockedError: If another process keeps writing.
            StorageFullError: If the disk is full; batches written before are intact.
        """
        from embedspace.catalog.bulk.adding import add_tables

        self._changed = True
        return add_tables(self.store, self._index, [tables] if isinstance(tables, ItemTable) else tables, written)

    def remove(self, where: str | None = None, *, uris: Iterable[str] | None = None) -> RemoveReport:
        """Remove items, or places of items; an item goes with its last place.

        Args:
            where: Removes every item that the filter matches.
            uris: Removes these places.

        Raises:
            InputError: If neither or both are given, or the filter cannot be read.
        """
        if where is not None and uris is None:
            places = places_where(self.store, self._searcher.condition(where))
        elif uris is not None and where is None:
            places = list(uris)
        else:
            raise InputError("remove: give either a filter (where) or places (uris)")
        report = remove_places(self.store, places)
        self._changed = self._changed or report.places > 0
        return report

    def places_of(self, name: str) -> list[str]:
        """Return the uris that a name means: of a place, of a file by its relative path, or of a text by its words."""
        return places_of(self.store, name)

    # -- searching ---------------------------------------------------------------------------------------------------

    def search(
        self,
        vectors: ArrayLike,
        *,
        query_modality: str | Sequence[str],
        k: int = 10,
        to: str | Sequence[str] | None = None,
        where: str | None = None,
        min_probability: float | None = None,
        document_vectors: ArrayLike | None = None,
        filter_seconds: float | None = None,
    ) -> list[list[Hit]]:
        """Return the best items for each query.

        Args:
            vectors: (Q, embed_dim) or (embed_dim,) query vectors of any norm.
            query_modality: Modality of the queries, one for all or one each; "mixed" for a composed query.
            k: Items wanted per query.
            to: Modalities to find; all where `None`.
            where: A filter on columns and metadata, see `embedspace.catalog.store.filters.where`.
            min_probability: Hits that are less likely a match are left out; an empty list says "no good match".
            document_vectors: (Q, K, embed_dim) what each query may be read as, or (Q, embed_dim), searched beside
                `vectors` where text is a document's (a field, a long passage): the best hit counts. The length of a
                reading, at most 1, is the probability that it is right; those of length 0 are left out.
                `EmbeddingSpace.for_documents` makes them.
            filter_seconds: Longest time that evaluating `where` may take.

        Returns:
            One list per query, the most probable first, over all modalities: one hit per item, by its best segment;
            ties are broken by id.

        Raises:
            InputError: If a vector, a modality, k or the filter is wrong, or the filter takes too long.
        """
        return self._searcher.search(
            vectors, query_modality, k, to, where, min_probability, document_vectors, filter_seconds
        )

    def has_documents(self) -> bool:
        """Return whether some text is a document's (a field, a long passage), so that `document_vectors` matter."""
        return self._searcher.has_documents()

    # -- looking into it ---------------------------------------------------------------------------------------------

    def sizes(self) -> dict[str, int]:
        """Return modality -> number of items that a search of it looks through, whatever its filter."""
        return self._index.current().counts()

    def __len__(self) -> int:
        """Return the number of items."""
        return count_items(self.store)

    def items(self, where: str | None = None) -> Iterator[ItemRecord]:
        """Return items, one by one, in the order they were added.

        Args:
            where: Only those that the filter matches.
        """
        return item_records(self.store, self._searcher.condition(where) if where else None)

    def vectors(
        self, modality: str | None = None, ids: Iterable[str] | None = None
    ) -> tuple[list[str], NDArray[np.float32]]:
        """Return vectors, one row per segment, in the order they were added.

        Args:
            modality: Only of this modality.
            ids: Only of these items.

        Returns:
            The item id of every row, and (N, embed_dim) float32 unit rows (to float16 precision).
        """
        return segment_vectors(self.store, modality, ids)

    def item(self, content_id: str) -> StoredItem:
        """Return all that is known of the item with this id, its vectors included.

        Raises:
            UnknownItemError: If there is none.
        """
        found = stored_item(self.store, content_id)
        if found is None:
            raise UnknownItemError(f"id {content_id[:80]!r}: no such item in the catalog; ids come from a search")
        return found

    def neighbours(self, item: StoredItem, k: int = 8) -> dict[str, list[Hit]]:
        """Return modality -> the k hits nearest to an item, without itself; what has none is left out."""
        rows = modality_rows(item.segments)
        if not rows:
            return {}
        modality, row = next(iter(rows.items()))
        found = {}
        for target in self.sizes():
            hits = self.search(row, query_modality=modality, k=k + 1, to=target)[0]
            found[target] = [hit for hit in hits if hit.id != item.id][:k]
        return {target: hits for target, hits in found.items() if hits}

    def folders(self) -> list[str]:
        """Return every folder that a file of the catalog lies in, and every manifest that names one."""
        return stored_folders(self.store)

    def fields(self) -> list[FieldFacts]:
        """Return what each field of the metadata holds, for building filters."""
        return field_facts(self.store)

    def facets(
        self,
        where: str | None = None,
        *,
        fields: Iterable[str] | None = None,
        most: int = 20,
        filter_seconds: float | None = None,
    ) -> list[FieldFacts]:
        """Count what fields of the metadata hold among the items that a filter leaves.

        Args:
            where: The filter; all items where `None`.
            fields: Names in the metadata; all where `None`. One that no such item has is left out.
            most: So many of a text's most frequent values.
            filter_seconds: Longest time that it may take.

        Raises:
            InputError: If the filter cannot be read, a name is unknown, or it takes too long.
        """
        names = None if fields is None else list(fields)
        known = field_names(self.store)
        if unknown := sorted({*(names or ())} - known):
            raise InputError(f"unknown field {unknown[0]!r}; known: {', '.join(sorted(known)) or 'none'}")
        return field_facts(self.store, names, self._searcher.condition(where) if where else None, most, filter_seconds)

    def explain(self, where: str) -> str:
        """Return in words how a filter finds its items: by the table of metadata, or by looking at each.

        Raises:
            InputError: If the filter cannot be read.
        """
        return self._searcher.explain(where)

    def remarks(self, where: str | None = None) -> list[str]:
        """Return what a user should know of how it was last searched; an engine beyond the process has something."""
        return []

    def landmarks(self, count: int) -> tuple[list[tuple[str, str, str, str]], NDArray[np.float32]]:
        """Return at most `count` items that stand for all, drawn evenly: (id, modality, text, uri), and their rows."""
        return landmark_segments(self.store, count)

    @property
    def revision(self) -> int:
        """Number that grows with every change, whoever makes it."""
        return self.store.state()[0]

    def verify(self, *, files: bool = True) -> VerifyReport:
        """Prove that vectors, items and files agree.

        Args:
            files: Also read every file and compare its content with the item's id.
        """
        from embedspace.catalog.verify import verify

        return verify(self.store, files=files)

    def export(self, path: str | Path) -> int:
        """Write every segment with its vector to a .parquet, .npz or .jsonl file or a .lance table; returns how many.

        Raises:
            InputError: If the suffix is another.
        """
        from embedspace.catalog.export import export
        from embedspace.catalog.lance import export_lance, is_lance

        return export_lance(self.store, path) if is_lance(path) else export(self.store, Path(path))

    def info(self) -> CatalogInfo:
        """Return the catalog at a glance."""
        return catalog_info(
            self.store,
            self.settings.name,
            indexes=self._index.current().describe(),
            calibrated=bool(self.calibration.pairs),
        )
