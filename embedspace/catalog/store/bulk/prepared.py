"""Tables of items made ready for the database: everything is checked and computed before a transaction begins."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.bulk.columns import is_value, json_objects, values_of
from embedspace.catalog.bulk.table import COLUMNS, ItemTable
from embedspace.catalog.content_ids import CONTENT_ID
from embedspace.catalog.store.digests import unit_halves
from embedspace.catalog.store.filters.values import flat_fields, pairs_of, plain_values
from embedspace.errors import InputError

__all__ = ["Prepared", "is_sortable", "odd_values", "prepare"]


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Items that may be written as they are.

    Attributes:
        table: Where they come from.
        firsts: First row of each item, and the number of rows.
        ids: Content id of each item.
        uris: Place of each item.
        kinds: Kind of each item.
        digests: What ties each item to its segments.
        metadata: JSON of each item.
        columns: Name -> value of each item.
        halves: (N, embed_dim) float16 unit rows.
        segments: (modality, start, end, text, label) of each row.
    """

    table: ItemTable
    firsts: list[int]
    ids: list[str]
    uris: list[str]
    kinds: list[str]
    digests: list[bytes]
    metadata: list[str]
    columns: Mapping[str, list[Any]]
    halves: NDArray[np.float16]
    segments: list[tuple[Any, ...]]

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.ids)

    def rows(self, number: int) -> range:
        """Return the rows of an item."""
        return range(self.firsts[number], self.firsts[number + 1])

    def fields(self) -> set[str]:
        """Return the names under which `where` finds the metadata."""
        names: set[str] = set()
        for name, values in self.columns.items():
            if set(map(type, values)) <= _SIMPLE:
                names.update(flat_fields({name: None}))
                continue
            if any(not isinstance(value, Mapping) and is_value(value) for value in values):
                names.update(flat_fields({name: None}))
            for value in values:
                if isinstance(value, Mapping):
                    names.update(flat_fields({name: value}))
        return names


_SIMPLE = {int, bool, str}


def is_sortable(name: str, values: Sequence[Any]) -> bool:
    """Return whether a field's values are stored as they are and in an order: whole numbers, booleans or texts."""
    types = set(map(type, values))
    return len(types) == 1 and types <= _SIMPLE and name.isidentifier() and plain_values(values)


def odd_values(name: str, values: Sequence[Any], first: int) -> Iterator[tuple[str, Any, int]]:
    """Yield (field, value, item) of what items, numbered from `first` on, have under a name, whatever it is."""
    for item, value in enumerate(values, first):
        if is_value(value):
            text = json.dumps({name: value}, ensure_ascii=False, default=str)
            yield from ((field, stored, item) for field, stored in pairs_of(json.loads(text)))


def prepare(table: ItemTable, embed_dim: int) -> Prepared:
    """Check a table and compute what is stored of it.

    Raises:
        InputError: If a column has another length, a vector another width, a NaN, or not unit norm, a bound is not
            finite, or a value cannot be stored; the message names the first such row.
    """
    halves = _halves(table, embed_dim)
    count = len(table)
    for name in COLUMNS:
        column = getattr(table, name)
        if column is not None and not isinstance(column, str) and len(column) != count:
            raise InputError(f"{table.name}: {name}: {len(column)} values for {count} rows")
    segments = _segments(table)
    firsts = _firsts(table)
    starts = firsts[:-1]
    kinds = table.kinds_of(starts)
    ids = _ids(table, firsts, kinds, segments)
    try:
        columns = {name: values_of(column, starts, count) for name, column in table.metadata.items()}
        metadata = json_objects(columns, len(ids))
        uris = ids if table.uris is None else [uri or at for uri, at in zip(_at(table.uris, starts), ids, strict=True)]
        "".join(uris).encode()
    except (ValueError, InputError) as error:
        raise InputError(f"{table.name}: {error}") from error
    raw, width = halves.tobytes(), 2 * embed_dim
    blobs = [raw[at : at + width] for at in range(0, len(raw), width)]
    digests = _digests(ids, firsts, segments, blobs)
    return Prepared(table, firsts, ids, uris, kinds, digests, metadata, columns, halves, segments)


