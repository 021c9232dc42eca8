"""Encoded items as columns, on their way into a catalog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.records import CatalogItem
from embedspace.modality import kind_of_modality
from embedspace.segment import Segment

__all__ = ["COLUMNS", "ItemTable"]

COLUMNS = ("modalities", "uris", "ids", "kinds", "starts", "ends", "texts", "labels")
"""What is a column of its own, beside vectors and metadata."""


@dataclass(frozen=True, slots=True, eq=False)
class ItemTable:
    """Encoded items as columns, one row per segment.

    Neighbouring rows with the same id are the segments of one item; where there are no ids, those with the same uri;
    where there are neither, each row is an item.

    Attributes:
        vectors: (N, embed_dim) unit rows, of any type of float.
        modalities: Modality of all rows, or of each: which encoder made its vector.
        uris: Where the item of each row lies: a path, or any name; its id where it is empty or `None`.
        ids: Hex digest that identifies the content of each row's item, or any text that does; made of the segments
            where it is empty or `None`.
        kinds: Kind of all items, or of each row's; that whose files hold the modality where it is empty.
        starts: Where each segment starts: seconds or characters; `None` for a whole item.
        ends: As `starts`.
        texts: What each segment says, where known.
        labels: Name of the field that each segment is of, where it is of one.
        metadata: Name -> a value per row, of which an item's first counts; `None` and NaN say that it has none.
        name: Where the rows come from, for messages.
        first: How many rows of that came before, for messages.
    """

    vectors: NDArray[np.floating[Any]]
    modalities: str | Sequence[str]
    uris: Sequence[str] | None = None
    ids: Sequence[str] | None = None
    kinds: str | Sequence[str] = ""
    starts: Sequence[float | None] | None = None
    ends: Sequence[float | None] | None = None
    texts: Sequence[str] | None = None
    labels: Sequence[str] | None = None
    metadata: Mapping[str, Sequence[Any] | NDArray[Any]] = field(default_factory=dict)
    name: str = "add_many"
    first: int = 0

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.vectors)

    def row(self, number: int) -> str:
        """Name a row in a message."""
        return f"{self.name}: row {self.first + number + 1}"

    def continues(self, row: int) -> bool:
        """Return whether a row is of the same item as the one before it."""
        for column in (self.ids, self.uris):
            if column is not None and (column[row] or column[row - 1]):
                return column[row] == column[row - 1]
        return False

    def kinds_of(self, rows: Sequence[int]) -> list[str]:
        """Return the kind of the items that begin at some rows."""
        if isinstance(self.modalities, str) and isinstance(self.kinds, str):
            return [self.kinds or kind_of_modality(self.modalities)] * len(rows)
        modalities = [self.modalities] * len(rows) if isinstance(self.modalities, str) else _at(self.modalities, rows)
        kinds = [self.kinds] * len(rows) if isinstance(self.kinds, str) else _at(self.kinds, rows)
        by_modality = {name: kind_of_modality(name) for name in set(modalities)}
        return [kind or by_modality[name] for kind, name in zip(kinds, modalities, strict=True)]

    def part(self, first: int, last: int) -> ItemTable:
        """Return some of the rows."""
        some = slice(first, last)

        def cut(column: Any) -> Any:  # noqa: ANN401
            return column if column is None or isinstance(column, str) else column[some]

        columns = {name: cut(getattr(self, name)) for name in COLUMNS}
        metadata = {name: cut(column) for name, column in self.metadata.items()}
        return ItemTable(
            vectors=self.vectors[some], metadata=metadata, name=self.name, first=self.first + first, **columns
        )

    def segment(self, row: int) -> Segment:
        """Return one row."""
        modality = self.modalities if isinstance(self.modalities, str) else self.modalities[row]
        start = None if self.starts is None else self.starts[row]
        end = None if self.ends is None else self.ends[row]
        text = "" if self.texts is None else self.texts[row] or ""
        label = "" if self.labels is None else self.labels[row] or ""
        return Segment(modality, np.asarray(self.vectors[row], np.float32), start, end, text, label)

    def item(self, rows: range, uri: str, content_id: str, metadata: Mapping[str, Any]) -> CatalogItem:
        """Return the item of some rows, as `Catalog.add` takes it."""
        segments = [self.segment(row) for row in rows]
        return CatalogItem(uri, self.kinds_of(rows[:1])[0], segments, metadata, content_hash=content_id)


def _at(column: Sequence[str], rows: Sequence[int]) -> Sequence[str]:
    return column if len(rows) == len(column) else [column[row] for row in rows]
