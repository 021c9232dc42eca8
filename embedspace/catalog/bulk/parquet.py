"""Shards of parquet, as `catalog export` writes them, or of anybody's columns beside one of vectors."""

from __future__ import annotations

import importlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.bulk.origin import KEY, Origin
from embedspace.catalog.bulk.records import NAMES, VECTORS, metadata_columns
from embedspace.catalog.bulk.shards import Shard
from embedspace.catalog.bulk.table import ItemTable
from embedspace.errors import InputError, MissingExtraError

__all__ = ["ParquetShard", "pyarrow_for"]

_ROWS = 16384


def pyarrow_for(path: Path) -> tuple[Any, Any]:
    """Return the modules `pyarrow` and `pyarrow.parquet`.

    Raises:
        MissingExtraError: If they are not installed; names the file that needs them.
    """
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingExtraError(f"{path}: parquet needs pyarrow; run: pip install 'embedspace[parquet]'") from error


class ParquetShard(Shard):
    """One parquet file; a column `vector` (or `embedding`) holds lists of numbers."""

    def look(self) -> None:
        """Read its schema; see `Shard`."""
        arrow, self._pq = pyarrow_for(self.path)
        self._errors = arrow.ArrowException
        try:
            with self._pq.ParquetFile(self.path) as file:
                schema, self.rows = file.schema_arrow, file.metadata.num_rows
                self._vector = self._vector_column(schema.names)
                self._check(schema.names)
                first = next(file.iter_batches(1, columns=[self._vector]), None)
        except self._errors as error:
            raise self.unreadable(error) from error
        kind = schema.field(self._vector).type
        if not hasattr(kind, "value_type") or str(kind.value_type) not in ("halffloat", "float", "double"):
            raise InputError(f"{self.path}: column {self._vector!r} is of type {kind}; expected lists of float")
        if first is not None and len(first) and first.column(0)[0].is_valid:
            self.embed_dim = len(first.column(0)[0])
        said = (schema.metadata or {}).get(KEY.encode())
        self.origin = Origin.from_json(said, self.path) if said else None

    def _vector_column(self, names: list[str]) -> str:
        for name in VECTORS:
            if name in names:
                return name
        raise InputError(f"{self.path}: no column 'vector' (or 'embedding'); it has: {', '.join(names) or 'none'}")

    def _check(self, names: list[str]) -> None:
        if "modality" not in names and not self.modality:
            raise InputError(
                f"{self.path}: no column 'modality' says what its rows are; say it with modality (--modality); it has: "
                f"{', '.join(names)}"
            )

    def tables(self, first: int) -> Iterator[ItemTable]:
        """Yield its rows; see `Shard`."""
        try:
            with self._pq.ParquetFile(self.path) as file:
                groups, before = self._after(file, first)
                for batch in file.iter_batches(_ROWS, row_groups=groups):
                    last = before + len(batch)
                    if last > first:
                        yield self._table(batch.slice(max(0, first - before)), max(first, before))
                    before = last
        except self._errors as error:
            raise self.unreadable(error) from error

    @staticmethod
    def _after(file: Any, first: int) -> tuple[list[int], int]:  # noqa: ANN401
        """Return the row groups that hold rows after the first ones, and how many rows come before them."""
        counts = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        ends = list(itertools.accumulate(counts))
        groups = [number for number, end in enumerate(ends) if end > first]
        return groups, (ends[groups[0]] - counts[groups[0]] if groups else first)

    def _table(self, batch: Any, first: int) -> ItemTable:  # noqa: ANN401
        found = {name: batch.column(name) for name in batch.schema.names}
        vectors = self._vectors(found.pop(self._vector), first)
        columns: dict[str, Any] = {}
        for name, column in NAMES.items():
            if name in found:
                values = found.pop(name).to_pylist()
                text = name not in ("start", "end")
                columns[column] = [None if value is None else str(value) for value in values] if text else values
        columns.setdefault("modalities", [None] * len(batch))
        columns["modalities"] = [one or self.modality for one in columns["modalities"]]
        if "" in columns["modalities"]:
            raise InputError(f"{self.path}: row {first + columns['modalities'].index('') + 1}: no modality")
        given = found.pop("metadata", None)
        metadata = {name: column.to_pylist() for name, column in found.items()}
        if given is not None:
            metadata |= metadata_columns([self._facts(value, first + at) for at, value in enumerate(given.to_pylist())])
        for name in ("kinds", "texts", "labels"):
            if name in columns:
                columns[name] = [one or "" for one in columns[name]]
        return ItemTable(vectors, metadata=metadata, name=str(self.path), first=first, **columns)

    def _facts(self, value: Any, row: int) -> dict[str, Any]:  # noqa: ANN401
        try:
            facts = json.loads(value or "{}") if isinstance(value, str | None) else dict(value)
            if isinstance(facts, dict):
                return facts
        except (ValueError, TypeError):
            pass
        raise InputError(f"{self.path}: row {row + 1}: 'metadata' is {str(value)[:40]!r}; expected a JSON object")

    def _vectors(self, column: Any, first: int) -> NDArray[np.floating[Any]]:  # noqa: ANN401
        flat = column.flatten().to_numpy(zero_copy_only=False)
        if column.null_count or len(flat) != len(column) * self.embed_dim or not self._even(column):
            for row, value in enumerate(column):
                length = len(value) if value.is_valid else 0
                if length != self.embed_dim:
                    raise InputError(
                        f"{self.path}: row {first + row + 1}: a vector of length {length}; those before it have "
                        f"{self.embed_dim}"
                    )
        vectors: NDArray[np.floating[Any]] = flat.reshape(len(column), -1)
        return vectors

    def _even(self, column: Any) -> bool:  # noqa: ANN401
        offsets = getattr(column, "offsets", None)
        return offsets is None or bool((np.diff(offsets.to_numpy()) == self.embed_dim).all())
