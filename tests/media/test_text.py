from __future__ import annotations

from pathlib import Path

import pytest

from embedspace.errors import EmptyMediaError, MediaError, MediaTooLargeError
from embedspace.media.text import read_text

GREETING = "Grüße, мир, 世界\nsecond line\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_read_text_unicode_with_and_without_mark(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(GREETING.encode(encoding))
    assert read_text(path) == GREETING


def test_read_text_big_endian_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xfe\xff" + GREETING.encode("utf-16-be"))
    assert read_text(path) == GREETING


def test_read_text_unifies_newlines(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\r\ntwo\rthree\n")
    assert read_text(path) == "one\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("Café".encode("latin-1"), MediaError, r"not UTF-8 at byte 3 \(0xe9.*iconv"),
        (b"\x81\x82\x83" * 9, MediaError, "not UTF-8 at byte 0"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", MediaError, "binary data"),
        ("plain".encode("utf-16-le"), MediaError, "NUL at byte 1"),
        (b"\xff\xfea\0b", MediaError, "utf-16.* broken at byte"),
        (b"", EmptyMediaError, "0 bytes"),
        (b" \n\t\n", EmptyMediaError, "no words"),
    ],
)
def test_read_text_wrong_encoding_is_one_clear_error(
    content: bytes, error: type[MediaError], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(error, match=rf"bad\.txt: .*{message}") as caught:
        read_text(path)
    assert "\n" not in str(caught.value)


def test_read_text_limits_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    path.write_text("word " * 100)
    with pytest.raises(MediaTooLargeError, match=r"more than 400 bytes"):
        read_text(path, max_bytes=400)
    assert len(read_text(path, max_bytes=500)) == 500
    with pytest.raises(MediaError, match="no such file"):
        read_text(tmp_path / "missing.txt")
    with pytest.raises(MediaError, match="cannot be looked at"):
        read_text("nul\0byte.txt")
