"""Records of YouTube-8M as TensorFlow writes them, for tests."""

from __future__ import annotations

import struct

import numpy as np

from embedspace.train.align.youtube8m.records import masked_crc32c

__all__ = ["example", "record"]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _feature(name: str, kind: int, values: bytes) -> bytes:
    return _field(1, _field(1, name.encode()) + _field(2, _field(kind, values)))


def example(name: str, visual: np.ndarray, audio: np.ndarray, labels: tuple[int, ...] = (3, 700)) -> bytes:
    """Return an Example with a video's features."""
    features = (
        _feature("id", 1, _field(1, name.encode()))
        + _feature("labels", 3, _field(1, b"".join(map(_varint, labels))))
        + _feature("mean_rgb", 2, _field(1, visual.astype("<f4").tobytes()))
        + _feature("mean_audio", 2, b"".join(b"\x0d" + struct.pack("<f", x) for x in audio))  # not packed
    )
    return _field(1, features)


def record(data: bytes) -> bytes:
    """Return data as a record of a file."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))
