"""Export to parquet, npz and JSON lines, one row per segment; `bulk` reads parquet and JSON lines again.

Columns: id, uri, kind, modality, start, end, text, label, metadata (JSON text) and vector (embed_dim float32).
Which encoder made the vectors is said in the metadata of a parquet file, and in the first of JSON lines.
The npz file leaves out text and metadata (it has no place for text of any length): arrays `vectors` (N, embed_dim),
`ids`, `uris`, `modalities`, `labels`, `starts` and `ends` (NaN where a segment has none).
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from embedspace.catalog.bulk.origin import KEY, Origin
from embedspace.catalog.bulk.parquet import pyarrow_for
from embedspace.catalog.store.contents import EXPORTED, count_segments, segment_pages
from embedspace.catalog.store.errors import translated
from embedspace.catalog.store.store import Store
from embedspace.errors import InputError
from embedspace.files import replacing

__all__ = ["export"]


def export(store: Store, path: Path) -> int:
    """Write every segment with its vector, atomically.

    Args:
        store: The rows of an open catalog.
        path: A .parquet, .npz or .jsonl file.

    Returns:
        Number of segments written.

    Raises:
        InputError: If the suffix is another.
        MissingExtraError: If it is parquet and pyarrow is not installed.
        StorageFullError: If the disk is full.
    """
    writers: dict[str, Callable[[Store, Path], int]] = {".parquet": _parquet, ".npz": _npz, ".jsonl": _jsonl}
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise InputError(
            f"{path}: cannot export to {path.suffix or '(no suffix)'!r}; known: {', '.join(writers)}, .lance"
        )
    with translated(path, "export to it"), replacing(path) as partial:
        return writer(store, partial)


def _origin(store: Store) -> Origin:
    return Origin(store.embed_dim, store.fingerprints(), str(store.meta("calibration") or ""))


def _parquet(store: Store, path: Path) -> int:
    pa, pq = pyarrow_for(path)
    types = {"start": pa.float64(), "end": pa.float64()}
    fields = [(name, types.get(name, pa.string())) for name in EXPORTED]
    said = {KEY: _origin(store).to_json()}
    schema = pa.schema([*fields, ("vector", pa.list_(pa.float32(), store.embed_dim))], said)
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for rows, vectors in segment_pages(store):
            columns = [
                pa.array(column, field[1]) for column, field in zip(zip(*rows, strict=True), fields, strict=True)
            ]
            flat = pa.array(vectors.reshape(-1), pa.float32())
            columns.append(pa.FixedSizeListArray.from_arrays(flat, store.embed_dim))
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            count += len(rows)
    return count


def _jsonl(store: Store, path: Path) -> int:
    count, first = 0, True
    with path.open("w", encoding="utf-8") as file:
        for rows, vectors in segment_pages(store):
            for row, vector in zip(rows, vectors, strict=True):
                line = dict(zip(EXPORTED, row, strict=True))
                line["metadata"] = json.loads(line["metadata"])
                line["vector"] = [float(f"{value:.6g}") for value in vector.tolist()]
                if first:
                    line[KEY] = json.loads(_origin(store).to_json())
                    first = False
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += len(rows)
    return count


def _npz(store: Store, path: Path) -> int:
    count = count_segments(store)
    rows: list[tuple[Any, ...]] = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("vectors.npy", "w", force_zip64=True) as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (count, store.embed_dim)}
            np.lib.format.write_array_header_2_0(file, header)
            for page, vectors in segment_pages(store):
                file.write(vectors.astype("<f4").tobytes())
                rows.extend((row[0], row[1] or "", row[3], row[7], row[4], row[5]) for row in page)
        names = ("ids", "uris", "modalities", "labels", "starts", "ends")
        columns = list(zip(*rows, strict=True)) or [()] * len(names)
        for name, column in zip(names, columns, strict=True):
            numbers = name in ("starts", "ends")
            array = np.asarray(column, np.float64) if numbers else np.asarray(column, np.str_)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    return count
