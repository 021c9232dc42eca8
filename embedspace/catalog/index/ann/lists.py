"""An IVF index as one file that never changes and is mapped into memory: cells are read when a search visits them.

Layout: magic, length of the header, a JSON header, then, each aligned to 64 bytes, the trained index without vectors as
FAISS writes it, (cells,) int64 vectors of each cell, and the cells: codes in whole blocks, then as many int64 sequence
numbers. Opening checks all but the cells; what is wrong in those makes poor candidates, and `verify` finds it.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.index.ann.built import block_of
from embedspace.files import replacing

__all__ = ["MAGIC", "load_lists", "read_header", "sound_lists", "write_lists"]

MAGIC = b"EMBSIVF1"
_ALIGN = 64
_CHUNK = 1 << 22


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGN) * _ALIGN


def _crc(shell: NDArray[np.uint8], sizes: NDArray[np.int64]) -> int:
    return zlib.crc32(sizes.data, zlib.crc32(shell.data))


def write_lists(path: Path, index: Any, shell: NDArray[np.uint8], facts: dict[str, Any]) -> None:  # noqa: ANN401
    """Write an index, whole or not at all.

    Args:
        path: The file.
        index: A FAISS IVF index on the CPU.
        shell: The same index without vectors, as FAISS writes it.
        facts: What else the header says.

    Raises:
        OSError: If it cannot be written.
    """
    lists = index.invlists
    sizes = np.asarray([lists.list_size(number) for number in range(index.nlist)], np.int64)
    width, block = int(index.code_size), block_of(index)
    padded = -(-sizes // block) * block
    head = _crc(shell, sizes)
    header = {**facts, "cells": int(index.nlist), "width": width, "block": block, "shell": len(shell), "head_crc": head}
    header |= {"lists": _aligned(len(shell)) + _aligned(8 * index.nlist), "lists_crc": 0, "size_of_file": 0}
    start = _aligned(len(MAGIC) + 8 + len(json.dumps(header)) + 64)
    header["size_of_file"] = start + header["lists"] + int(padded.sum()) * (width + 8)
    with replacing(path) as partial, partial.open("wb") as file:
        file.seek(start)
        file.write(shell.tobytes())
        file.seek(start + _aligned(len(shell)))
        file.write(sizes.tobytes())
        file.seek(start + header["lists"])
        header["lists_crc"] = _write_cells(file, lists, sizes, padded, width)
        file.truncate(header["size_of_file"])
        file.seek(0)
        file.write(MAGIC + (start - len(MAGIC) - 8).to_bytes(8, "little"))
        file.write(json.dumps(header).encode().ljust(start - len(MAGIC) - 8))


def _write_cells(file: BinaryIO, lists: Any, sizes: NDArray[np.int64], padded: NDArray[np.int64], width: int) -> int:  # noqa: ANN401
    faiss: Any = importlib.import_module("faiss")
    crc = 0
    for number, (size, room) in enumerate(zip(sizes.tolist(), padded.tolist(), strict=True)):
        if not size:
            continue
        codes = faiss.rev_swig_ptr(lists.get_codes(number), room * width).tobytes()
        seq = faiss.rev_swig_ptr(lists.get_ids(number), size).tobytes().ljust(room * 8, b"\xff")
        file.write(codes)
        file.write(seq)
        crc = zlib.crc32(seq, zlib.crc32(codes, crc))
    return crc


def read_header(path: Path) -> tuple[dict[str, Any], int] | None:
    """Return the header of an index file and where its arrays begin; `None` where it is none, or cut off."""
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                return None
            length = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(min(length, 1 << 16)))
            whole = os.fstat(file.fileno()).st_size == header["size_of_file"]
        return (header, len(MAGIC) + 8 + length) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def load_lists(path: Path) -> tuple[Any, NDArray[np.uint8], dict[str, Any]] | None:
    """Map an index file into memory.

    Returns:
        The FAISS index, its shell and the header; `None` where the file is missing or damaged.
    """
    found = read_header(path)
    if found is None:
        return None
    header, start = found
    try:
        mapped = np.memmap(path, np.uint8, mode="r")
        shell = mapped[start : start + header["shell"]]
        first = start + _aligned(header["shell"])
        sizes = np.asarray(mapped[first : first + 8 * header["cells"]]).view(np.int64)
        if _crc(shell, sizes) != header["head_crc"]:
            return None
        return _opened(path, shell, sizes, header, start + header["lists"]), shell, header
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        return None


def _opened(path: Path, shell: NDArray[np.uint8], sizes: NDArray[np.int64], header: dict[str, Any], offset: int) -> Any:  # noqa: ANN401
    faiss: Any = importlib.import_module("faiss")

    index = _trained(shell)
    lists = faiss.OnDiskInvertedLists()
    lists.nlist, lists.code_size = header["cells"], header["width"]
    room = -(-sizes // header["block"]) * header["block"]
    offsets = offset + np.concatenate([[0], np.cumsum(room * (header["width"] + 8))])
    if int(offsets[-1]) != header["size_of_file"] or int(sizes.min(initial=0)) < 0:
        raise ValueError("cells of another size")
    cells = np.stack([sizes, room, offsets[:-1]], axis=1).astype(np.uint64)  # as the struct OnDiskOneList has them
    lists.lists.resize(len(cells))
    ctypes.memmove(int(lists.lists.data().this), cells.ctypes.data, cells.nbytes)
    lists.filename, lists.read_only, lists.totsize = str(path), True, header["size_of_file"]
    lists.prefetch_nthread = 0  # else every search starts 32 threads, which takes longer than the search
    lists.do_mmap()
    index.replace_invlists(lists, True)
    lists.this.disown()
    index.ntotal = int(sizes.sum())
    return index


def _trained(shell: NDArray[np.uint8]) -> Any:  # noqa: ANN401
    """Return an index without vectors, whose centres stay where they are mapped if FAISS can do that (since 1.11)."""
    faiss: Any = importlib.import_module("faiss")

    if not hasattr(faiss, "ZeroCopyIOReader"):
        return faiss.deserialize_index(np.array(shell))
    index = faiss.read_index(faiss.ZeroCopyIOReader(faiss.swig_ptr(shell), len(shell)))
    index.referenced_objects = [shell]  # their memory stays as long as the index
    return index


def sound_lists(path: Path) -> bool:
    """Return whether an index file is as it was written, its cells included."""
    found = read_header(path)
    if found is None or load_lists(path) is None:
        return False
    header, start = found
    crc = 0
    with path.open("rb") as file:
        file.seek(start + header["lists"])
        while block := file.read(_CHUNK):
            crc = zlib.crc32(block, crc)
    return crc == int(header["lists_crc"])