def _at(column: Sequence[str], rows: Sequence[int]) -> Sequence[str]:
    return column if len(rows) == len(column) else [column[row] for row in rows]


def _halves(table: ItemTable, embed_dim: int) -> NDArray[np.float16]:
    vectors = np.asarray(table.vectors)
    if vectors.ndim != 2 or vectors.shape[1] != embed_dim or vectors.dtype.kind != "f":
        expected = f"(N, {embed_dim}) numbers, as this catalog holds them"
        raise InputError(
            f"{table.name}: vectors of shape {vectors.shape} and type {vectors.dtype}; expected {expected}"
        )
    halves, wrong = unit_halves(vectors)
    for row, norm in wrong.items():
        raise InputError(f"{table.row(row)}: a vector of norm {norm:.4g}; the catalog takes unit vectors")
    return halves


def _segments(table: ItemTable) -> list[tuple[Any, ...]]:
    """Return (modality, start, end, text, label) of each row."""
    count = len(table)
    rest = (table.starts, table.ends, table.texts, table.labels)
    if isinstance(table.modalities, str) and all(column is None for column in rest):
        return [(table.modalities, None, None, "", "")] * count
    modalities = itertools.repeat(table.modalities) if isinstance(table.modalities, str) else map(str, table.modalities)
    starts, ends = _bounds(table, table.starts), _bounds(table, table.ends)
    texts, labels = _said(table.texts), _said(table.labels)
    return list(itertools.islice(zip(modalities, starts, ends, texts, labels, strict=False), count))


def _bounds(table: ItemTable, column: Sequence[float | None] | None) -> Iterable[float | None]:
    if column is None:
        return itertools.repeat(None)
    bounds = [None if bound is None else float(bound) + 0.0 for bound in column]
    for row, bound in enumerate(bounds):
        if bound is not None and not math.isfinite(bound):
            raise InputError(f"{table.row(row)}: a segment's bound is {bound}; bounds must be finite, or None")
    return bounds


def _said(column: Sequence[str | None] | None) -> Iterable[str]:
    if column is None:
        return itertools.repeat("")
    return [
        text if text.isascii() else text.encode("utf-8", "replace").decode() for text in (one or "" for one in column)
    ]


def _firsts(table: ItemTable) -> list[int]:
    count = len(table)
    if table.ids is None and table.uris is None:
        return list(range(count + 1))
    later = [row for row in range(1, count) if not table.continues(row)]
    return [0, *later, count] if count else [0]


def _ids(table: ItemTable, firsts: Sequence[int], kinds: Sequence[str], segments: Sequence[Any]) -> list[str]:
    """Return the content id of each item, as `content_id` makes it."""
    starts = firsts[:-1]
    matches = CONTENT_ID.fullmatch
    given: Iterable[str] = itertools.repeat("") if table.ids is None else _at(table.ids, starts)
    raw = np.ascontiguousarray(table.vectors, "<f4").view(np.uint8).reshape(len(table), -1)
    found = []
    for number, (known, kind) in enumerate(zip(given, kinds, strict=False)):
        if known and matches(known):
            found.append(known)
            continue
        parts: list[Any] = [f"{kind}\0{known or ''}\0".encode()]
        for row in range(firsts[number], firsts[number + 1]) if not known else ():
            modality, _, _, text, label = segments[row]
            parts += f"{modality}\0{text}\0{label}\0".encode(), raw[row]
        found.append(hashlib.blake2b(b"".join(parts), digest_size=16).hexdigest())
    return found


def _digests(
    ids: Sequence[str], firsts: Sequence[int], segments: Sequence[tuple[Any, ...]], blobs: Sequence[bytes]
) -> list[bytes]:
    """Return what `segments_digest` does, of each item."""
    heads: dict[tuple[Any, ...], bytes] = {}
    found = []
    for number, name in enumerate(ids):
        parts = [name.encode()]
        for row in range(firsts[number], firsts[number + 1]):
            key = segments[row]
            head = heads.get(key)
            if head is None:
                head = json.dumps(key).encode()
                if len(heads) < 1000:
                    heads[key] = head
            parts += head, blobs[row]
        found.append(hashlib.blake2b(b"".join(parts), digest_size=16).digest())
    return found
