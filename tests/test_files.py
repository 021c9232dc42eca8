"""Files are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedspace.files import replacing, write_text


def test_replacing_a_file_when_all_of_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old" and partial.suffix == ".txt"
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_replacing_a_file_that_could_not_be_written(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="No space"), replacing(path) as partial:
        partial.write_text("half of the n")
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_text_is_written_whole_in_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "né\n")
    assert (tmp_path / "a.txt").read_bytes() == b"n\xc3\xa9\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
