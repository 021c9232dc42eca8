"""Shards of an array of vectors (.npy) and a record per row (.jsonl of the same name)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from embedspace.catalog.bulk.lines import count_lines, json_lines
from embedspace.catalog.bulk.records import table_of
from embedspace.catalog.bulk.shards import Shard
from embedspace.catalog.bulk.table import ItemTable
from embedspace.errors import InputError

__all__ = ["ArrayShard"]

_ROWS = 16384


class ArrayShard(Shard):
    """An (N, embed_dim) array of float, and N lines of JSON."""

    def look(self) -> None:
        """Map the array and count the lines; see `Shard`."""
        try:
            self._vectors = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise self.unreadable(error) from error
        if self._vectors.ndim != 2 or self._vectors.dtype.kind != "f":
            shape, kind = self._vectors.shape, self._vectors.dtype
            raise InputError(
                f"{self.path}: an array of shape {shape} and type {kind}; expected (N, embed_dim) of float"
            )
        self.rows, self.embed_dim = self._vectors.shape
        self._records = self.path.with_suffix(".jsonl")
        if not self._records.exists():
            raise InputError(f"{self.path}: no {self._records.name} beside it; expected a line of JSON for each row")
        facts = self._records.stat()
        self.size, self.mtime_ns = self.size + facts.st_size, max(self.mtime_ns, facts.st_mtime_ns)
        lines = count_lines(self._records)
        if lines != self.rows:
            raise InputError(f"{self._records}: {lines} lines for the {self.rows} rows of {self.path.name}")

    def tables(self, first: int) -> Iterator[ItemTable]:
        """Yield its rows; see `Shard`."""
        lines = json_lines(self._records, first)
        while records := list(islice(lines, _ROWS)):
            vectors = np.asarray(self._vectors[first : first + len(records)])
            yield table_of(vectors, records, self.modality, str(self.path), first)
            first += len(records)
