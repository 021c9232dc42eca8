"""Checkpoints of TensorFlow, written by hand: a table in LevelDB's format and a file of values."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from embedspace.errors import InputError
from training.convert.tensorflow_file import read_bundle

DT_FLOAT, DT_INT64 = 1, 9


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def entry(dtype: int, shape: Sequence[int], offset: int, size: int) -> bytes:
    """A BundleEntryProto; like protocol buffers it leaves out what is zero."""
    dims = b"".join(field(2, field(1, side)) for side in shape)
    at = field(4, offset) if offset else b""
    checksum = varint(6 << 3 | 5) + b"\xde\xad\xbe\xef"
    return field(1, dtype) + field(2, dims) + at + field(5, size) + checksum


def block(entries: Sequence[tuple[bytes, bytes]], restart: int = 16) -> bytes:
    """A block of a table; each key but every `restart`-th is stored as what differs from the one before."""
    out, restarts, before = b"", [0], b""
    for count, (key, value) in enumerate(entries):
        if count and count % restart == 0:
            restarts.append(len(out))
            before = b""
        shared = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(key, before, strict=False))))
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    return out + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def table(blocks: Sequence[bytes], kind: int = 0) -> bytes:
    """A table of data blocks; every block is followed by its kind of compression and a checksum."""
    out, handles = b"", []
    for content in blocks:
        handles.append(varint(len(out)) + varint(len(content)))
        out += content + bytes([kind]) + b"\0" * 4
    ends = []
    for content in (block([]), block([(b"k%03d" % k, handle) for k, handle in enumerate(handles)])):
        ends.append(varint(len(out)) + varint(len(content)))
        out += content + bytes(5)
    return out + b"".join(ends).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def bundle(tensors: dict[str, NDArray[np.generic]]) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The entries of the index, in order, and the file of values."""
    entries, data = [(b"", field(1, 1))], b""  # under no name lies the header: one shard
    for name in sorted(tensors):
        values = tensors[name]
        kind = DT_FLOAT if values.dtype == np.float32 else DT_INT64
        entries.append((name.encode(), entry(kind, values.shape, len(data), values.nbytes)))
        data += values.tobytes()
    return entries, data


@pytest.fixture
def tensors() -> dict[str, NDArray[np.generic]]:
    rng = np.random.default_rng(0)
    shapes = {"layer-1/bias": (5,), "layer-1/kernel": (3, 3, 1, 40), "layer-10/kernel": (200, 2), "layer-10/scale": ()}
    made = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return {**made, "save_counter": np.array([7])}


@pytest.mark.parametrize(("restart", "per_block"), [(16, 99), (2, 99), (16, 2), (1, 1)])
def test_read_bundle_gives_the_float_tensors_however_the_index_is_cut(
    tensors: dict[str, NDArray[np.generic]], restart: int, per_block: int
) -> None:
    entries, data = bundle(tensors)
    blocks = [block(entries[k : k + per_block], restart) for k in range(0, len(entries), per_block)]
    found = read_bundle(table(blocks), data)
    assert set(found) == set(tensors) - {"save_counter"}
    for name, tensor in found.items():
        assert tensor.dtype == torch.float32
        assert tensor.shape == tensors[name].shape
        np.testing.assert_array_equal(tensor.numpy(), tensors[name])
    found["layer-1/bias"].zero_()  # a copy, which may be written to


def test_read_bundle_needs_the_shared_prefixes_of_keys(tensors: dict[str, NDArray[np.generic]]) -> None:
    entries, _ = bundle(tensors)
    assert b"layer-10/kernel" not in block(entries)
    assert b"0/kernel" in block(entries)


def test_read_bundle_refuses_what_is_no_index(tensors: dict[str, NDArray[np.generic]]) -> None:
    entries, data = bundle(tensors)
    index = table([block(entries)])
    for wrong in (b"", index[-40:], index[:-1], data, index[:-8] + bytes(8)):
        with pytest.raises(InputError, match=r"no LevelDB table; is it variables\.index"):
            read_bundle(wrong, data)


def test_read_bundle_refuses_compression_and_unknown_fields(tensors: dict[str, NDArray[np.generic]]) -> None:
    entries, data = bundle(tensors)
    with pytest.raises(InputError, match="compressed"):
        read_bundle(table([block(entries)], kind=1), data)
    with pytest.raises(InputError, match="wire type 1"):
        read_bundle(table([block([(b"x", varint(4 << 3 | 1) + bytes(8))])]), data)
