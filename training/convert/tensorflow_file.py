"""Read the tensors of a TensorFlow checkpoint ("tensor bundle") without TensorFlow.

Source: tensorflow/core/protobuf/tensor_bundle.proto; the index is a table of LevelDB's format
(https://github.com/google/leveldb/blob/main/doc/table_format.md), written without compression.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import torch

from embedspace.errors import InputError

__all__ = ["read_bundle"]

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_FLOAT = 1  # DT_FLOAT of types.proto


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a base-128 integer and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _block(data: bytes, handle: bytes) -> bytes:
    """Return the block that a handle, its place and size, points to."""
    offset, at = _varint(handle, 0)
    size, _ = _varint(handle, at)
    if data[offset + size]:
        raise InputError("tensor bundle: the index is compressed, which TensorFlow does not do")
    return data[offset : offset + size]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value; keys are stored as what differs from the key before."""
    (restarts,) = struct.unpack("<I", block[-4:])
    end, at, key = len(block) - 4 * (restarts + 1), 0, b""
    while at < end:
        shared, at = _varint(block, at)
        fresh, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + fresh]
        yield key, block[at + fresh : at + fresh + length]
        at += fresh + length


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of a protocol buffer's fields."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag & 7 == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
        elif tag & 7 == 2:
            size, at = _varint(message, at)
            yield tag >> 3, message[at : at + size]
            at += size
        elif tag & 7 == 5:
            at += 4  # a checksum; the package's own covers it
        else:
            raise InputError(f"tensor bundle: a field of wire type {tag & 7}, which entries do not have")


def _shape(message: bytes) -> list[int]:
    dims = [value for number, value in _fields(message) if number == 2 and isinstance(value, bytes)]
    return [next((int(v) for number, v in _fields(dim) if number == 1 and isinstance(v, int)), 0) for dim in dims]


def read_bundle(index: bytes, data: bytes) -> dict[str, torch.Tensor]:
    """Return name -> float32 tensor of a checkpoint's one shard; other types are left out.

    Args:
        index: Content of `variables.index`.
        data: Content of `variables.data-00000-of-00001`.

    Raises:
        InputError: If the index is no table of LevelDB's format.
    """
    if len(index) < _FOOTER or struct.unpack("<Q", index[-8:])[0] != _MAGIC:
        raise InputError("tensor bundle: the index is no LevelDB table; is it variables.index?")
    footer = index[-_FOOTER:]
    _, at = _varint(footer, 0)
    _, at = _varint(footer, at)  # the first handle is of the table's metadata
    found = {}
    for _, handle in _entries(_block(index, footer[at:])):
        for key, value in _entries(_block(index, handle)):
            entry = dict(_fields(value))
            if key and entry.get(1) == _FLOAT:
                start, length, shape = int(entry.get(4, 0)), int(entry.get(5, 0)), entry.get(2, b"")
                rows = np.frombuffer(data, "<f4", length // 4, start).reshape(_shape(bytes(shape)))
                found[key.decode()] = torch.from_numpy(rows.copy())
    return found
