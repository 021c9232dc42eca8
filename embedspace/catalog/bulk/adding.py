"""Writing items to a catalog: a transaction per batch, and the index told without reading them again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

from embedspace.catalog.bulk.table import ItemTable
from embedspace.catalog.content_ids import content_id
from embedspace.catalog.index.synced import SyncedIndex
from embedspace.catalog.records import AddReport, CatalogItem
from embedspace.catalog.store.bulk.insert import filling, insert_items
from embedspace.catalog.store.bulk.prepared import prepare
from embedspace.catalog.store.store import Store
from embedspace.catalog.store.vectors import written_segments

__all__ = ["BATCH", "add_items", "add_tables"]

BATCH = 16384
"""Rows of a transaction, about."""
_ITEMS = 256
"""Items of a transaction, where they are written one by one."""

Written = Callable[[ItemTable], None]


def add_items(store: Store, index: SyncedIndex, items: Iterable[CatalogItem], touched: Callable[[], None]) -> AddReport:
    """Write items one by one, one transaction per batch; see `Catalog.add`.

    Args:
        store: The catalog's rows.
        index: Its index.
        items: What to write.
        touched: Called after each batch.
    """
    counts = dict.fromkeys(("added", "updated", "known"), 0)
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, _ITEMS)):
        outcomes = []
        with store.writing("add items"):
            revision, _, deletions = store.state()
            written: list[tuple[str, int, int, str, bytes]] = []
            store.written = written
            outcomes = [store.put(item, content_id(item)) for item in batch]
            alone = store.state()[2] == deletions
        for outcome in outcomes:
            counts[outcome] += 1
        touched()
        index.append(written_segments(written, store.embed_dim) if alone else None, revision)
    return AddReport(**counts)


def add_tables(
    store: Store, index: SyncedIndex, tables: Iterable[ItemTable], written: Written | None = None
) -> AddReport:
    """Write tables, one transaction per batch of some thousand rows; see `Catalog.add_many`.

    Args:
        store: The catalog's rows.
        index: Its index.
        tables: What to write.
        written: Called with the rows of a batch at the end of its transaction.
    """
    counts = dict.fromkeys(("added", "updated", "known"), 0)
    with filling(store), index.filling():
        for batch in _batches(tables):
            prepared = prepare(batch, store.embed_dim)
            with store.writing("add items"):
                revision = store.state()[0]
                done = insert_items(store, prepared)
                if written is not None:
                    written(batch)
            if not index.append(done.rows, revision):
                index.catch_up()
            for outcome, count in done.outcomes.items():
                counts[outcome] += count
        index.catch_up()
    return AddReport(**counts)


def _batches(tables: Iterable[ItemTable]) -> Iterator[ItemTable]:
    """Yield the rows of tables in parts that divide no item."""
    for table in tables:
        first = 0
        parts = max(1, round(len(table) / BATCH))  # of about the same size, none of which is tiny
        size = -(-len(table) // parts)
        while first < len(table):
            last = min(first + size, len(table))
            while last < len(table) and table.continues(last):
                last += 1
            yield table if (first, last) == (0, len(table)) else table.part(first, last)
            first = last
