"""What the catalog holds, looked at item by item and field by field. Frozen records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from embedspace.catalog.places import name_of
from embedspace.segment import Segment

__all__ = ["FieldFacts", "StoredItem", "StoredPlace"]


@dataclass(frozen=True, slots=True)
class StoredPlace:
    """A place of an item as it was when it was indexed.

    Attributes:
        uri: Absolute path of its file, "<manifest>#<row>" for a row, or any name.
        source: The manifest that named it, empty for a file found in a folder.
        size: Bytes of the file.
        mtime_ns: Modification time of the file, in nanoseconds.
    """

    uri: str
    source: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class StoredItem:
    """All that the catalog holds of one item.

    Attributes:
        id: Content hash.
        kind: "image", "audio", "text" or "video".
        metadata: Facts of decoding and of manifests, merged.
        content: The text, or field -> text, of an item that has no file.
        places: Every place it was found at, oldest first.
        segments: Its segments with their vectors (to float16 precision), in order.
    """

    id: str
    kind: str
    metadata: dict[str, Any]
    content: str | dict[str, str] | None
    places: tuple[StoredPlace, ...]
    segments: tuple[Segment, ...]

    @property
    def uri(self) -> str:
        """Where it was found first; its id, where nobody knows."""
        return self.places[0].uri if self.places else self.id

    @property
    def name(self) -> str:
        """How people call it."""
        return name_of(self.uri)


@dataclass(frozen=True, slots=True)
class FieldFacts:
    """What a field of the metadata holds, for building filters.

    Attributes:
        name: As `where` knows it.
        kind: "number", "time" (ISO 8601 texts) or "text".
        count: Items that have it.
        low: Smallest value of numbers and times.
        high: Largest value of numbers and times.
        values: The most frequent values with their counts, of a text.
    """

    name: str
    kind: str
    count: int
    low: float | str | None = None
    high: float | str | None = None
    values: tuple[tuple[str, int], ...] = ()
