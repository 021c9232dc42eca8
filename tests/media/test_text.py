from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from embedspace.errors import EmptyMediaError, MediaError, MediaTooLargeError
from embedspace.media.text import passages, read_text

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


def test_passages_short_text_is_one() -> None:
    assert passages("  a barking dog ") == [(2, 15, "a barking dog")]
    assert passages(" \n ") == []


def test_passages_cover_all_words_and_overlap() -> None:
    text = " ".join(f"w{index}" for index in range(1000))
    cut = passages(text, max_words=100, overlap=10)
    assert [passage for start, end, passage in cut] == [text[start:end] for start, end, _ in cut]
    assert all(len(passage.split()) <= 100 for _, _, passage in cut)
    assert cut[1][2].split()[:10] == cut[0][2].split()[-10:]
    seen = {word for _, _, passage in cut for word in passage.split()}
    assert seen == set(text.split())
    assert cut[-1][1] == len(text)


def test_passages_prefer_sentence_ends() -> None:
    sentence = "one two three four five six seven eight nine. "
    cut = passages(sentence * 20, max_words=30, overlap=0)
    assert all(passage.endswith(".") for _, _, passage in cut)


def test_passages_scripts_without_spaces_and_endless_words() -> None:
    assert all(len(passage) <= 180 for _, _, passage in passages("世" * 1000))
    assert all(len(passage) <= 180 * 40 for _, _, passage in passages("x" * 100_000))


def test_passages_refuses_an_overlap_that_cannot_advance() -> None:
    with pytest.raises(ValueError, match="overlap"):
        passages("a b", max_words=10, overlap=5)
    assert len(passages("a b c", max_words=1, overlap=0)) == 3


def test_passages_are_shortened_until_they_fit() -> None:
    text = " ".join(f"word{k}" for k in range(300))
    found = passages(text, fits=lambda passage: len(passage.split()) <= 25)
    assert all(len(passage.split()) <= 25 for _, _, passage in found)
    assert found[0][0] == 0 and found[-1][1] == len(text)
    assert all(later[0] <= earlier[1] + 1 for earlier, later in itertools.pairwise(found))  # nothing is lost
    assert passages("one two three", fits=lambda passage: False) == [(0, 3, "one"), (4, 7, "two"), (8, 13, "three")]
    assert passages(text, fits=lambda passage: True) == passages(text)
