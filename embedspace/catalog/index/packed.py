"""All vectors of a catalog in one memory-mapped file, derived from SQLite, so that a cold search reads no blobs.

Layout: magic, length of the header, a JSON header, then for every modality four arrays, each aligned to 64 bytes:
sequence numbers (N,) int64, item numbers (N,) int64, content ids (N, 2) uint64 and vectors (N, embed_dim) float16.
The header says which catalog, up to which sequence number and after how many deletions it was written. A file that is
missing, damaged or of another catalog is ignored and written again.
"""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.store.store import Store
from embedspace.catalog.store.vectors import SegmentRows, modality_counts, segment_batches
from embedspace.errors import CatalogError
from embedspace.files import replacing

__all__ = ["PACKED", "Packed", "load_packed", "write_packed"]

PACKED = "vectors.packed"
_MAGIC = b"EMBSPACK"
_ALIGN = 64
_CHECKED_BYTES = 32 << 20
"""Checksums of larger arrays are left to `verify`: a cold search has no time for them."""


@dataclass(frozen=True, slots=True)
class Packed:
    """What a packed file holds, and the state of the catalog that it was written at."""

    embed_dim: int
    last_seq: int
    deletions: int
    rows: dict[str, SegmentRows]


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGN) * _ALIGN


def _layout(counts: dict[str, int], embed_dim: int) -> tuple[dict[str, dict[str, int]], int]:
    """Return modality -> array -> offset from the start of the arrays, and the end of the last one."""
    offset, layout = 0, {}
    for modality, count in counts.items():
        arrays = {"rows": count}
        for name, width in (("seq", 8), ("item", 8), ("key", 16), ("vectors", 2 * embed_dim)):
            arrays[name] = _aligned(offset)
            offset = arrays[name] + count * width
        layout[modality] = arrays
    return layout, offset


def write_packed(store: Store) -> bool:
    """Write the packed file, atomically; returns whether that was possible (it is not on a read-only medium)."""
    try:
        with replacing(store.folder / PACKED) as partial, partial.open("wb") as file:
            with store.snapshot("read its vectors"):  # the counts and the rows are of one moment
                _write(store, file)
    except (OSError, CatalogError):  # derived: a search does without it
        return False
    return True


def _write(store: Store, file: BinaryIO) -> None:
    _, last_seq, deletions = store.state()
    counts = modality_counts(store)
    layout, size = _layout(counts, store.embed_dim)
    header: dict[str, Any] = {
        "catalog": store.catalog_id,
        "embed_dim": store.embed_dim,
        "last_seq": last_seq,
        "deletions": deletions,
        "modalities": layout,
        "size": size,
        "crc": {modality: "0" * 8 for modality in layout},
    }
    start = _aligned(len(_MAGIC) + 8 + len(json.dumps(header)))
    for modality, arrays in layout.items():
        crc, row = 0, 0
        for batch in segment_batches(store, modality):
            for name, width in (("seq", 8), ("item", 8), ("key", 16), ("vectors", 2 * store.embed_dim)):
                block = np.ascontiguousarray(getattr(batch, name)).tobytes()
                file.seek(start + arrays[name] + row * width)
                file.write(block)
                crc = zlib.crc32(block, crc)
            row += len(batch.seq)
        header["crc"][modality] = f"{crc:08x}"
    file.truncate(start + size)
    file.seek(0)
    text = json.dumps(header).encode()
    file.write(_MAGIC + len(text).to_bytes(8, "little") + text)


def load_packed(store: Store, *, check: bool = False) -> Packed | None:
    """Map the packed file into memory.

    Args:
        store: The catalog's rows.
        check: Compare the checksums of arrays of any size.

    Returns:
        Its arrays, or `None` where it is missing, damaged, or of another catalog; unless checked, also where its
        vectors have another length than the catalog's.
    """
    try:
        with (store.folder / PACKED).open("rb") as file:
            packed = _load(store, file, check=check)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return packed if packed is None or check or packed.embed_dim == store.embed_dim else None


def _load(store: Store, file: BinaryIO, *, check: bool) -> Packed | None:
    if file.read(len(_MAGIC)) != _MAGIC:
        return None
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(min(length, 1 << 20)))
    if header["catalog"] != store.catalog_id:
        return None
    embed_dim = int(header["embed_dim"])
    start = _aligned(len(_MAGIC) + 8 + length)
    if os.fstat(file.fileno()).st_size != start + header["size"]:
        return None
    mapped = np.memmap(file, np.uint8, mode="r")
    rows = {}
    for modality, arrays in header["modalities"].items():
        rows[modality] = _map(mapped, start, arrays, embed_dim)
        small = rows[modality].vectors.nbytes <= _CHECKED_BYTES
        if (check or small) and _checksum(rows[modality]) != header["crc"][modality]:
            return None
    return Packed(embed_dim, int(header["last_seq"]), int(header["deletions"]), rows)


def _map(mapped: NDArray[np.uint8], start: int, arrays: dict[str, int], embed_dim: int) -> SegmentRows:
    def view(name: str, dtype: str, width: int) -> NDArray[Any]:
        first = start + arrays[name]
        return np.asarray(mapped[first : first + arrays["rows"] * width]).view(dtype)

    return SegmentRows(
        view("seq", "<i8", 8),
        view("item", "<i8", 8),
        view("key", "<u8", 16).reshape(-1, 2),
        view("vectors", "<f2", 2 * embed_dim).reshape(-1, embed_dim),
    )


def _checksum(rows: SegmentRows) -> str:
    crc = 0
    for first in range(0, len(rows.seq), 8192):
        last = first + 8192
        for array in (rows.seq, rows.item, rows.key, rows.vectors):
            crc = zlib.crc32(array[first:last].tobytes(), crc)
    return f"{crc:08x}"
