"""One file of packed vectors, derived from SQLite: it never changes, and is mapped into memory.

Layout: magic, length of the header, a JSON header, then for every modality four arrays, each aligned to 64 bytes:
sequence numbers (N,) int64, item numbers (N,) int64, content ids (N, 2) uint64 and vectors (N, embed_dim) float16.
The header says which catalog, up to which sequence number and after how many deletions it was written. A file that is
missing, damaged or of another catalog is ignored and written again.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.store.vectors import SegmentRows
from embedspace.files import replacing

__all__ = ["Packed", "PackedFacts", "load_packed", "write_packed"]

_MAGIC = b"EMBSPACK"
_ALIGN = 64


@dataclass(frozen=True, slots=True)
class PackedFacts:
    """Of which catalog, and of which state of it, a packed file is.

    Attributes:
        catalog: Id of the catalog.
        embed_dim: Length of its vectors.
        last_seq: The highest segment number that had been given.
        deletions: How many segments had been deleted.
    """

    catalog: str
    embed_dim: int
    last_seq: int
    deletions: int


@dataclass(frozen=True, slots=True)
class Packed:
    """What a packed file holds.

    Attributes:
        facts: What it is of.
        rows: Modality -> its segments, mapped into memory.
        checksums: Modality -> checksum of its arrays, in hex, as the header has it.
    """

    facts: PackedFacts
    rows: dict[str, SegmentRows]
    checksums: dict[str, str]

    @property
    def count(self) -> int:
        """How many segments it holds."""
        return sum(len(rows) for rows in self.rows.values())

    def sound(self, modality: str) -> bool:
        """Return whether the arrays of a modality are as they were written."""
        crc = 0
        for array in _arrays(self.rows[modality]):
            crc = zlib.crc32(array, crc)
        return f"{crc:08x}" == self.checksums[modality]


def _arrays(rows: SegmentRows) -> Iterable[bytes]:
    for first in range(0, len(rows.seq), 8192):
        last = first + 8192
        for array in (rows.seq, rows.item, rows.key, rows.vectors):
            yield array[first:last].tobytes()


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGN) * _ALIGN


def _layout(counts: Mapping[str, int], embed_dim: int) -> tuple[dict[str, dict[str, int]], int]:
    """Return modality -> array -> offset from the start of the arrays, and the end of the last one."""
    offset, layout = 0, {}
    for modality, count in counts.items():
        arrays = {"rows": count}
        for name, width in (("seq", 8), ("item", 8), ("key", 16), ("vectors", 2 * embed_dim)):
            arrays[name] = _aligned(offset)
            offset = arrays[name] + count * width
        layout[modality] = arrays
    return layout, offset


def write_packed(
    path: Path, facts: PackedFacts, counts: Mapping[str, int], rows: Mapping[str, Iterable[SegmentRows]]
) -> None:
    """Write a packed file, whole or not at all.

    Args:
        path: The file.
        facts: What it is of.
        counts: Modality -> number of its segments.
        rows: Modality -> as many segments in batches of 8192, the last one smaller; read once, in that order.

    Raises:
        OSError: If it cannot be written.
    """
    with replacing(path) as partial, partial.open("wb") as file:
        _write(file, facts, counts, rows)


def _write(
    file: BinaryIO, facts: PackedFacts, counts: Mapping[str, int], rows: Mapping[str, Iterable[SegmentRows]]
) -> None:
    layout, size = _layout(counts, facts.embed_dim)
    header: dict[str, Any] = {
        "catalog": facts.catalog,
        "embed_dim": facts.embed_dim,
        "last_seq": facts.last_seq,
        "deletions": facts.deletions,
        "modalities": layout,
        "size": size,
        "crc": {modality: "0" * 8 for modality in layout},
    }
    start = _aligned(len(_MAGIC) + 8 + len(json.dumps(header)))
    for modality, arrays in layout.items():
        crc, row = 0, 0
        for batch in rows[modality]:
            for name, width in (("seq", 8), ("item", 8), ("key", 16), ("vectors", 2 * facts.embed_dim)):
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


def load_packed(path: Path, catalog_id: str) -> Packed | None:
    """Map a packed file into memory.

    Returns:
        What it holds, or `None` where it is missing, damaged, or of another catalog; the arrays are not checked.
    """
    try:
        with path.open("rb") as file:
            return _load(file, catalog_id)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _load(file: BinaryIO, catalog_id: str) -> Packed | None:
    if file.read(len(_MAGIC)) != _MAGIC:
        return None
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(min(length, 1 << 20)))
    if header["catalog"] != catalog_id:
        return None
    embed_dim = int(header["embed_dim"])
    start = _aligned(len(_MAGIC) + 8 + length)
    if os.fstat(file.fileno()).st_size != start + header["size"]:
        return None
    mapped = np.memmap(file, np.uint8, mode="r")
    rows = {modality: _map(mapped, start, arrays, embed_dim) for modality, arrays in header["modalities"].items()}
    facts = PackedFacts(catalog_id, embed_dim, int(header["last_seq"]), int(header["deletions"]))
    return Packed(facts, rows, {modality: str(header["crc"][modality]) for modality in rows})


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
