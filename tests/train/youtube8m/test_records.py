"""Records are read as TensorFlow writes them, checksums are checked, and one bad record harms no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embedspace.train.align.youtube8m.records import crc32c, read_videos
from tests.support.youtube8m import example, record


def _rows(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        (rng.standard_normal(1024).astype(np.float32), rng.standard_normal(128).astype(np.float32))
        for _ in range(count)
    ]


def test_checksums_are_those_of_the_standard() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    assert crc32c(bytes([255] * 32)) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


def test_examples_are_read_packed_and_not(tmp_path: Path) -> None:
    rows = _rows(3)
    path = tmp_path / "train00.tfrecord"
    path.write_bytes(b"".join(record(example(f"v{k}", *row)) for k, row in enumerate(rows)))
    found = read_videos([path])
    assert found.skipped == [] and [video.id for video in found.rows] == ["v0", "v1", "v2"]
    for video, (visual, audio) in zip(found.rows, rows, strict=True):
        assert np.array_equal(video.visual, visual) and np.array_equal(video.audio, audio)
        assert video.labels == (3, 700)


@pytest.mark.parametrize("at", ["data", "length", "end", "features", "kind"])
def test_what_is_damaged_is_named_and_the_rest_is_read(at: str, tmp_path: Path) -> None:
    rows = _rows(3)
    records = [record(example(f"v{k}", *row)) for k, row in enumerate(rows)]
    second = bytearray(records[1])
    kept = ["v0", "v2"]
    if at == "data":
        second[500] ^= 1
        part = "the record's checksum is wrong"
    elif at == "length":
        second[2] ^= 1
        part, kept = "the length's checksum is wrong", ["v0"]
    elif at == "features":
        second = bytearray(record(example("v1", rows[1][0][:1000], rows[1][1])))
        part = "mean_rgb must be 1024 finite numbers, it is 1000"
    elif at == "kind":
        second = bytearray(record(b"\x0f no message"))
        part = "no Example of TensorFlow"
    path, other = tmp_path / "a.tfrecord", tmp_path / "b.tfrecord"
    if at == "end":
        path.write_bytes(records[0] + records[1][:-7])
        part, kept = "ends within a record", ["v0"]
    else:
        path.write_bytes(records[0] + bytes(second) + records[2])
    other.write_bytes(records[0])
    found = read_videos([path, other, tmp_path / "none.tfrecord"])
    assert [video.id for video in found.rows] == [*kept, "v0"]
    assert len(found.skipped) == 2 and "cannot be read" in found.skipped[1]
    assert part in found.skipped[0] and f"{path}: byte {len(records[0]):,}" in found.skipped[0]
