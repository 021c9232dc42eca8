"""Shards of JSON lines, as `catalog export` writes them: an object per row, its vector among what is known of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.bulk.origin import KEY, Origin
from embedspace.catalog.bulk.records import VECTORS, table_of
from embedspace.catalog.bulk.shards import Shard
from embedspace.catalog.bulk.table import ItemTable
from embedspace.errors import InputError

__all__ = ["LinesShard", "count_lines", "has_vectors", "json_lines"]

_ROWS = 4096


def count_lines(path: Path) -> int:
    """Return how many lines a file has; the last one may lack its end."""
    lines, last = 0, b"\n"
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            lines, last = lines + block.count(b"\n"), block[-1:]
    return lines + (last != b"\n")


def json_lines(path: Path, first: int) -> Iterator[Any]:
    """Yield what the lines of a file say, after the first ones.

    Raises:
        InputError: If a line is no JSON.
    """
    with path.open("rb") as file:
        for number, line in enumerate(islice(file, first, None), first + 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise InputError(f"{path}: line {number}: no JSON: {error}") from error


def has_vectors(path: Path) -> bool:
    """Return whether the first line of a file holds a vector; a manifest's does not."""
    try:
        first = next(json_lines(path, 0), None)
    except (InputError, OSError):
        return False
    return isinstance(first, dict) and any(name in first for name in VECTORS)


class LinesShard(Shard):
    """One file; `vector` (or `embedding`) of each line is a list of numbers."""

    def look(self) -> None:
        """Count its lines and read the first; see `Shard`."""
        self.rows = count_lines(self.path)
        for record in islice(json_lines(self.path, 0), 1):
            said = record.get(KEY) if isinstance(record, dict) else None
            self.origin = Origin.from_json(json.dumps(said), self.path) if said is not None else None
            self.embed_dim = len(self._vector(record, 1))

    def tables(self, first: int) -> Iterator[ItemTable]:
        """Yield its rows; see `Shard`."""
        lines = json_lines(self.path, first)
        while records := list(islice(lines, _ROWS)):
            vectors = np.stack([self._vector(record, row) for row, record in enumerate(records, first + 1)])
            yield table_of(vectors, records, self.modality, str(self.path), first)
            first += len(records)

    def _vector(self, record: Any, row: int) -> NDArray[np.float32]:  # noqa: ANN401
        """Take the vector out of a record, and what it says of its encoder."""
        where = f"{self.path}: row {row}"
        name = next((name for name in VECTORS if isinstance(record, dict) and name in record), None)
        if name is None:
            raise InputError(f"{where}: no 'vector' (or 'embedding'); expected a list of numbers")
        record.pop(KEY, None)
        try:
            vector = np.asarray(record.pop(name), np.float32)
        except (ValueError, TypeError) as error:
            raise InputError(f"{where}: {name!r} is no list of numbers: {error}") from error
        if vector.ndim != 1 or (self.embed_dim and len(vector) != self.embed_dim):
            length = len(vector) if vector.ndim == 1 else vector.shape
            raise InputError(f"{where}: a vector of length {length}; those before it have {self.embed_dim}")
        return vector
