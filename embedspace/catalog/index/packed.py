"""One file of packed vectors, derived from SQLite: it never changes, and is mapped into memory.

Layout: magic, length of the header, a JSON header, then for every modality four arrays, each aligned to 64 bytes:
sequence numbers (N,) int64, item numbers (N,) int64, content ids (N, 2) uint64 and vectors (N, embed_dim) float16.
Of a large modality a copy of the items that a sample may draw follows, side by side: a first search reads 3 MB rather
than 4,096 pages all over the file. The header says which catalog, up to which sequence number and after how many
deletions it was written. A file that is missing, damaged or of another catalog is ignored and written again.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.index.sampling.drawn import DRAWN, Drawn, DrawnRows, draw, item_starts, scattered, spans_rows
from embedspace.catalog.store.vectors import SegmentRows
from embedspace.files import replacing

__all__ = ["Packed", "PackedFacts", "load_packed", "write_packed"]

_MAGIC = b"EMBSPACK"
_ALIGN = 64
_DRAWN_ABOVE = 65_536
"""Of fewer rows nothing is copied: they are read soon enough."""
_LONGEST = 10**15
"""A number as long as any in the header, so that its place is known before what it says."""


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
        items: Modality -> number of its items, where the header says so.
        drawn: Modality -> what a sample may draw, where that was copied.
        drawn_checksums: Modality -> checksum of these copies.
    """

    facts: PackedFacts
    rows: dict[str, SegmentRows]
    checksums: dict[str, str]
    items: dict[str, int] = field(default_factory=dict)
    drawn: dict[str, Drawn] = field(default_factory=dict)
    drawn_checksums: dict[str, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many segments it holds."""
        return sum(len(rows) for rows in self.rows.values())

    def sound(self, modality: str) -> bool:
        """Return whether the arrays of a modality are as they were written."""
        crc = 0
        for array in _arrays(self.rows[modality]):
            crc = zlib.crc32(array, crc)
        if modality in self.drawn and _drawn_crc(self.drawn[modality]) != self.drawn_checksums[modality]:
            return False
        return f"{crc:08x}" == self.checksums[modality]


def _drawn_crc(drawn: Drawn) -> str:
    crc = 0
    for array in _drawn_arrays(drawn):
        crc = zlib.crc32(array, crc)
    return f"{crc:08x}"


def _drawn_arrays(drawn: Drawn) -> list[bytes]:
    rows = drawn.rows
    assert rows is not None
    return [array.tobytes() for array in (drawn.low, drawn.high, rows.seq, rows.item, rows.vectors)]


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
    with replacing(path) as partial, partial.open("w+b") as file:
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
        "items": dict.fromkeys(layout, _LONGEST),
        "drawn": {
            modality: {"offset": _LONGEST, "items": _LONGEST, "rows": _LONGEST, "bound": "0" * 16, "crc": "0" * 8}
            for modality, arrays in layout.items()
            if arrays["rows"] > _DRAWN_ABOVE
        },
    }
    room = len(json.dumps(header))
    start = _aligned(len(_MAGIC) + 8 + room)
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
    header["size"] = _write_drawn(file, header, start, size) if size else size
    file.seek(0)
    file.write(_MAGIC + room.to_bytes(8, "little") + json.dumps(header).encode().ljust(room))


def _write_drawn(file: BinaryIO, header: dict[str, Any], start: int, size: int) -> int:
    """Append what samples may draw, say so in the header, and return the size of all arrays."""
    file.flush()
    mapped = np.memmap(file, np.uint8, mode="r")
    for modality, arrays in header["modalities"].items():
        rows = _map(mapped, start, arrays, header["embed_dim"])
        starts = item_starts(rows.item)
        header["items"][modality] = len(starts)
        if modality not in header["drawn"]:
            continue
        drawn = draw(rows.item, starts, DRAWN)
        some = spans_rows(drawn.low, drawn.high)
        copies = DrawnRows(rows.seq[some], rows.item[some], rows.vectors[some])
        size = _aligned(size)
        file.seek(start + size)
        blocks = _drawn_arrays(replace(drawn, rows=copies))
        header["drawn"][modality] = {
            "offset": size,
            "items": len(drawn.low),
            "rows": len(some),
            "bound": f"{int(drawn.bound):016x}",
            "crc": f"{zlib.crc32(b''.join(blocks)):08x}",
        }
        file.write(b"".join(blocks))
        size = file.tell() - start
    return size


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
    drawn = {
        modality: _map_drawn(mapped[start + int(one["offset"]) :], one, rows[modality])
        for modality, one in header.get("drawn", {}).items()
    }
    checksums = {modality: str(header["crc"][modality]) for modality in rows}
    items = {modality: int(count) for modality, count in header.get("items", {}).items()}
    return Packed(facts, rows, checksums, items, drawn, {name: str(header["drawn"][name]["crc"]) for name in drawn})


def _map_drawn(mapped: NDArray[np.uint8], facts: dict[str, Any], rows: SegmentRows) -> Drawn:
    items, count, embed_dim = int(facts["items"]), int(facts["rows"]), rows.vectors.shape[1]
    numbers = np.asarray(mapped[: 16 * (items + count)]).view("<i8")
    low, high, seq, item = np.split(numbers, [items, 2 * items, 2 * items + count])
    vectors = np.asarray(mapped[16 * (items + count) :][: 2 * embed_dim * count]).view("<f2").reshape(-1, embed_dim)
    first = np.concatenate([[0], np.cumsum(high - low)[:-1]]).astype(np.int64)
    bound = np.uint64(int(facts["bound"], 16))
    return Drawn(scattered(item[first]), low, high, bound, DrawnRows(seq, item, vectors))


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
