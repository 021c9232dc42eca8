"""Export to a LanceDB table: a folder, or an address of object storage (s3://, gs://, az://), that LanceDB searches.

Columns are those of the parquet export; vectors are the halves that the catalog holds. Source: lancedb 0.40.
"""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from embedspace.catalog.bulk.origin import KEY, Origin
from embedspace.catalog.store.contents import EXPORTED, count_segments, segment_pages
from embedspace.catalog.store.errors import translated
from embedspace.catalog.store.store import Store
from embedspace.errors import InputError, MissingExtraError

__all__ = ["export_lance", "is_lance"]

_REMOTE = re.compile(r"(s3|gs|az):/+(.+)")


def is_lance(out: str | Path) -> bool:
    """Return whether a place to export to is a LanceDB table."""
    return Path(out).suffix.lower() == ".lance"


def export_lance(store: Store, out: str | Path) -> int:
    """Write every segment with its vector to a new table; it is there whole, or not at all.

    Args:
        store: The rows of an open catalog.
        out: FOLDER/NAME.lance, or s3://BUCKET/NAME.lance: `lancedb.connect(FOLDER).open_table(NAME)` reads it.

    Returns:
        Number of segments written.

    Raises:
        InputError: If something is there already, or the storage refuses.
        MissingExtraError: If lancedb is not installed.
        StorageFullError: If the disk is full.
    """
    try:
        import lancedb
        import pyarrow as pa
    except ImportError as error:
        raise MissingExtraError(f"{out}: needs lancedb ({error}); run: pip install 'embedspace[lancedb]'") from error
    remote = _REMOTE.fullmatch(str(out))
    if remote is not None:  # pathlib leaves one slash of two
        folder, _, name = f"{remote[1]}://{remote[2]}".rpartition("/")
        try:
            _create(lancedb, pa, store, folder, name.removesuffix(".lance"))
        except (OSError, ValueError, RuntimeError) as error:
            what = " ".join(str(error).split())[:200]
            raise InputError(
                f"{folder}/{name}: the storage refuses it ({what}); check address and credentials"
            ) from error
        return count_segments(store)
    path = Path(out)
    if path.exists():
        raise InputError(f"{path}: exists already; name another table, or delete that one")
    partial = path.with_name(f".{path.name}.partial-{uuid.uuid4().hex[:8]}")
    with translated(path, "export to it"):
        try:
            _create(lancedb, pa, store, str(partial), path.stem)
            (partial / f"{path.stem}.lance").rename(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return count_segments(store)


def _create(lancedb: Any, pa: Any, store: Store, folder: str, name: str) -> None:  # noqa: ANN401
    origin = Origin(store.embed_dim, store.fingerprints(), str(store.meta("calibration") or ""))
    bounds = {"start": pa.float64(), "end": pa.float64()}
    fields = [(column, bounds.get(column, pa.string())) for column in EXPORTED]
    vectors = pa.list_(pa.float16(), store.embed_dim)
    schema = pa.schema([*fields, ("vector", vectors)], {KEY: origin.to_json()})

    def batches() -> Iterator[Any]:
        for rows, unit in segment_pages(store):
            columns = [pa.array(one, field[1]) for one, field in zip(zip(*rows, strict=True), fields, strict=True)]
            flat = pa.array(unit.astype(np.float16).reshape(-1), pa.float16())
            columns.append(pa.FixedSizeListArray.from_arrays(flat, store.embed_dim))
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    lancedb.connect(folder).create_table(name, data=batches(), schema=schema, mode="create")
