"""Read TFRecords of YouTube-8M: their frames, checksums and `tf.train.Example` messages, without TensorFlow.

A record is its length (8 bytes), a checksum of that, its data, and a checksum of those; numbers are little-endian. The
data are an Example, whose features lie in a map of names, or a SequenceExample, whose context has that map.

Source: https://www.tensorflow.org/tutorials/load_data/tfrecord, "TFRecords format details"; CRC-32C: RFC 3720, B.4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import MediaError

__all__ = ["Video", "Videos", "crc32c", "masked_crc32c", "read_videos", "records_of"]

_POLYNOMIAL = 0x82F63B78
_MASK = 0xA282EAD8
_LONGEST = 1 << 28
"""Bytes of a record from which its length is taken to be damaged."""
_SIZES = {"mean_rgb": 1024, "mean_audio": 128}


def _tables() -> NDArray[np.uint32]:
    """Return (8, 256) tables: eight bytes are taken at a time (slicing by eight)."""
    tables = np.zeros((8, 256), np.uint64)
    for number in range(256):
        value = number
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        tables[0, number] = value
    for k in range(1, 8):
        tables[k] = (tables[k - 1] >> np.uint64(8)) ^ tables[0][tables[k - 1] & np.uint64(255)]
    return tables.astype(np.uint32)


_TABLES = [table.tolist() for table in _tables()]


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of bytes."""
    t0, t1, t2, t3, t4, t5, t6, t7 = _TABLES
    value, whole = 0xFFFFFFFF, len(data) // 8 * 8
    for low, high in struct.iter_unpack("<II", data[:whole]):
        low ^= value
        value = (
            t7[low & 255] ^ t6[low >> 8 & 255] ^ t5[low >> 16 & 255] ^ t4[low >> 24]
            ^ t3[high & 255] ^ t2[high >> 8 & 255] ^ t1[high >> 16 & 255] ^ t0[high >> 24]
        )  # fmt: skip
    for byte in data[whole:]:
        value = t0[(value ^ byte) & 255] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def masked_crc32c(data: bytes) -> int:
    """Return the checksum that a record holds: turned by 15 bits, and a constant added."""
    value = crc32c(data)
    return ((value >> 15 | value << 17) + _MASK) & 0xFFFFFFFF


def records_of(path: Path) -> Iterator[tuple[int, bytes | MediaError]]:
    """Yield (offset, data) of each record; in the place of data that are damaged, what is wrong with them.

    After data with a bad checksum the next record follows; after a damaged length, or a file that ends within a record,
    nothing more can be read.

    Raises:
        MediaError: If the file cannot be opened.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise MediaError(f"{path}: cannot be read: {error.strerror}") from None
    with file:
        while head := file.read(12):
            offset = file.tell() - len(head)
            if len(head) < 12:
                yield offset, MediaError(f"{path}: byte {offset:,}: ends within a record; fetch the file again")
                return
            (length, checked) = struct.unpack("<QI", head)
            if masked_crc32c(head[:8]) != checked or length > _LONGEST:
                yield (
                    offset,
                    MediaError(
                        f"{path}: byte {offset:,}: the length's checksum is wrong, the rest is lost; fetch it again"
                    ),
                )
                return
            data = file.read(length + 4)
            if len(data) < length + 4:
                yield offset, MediaError(f"{path}: byte {offset:,}: ends within a record; fetch the file again")
                return
            if masked_crc32c(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
                yield offset, MediaError(f"{path}: byte {offset:,}: the record's checksum is wrong; it is left out")
                continue
            yield offset, data[:-4]


@dataclass(frozen=True, slots=True, eq=False)
class Video:
    """One video's features.

    Attributes:
        id: Of YouTube-8M.
        visual: (1024,) float32.
        audio: (128,) float32.
        labels: Numbers of what it is about.
    """

    id: str
    visual: NDArray[np.float32]
    audio: NDArray[np.float32]
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Videos:
    """What some files hold.

    Attributes:
        rows: The videos, in order.
        skipped: A line for each record that was left out.
    """

    rows: list[Video]
    skipped: list[str]


def read_videos(paths: list[Path]) -> Videos:
    """Read video-level features; records that are damaged or lack a feature are left out, and said."""
    rows: list[Video] = []
    skipped: list[str] = []
    for path in paths:
        try:
            for offset, data in records_of(path):
                try:
                    if isinstance(data, MediaError):
                        raise data
                    rows.append(_video(data, f"{path}: byte {offset:,}"))
                except MediaError as error:
                    skipped.append(str(error))
        except MediaError as error:
            skipped.append(str(error))
    return Videos(rows, skipped)


def _video(data: bytes, where: str) -> Video:
    try:
        features: dict[str, list[Any]] = {}
        for number, whole in _fields(data):
            if number == 1 and isinstance(whole, bytes):  # Example.features, or SequenceExample.context
                features |= dict(_entry(one) for at, one in _fields(whole) if at == 1 and isinstance(one, bytes))
    except (IndexError, ValueError, struct.error) as error:
        raise MediaError(f"{where}: no Example of TensorFlow in it ({error}); name files of YouTube-8M") from None
    found = {}
    for name, size in _SIZES.items():
        values = np.asarray(features.get(name, ()), np.float32)
        if values.shape != (size,) or not np.isfinite(values).all():
            has = ", ".join(sorted(features)) or "nothing"
            raise MediaError(
                f"{where}: {name} must be {size} finite numbers, it is {len(values)}; the record has {has}: "
                "use the video-level features"
            )
        found[name] = values
    name = features.get("id", features.get("video_id", [b""]))[0]
    labels = tuple(int(label) for label in features.get("labels", ()))
    return Video(name.decode("utf-8", "replace"), found["mean_rgb"], found["mean_audio"], labels)


def _entry(data: bytes) -> tuple[str, list[Any]]:
    """Return name and values of an entry of the map of features."""
    name = ""
    values: list[Any] = []
    for number, value in _fields(data):
        assert isinstance(value, bytes)
        if number == 1:
            name = value.decode()
        else:
            for kind, held in _fields(value):
                assert isinstance(held, bytes)
                values = _values(kind, held)
    return name, values


def _values(kind: int, data: bytes) -> list[Any]:
    """Return the values of a BytesList (1), FloatList (2) or Int64List (3), packed or not."""
    values: list[Any] = []
    for _, value in _fields(data):
        if kind == 1:
            values.append(value)
        elif kind == 2:
            assert isinstance(value, bytes)
            values += np.frombuffer(value, "<f4").tolist()
        elif isinstance(value, bytes):
            at = 0
            while at < len(value):
                one, at = _varint(value, at)
                values.append(one)
        else:
            values.append(value)
    return values


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yield number and value of each field of a message: an integer, or bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"field of unknown kind {wire}")
        if at + size > len(data):
            raise ValueError("a field is longer than its message")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
