"""Writing tables of items to a catalog: a transaction per batch, and the index told without reading them again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from embedspace.catalog.bulk.table import ItemTable
from embedspace.catalog.index.synced import SyncedIndex
from embedspace.catalog.records import AddReport
from embedspace.catalog.store.bulk.insert import filling, insert_items
from embedspace.catalog.store.bulk.prepared import prepare
from embedspace.catalog.store.store import Store
from embedspace.catalog.store.vectors import SegmentRows

__all__ = ["BATCH", "add_tables"]

BATCH = 16384
"""Rows of a transaction, about."""
_TOLD_BYTES = 32 << 20
"""Vectors that are kept until the index is told of them together."""

Written = Callable[[ItemTable], None]


class _Teller:
    """Tells the index of what was written, many batches at a time."""

    def __init__(self, index: SyncedIndex) -> None:
        self.index = index
        self.waiting: list[dict[str, SegmentRows]] = []
        self.size, self.before, self.after = 0, 0, 0

    def add(self, rows: dict[str, SegmentRows] | None, revision: int) -> None:
        """Take the rows of a transaction that began at a revision; `None`: the index has to look for itself."""
        if self.waiting and self.after != revision:  # another process wrote
            self.waiting, self.size = [], 0
            return
        if rows is None:
            self.tell()
            return
        if not self.waiting:
            self.before = revision
        self.waiting.append(rows)
        self.after = revision + 1
        self.size += sum(its.vectors.nbytes for its in rows.values())
        if self.size >= _TOLD_BYTES:
            self.tell()

    def tell(self) -> None:
        """Tell the index of what waits."""
        names = sorted({name for rows in self.waiting for name in rows})
        joined = {name: SegmentRows.joined([rows[name] for rows in self.waiting if name in rows]) for name in names}
        self.waiting, self.size = [], 0
        if joined:
            self.index.append(joined, self.before, self.after)


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
        teller = _Teller(index)
        for batch in _batches(tables):
            prepared = prepare(batch, store.embed_dim)
            with store.writing("add items"):
                revision = store.state()[0]
                done = insert_items(store, prepared)
                if written is not None:
                    written(batch)
            teller.add(done.rows, revision)
            for outcome, count in done.outcomes.items():
                counts[outcome] += count
        teller.tell()
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
