"""What an engine has to do, and the record that it keeps of the catalog it was filled from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.engines.address import EngineAddress

__all__ = ["RECORD", "SAMPLE", "Engine", "Filter", "Point", "Record", "Stored"]

RECORD = 0
"""Number of the point that holds the record; segments begin with 1."""
SAMPLE = 2**62
"""Number of the point that says which segments every query is measured against."""

Filter = Mapping[str, Any]
"""A filter as Qdrant's REST interface has it: must, should, must_not and conditions."""


@dataclass(frozen=True, slots=True)
class Point:
    """One segment, or a record, as it is written.

    Attributes:
        id: Number of the segment.
        payload: What filters ask.
        modality: Which vector it has; empty for a record.
        vector: (embed_dim,) float32; None for a record.
    """

    id: int
    payload: Mapping[str, Any]
    modality: str = ""
    vector: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """A point as it is read.

    Attributes:
        id: Its number.
        payload: What was asked of it.
        vectors: Modality -> vector, where asked for.
    """

    id: int
    payload: Mapping[str, Any]
    vectors: Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Record:
    """What an engine says about the catalog that it was filled from.

    Attributes:
        catalog_id: Names the catalog.
        catalog: Its folder when it was pushed.
        embed_dim: Length of its vectors.
        fingerprints: Modality -> digest of the encoder.
        revision: The catalog's when a push last ended; None where none ever did.
        last_seq: The highest number of a segment then.
        deletions: How many segments were deleted by then.
        items: Modality -> its items.
        segments: Modality -> its segments.
        documents: How many segments are text of documents.
        chunks: Number of a range of segments -> digest of what was written of it.
    """

    catalog_id: str
    catalog: str
    embed_dim: int
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    revision: int | None = None
    last_seq: int = 0
    deletions: int = 0
    items: Mapping[str, int] = field(default_factory=dict)
    segments: Mapping[str, int] = field(default_factory=dict)
    documents: int = 0
    chunks: Mapping[str, str] = field(default_factory=dict)

    def to_point(self) -> Point:
        """Return it as it is kept."""
        return Point(RECORD, {"embedspace": 1, **dataclasses.asdict(self)})

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> Record | None:
        """Read what `to_point` wrote; None where it is something else."""
        names = [one.name for one in dataclasses.fields(cls)]
        if payload.get("embedspace") != 1 or any(name not in payload for name in names):
            return None
        return cls(**{name: payload[name] for name in names})


class Engine(Protocol):
    """Keeps points and finds the nearest ones; every method raises `EngineError` in one line where it cannot."""

    @property
    def address(self) -> EngineAddress:
        """Where it is."""
        ...

    def widths(self) -> dict[str, int] | None:
        """Return modality -> length of its vectors; None where nothing was made yet."""
        ...

    def create(self, widths: Mapping[str, int]) -> None:
        """Make it, empty."""
        ...

    def extend(self, modality: str, embed_dim: int) -> None:
        """Take vectors of another modality from now on."""
        ...

    def index_fields(self, fields: Mapping[str, str]) -> None:
        """Make filters fast that ask these fields: path -> "keyword", "prefix", "float" or "datetime"."""
        ...

    def write(self, points: Sequence[Point]) -> None:
        """Write points, or replace those with the same numbers; they are safe when it returns."""
        ...

    def delete(self, numbers: Sequence[int]) -> None:
        """Forget points; numbers that there are not are no harm."""
        ...

    def read(self, numbers: Sequence[int]) -> dict[int, Stored]:
        """Return points by number with payload, of those that there are."""
        ...

    def pages(self, *, payload: Sequence[str], vectors: bool = False) -> Iterator[list[Stored]]:
        """Yield all points by number, records as well, with some fields of their payload."""
        ...

    def count(self, chosen: Filter) -> int:
        """Return how many points fulfil a filter, exactly."""
        ...

    def nearest(
        self, modality: str, queries: NDArray[np.float32], limit: int, chosen: Filter | None
    ) -> list[list[tuple[int, float]]]:
        """Return (number, score) of the nearest points for each of (Q, embed_dim) queries, best first."""
        ...

    def optimize(self) -> None:
        """Make what searches are fast with, where the engine does not by itself."""
        ...

    def snapshot(self, path: str) -> None:
        """Write all of it to one file."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...
