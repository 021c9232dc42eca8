"""Tables: whatever is in a file, each row is read or refused for itself, and nothing waits or fills the memory."""

from __future__ import annotations

import io
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from embedspace.catalog.ingest.manifests import BadRow, Row, row_of
from embedspace.catalog.ingest.tables import read_rows
from embedspace.catalog.places import is_gone, manifest_of, open_regular, row_uri
from embedspace.errors import InputError

pa = pytest.importorskip("pyarrow")


def rows(path: Path, content: str | bytes) -> list[dict[str, Any] | str]:
    """Return the rows of a table with this content; of a bad one the reason."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [row.reason if isinstance(row, BadRow) else row for row in read_rows(path)]


def test_csv_as_pandas_writes_it(tmp_path: Path) -> None:
    found = rows(tmp_path / "t.csv", ",path,caption\n0,a.png,zero\n1,b.png,one\n")
    assert found == [{"index": 0, "path": "a.png", "caption": "zero"}, {"index": 1, "path": "b.png", "caption": "one"}]
    row = row_of(found[1], 2)  # type: ignore[arg-type]
    assert row == Row("2", "b.png", metadata={"index": 1, "caption": "one"})


def test_row_with_an_unnamed_column_needs_no_id() -> None:
    assert row_of({"": "left", "text": "right"}, 7) == Row(
        "7", content="right", modality="text", metadata={"": "left", "text": "right"}
    )


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("path;caption\na.png;a, b\n", {"path": "a.png", "caption": "a, b"}),
        ("path;caption, long\na.png;x\n", {"path": "a.png", "caption, long": "x"}),
        ("path\tcaption\na.png\tx;y\n", {"path": "a.png", "caption": "x;y"}),
        ("id|text\n7|x,y;z\n", {"id": "7", "text": "x,y;z"}),
        ("sep=;\npath;n\na.png;3\n", {"path": "a.png", "n": 3}),
        ("text\na; b\n", {"text": "a; b"}),
        ('"path";"n"\n"a;b.png";"3"\n', {"path": "a;b.png", "n": 3}),
        ("path,a;b\nx.png,1\n", {"path": "x.png", "a;b": 1}),
        ("foo;bar\n1;2\n", {"foo": 1, "bar": 2}),
        ("\ufefftext,n\nx,1\n\n", {"text": "x", "n": 1}),
        ("text,n,n,\nx,1,2,3\n", {"text": "x", "n": 1, "n.1": 2, "column 4": 3}),
        ("text,n\n1.50,1.50\n", {"text": "1.50", "n": 1.5}),
        ("text,n\nx,1e999\n", {"text": "x", "n": "1e999"}),
        ("text,n\nx\n", {"text": "x", "n": ""}),
    ],
)
def test_csv_delimiters_and_names(tmp_path: Path, content: str, columns: dict[str, Any]) -> None:
    assert rows(tmp_path / "t.csv", content) == [columns]


def test_csv_bad_rows_are_refused_one_by_one(tmp_path: Path) -> None:
    assert rows(tmp_path / "t.csv", "text,n\na,1\nb,2,3\nc,4\n") == [
        {"text": "a", "n": 1}, "3 values, more than the 2 columns", {"text": "c", "n": 4}
    ]  # fmt: skip


DEEP = '{"text": "deep", "x": ' + "[" * 900 + "]" * 900 + "}"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'{"text": "a \\ud800 b"}', "\\ud800 is half of a character"),
        (b'{"\\udfff": 1, "text": "a"}', "\\udfff is half of a character"),
        (b'{"text": "a", "x": [[{"y": "\\ud800"}]]}', "\\ud800 is half of a character"),
        (DEEP.encode(), "nested deeper than 100 levels"),
        (DEEP.replace("[", '{"a":').replace("{\"a\":]", "{\"a\":1}").replace("]", "}").encode(), "nested deeper"),
        (b"[" * 100_000, "nested deeper than 100 levels"),
        (b'{"text": "caf\xe9"}', "not UTF-8 (byte 0xe9)"),
        (b'{"n": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"[1]", "not a JSON object"),
    ],
)  # fmt: skip
def test_jsonl_bad_row_spares_the_others(tmp_path: Path, bad: bytes, reason: str) -> None:
    first, second, third = rows(
        tmp_path / "t.jsonl", b'{"text": "one"}\n' + bad + b'\n{"text": "two \\ud83d\\ude00"}\n'
    )
    assert (first, third) == ({"text": "one"}, {"text": "two \U0001f600"})
    assert isinstance(second, str) and reason in second


def test_json_bad_row_spares_the_others(tmp_path: Path) -> None:
    nested = json.loads("[" * 150 + "]" * 150)
    found = rows(tmp_path / "t.json", json.dumps([{"text": "\ud800"}, {"text": "a"}, {"text": "b", "x": nested}]))
    assert [isinstance(row, str) for row in found] == [True, False, True]


def test_numbers_of_rows_are_those_of_good_and_bad_alike(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "a"}\n\n\nno\n{"text": "b"}\n', encoding="utf-8")
    found = list(read_rows(tmp_path / "t.jsonl"))
    assert isinstance(found[1], BadRow) and found[1].number == 2


@pytest.mark.parametrize(("name", "message"), [("t.csv", "a line longer than"), ("t.json", "has at most")])
def test_table_of_one_endless_line_does_not_fill_the_memory(tmp_path: Path, name: str, message: str) -> None:
    with open(tmp_path / name, "wb") as file:
        file.truncate(1 << 30)  # zeros that take no room on disk
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=message):
            list(read_rows(tmp_path / name))
        assert tracemalloc.get_traced_memory()[1] < 1 << 28
    finally:
        tracemalloc.stop()


def test_jsonl_passes_over_an_overlong_line(tmp_path: Path) -> None:
    with open(tmp_path / "t.jsonl", "wb") as file:
        file.truncate(100 << 20)
        file.seek(0, os.SEEK_END)
        file.write(b'\n{"text": "next"}\n')
    found = [row.reason if isinstance(row, BadRow) else row for row in read_rows(tmp_path / "t.jsonl")]
    assert found == ["a line longer than 33554432 bytes", {"text": "next"}]


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.json", "t.parquet"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_table_that_is_no_regular_file_is_refused_at_once(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(InputError, match="not a regular file"):
        list(read_rows(path))
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(path)


def test_parquet_reads_large_rows_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": [{"bytes": os.urandom(1 << 18)} for _ in range(20)]}), tmp_path / "t.parquet")
    monkeypatch.setattr("embedspace.catalog.ingest.tables._PARQUET_BYTES", 1 << 20)
    sizes: list[int] = []
    original = pq.ParquetFile.iter_batches

    def iter_batches(self: Any, batch_size: int) -> Any:
        sizes.append(batch_size)
        return original(self, batch_size=batch_size)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", iter_batches)
    assert len(list(read_rows(tmp_path / "t.parquet"))) == 20
    assert sizes == [3]


def test_parquet_of_a_type_without_a_python_value_is_an_input_error(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    stamps = pa.array([2**62], pa.timestamp("us"))  # beyond the year 9999
    pq.write_table(pa.table({"text": ["a"], "when": stamps}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"t\.parquet"):
        list(read_rows(tmp_path / "t.parquet"))


# -- places ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("manifest", ["/d/list.csv", "/d#/list.csv", "/100%/a#b.csv", "/d/%23.csv", "/d/x.csv#y.csv"])
@pytest.mark.parametrize("name", ["1", "a#b", "#", "100%", "%23", "x.csv#1", "a/b.png"])
def test_uri_of_a_row_leads_back_to_its_manifest(manifest: str, name: str) -> None:
    uri = row_uri(manifest, name)
    assert manifest_of(uri) == manifest
    assert manifest_of(uri, manifest) == manifest
    assert uri.endswith(f"#{name}")


def test_uris_of_rows_are_distinct() -> None:
    manifests = ["/d/a.csv", "/d/a.csv#b.csv", "/d/a.csv%23b.csv", "/d/a%2523.csv", "/d/a%23.csv", "/d/a#.csv"]
    names = ["1", "b.csv#1", "#1", "%231", "23b.csv#1"]
    uris = {row_uri(manifest, name) for manifest in manifests for name in names}
    assert len(uris) == len(manifests) * len(names)


def test_file_beside_a_folder_whose_name_ends_in_a_sharp(tmp_path: Path) -> None:
    (tmp_path / "C").mkdir()
    (tmp_path / "C#").mkdir()
    (tmp_path / "C#" / "x.png").write_bytes(b"x")
    assert not is_gone(str(tmp_path / "C#" / "x.png"), "")
    assert is_gone(str(tmp_path / "C#" / "y.png"), "")
    assert is_gone(str(tmp_path / "C#" / "y.png"))


def test_place_behind_a_link_to_nowhere_is_not_gone(tmp_path: Path) -> None:
    (tmp_path / "drive").symlink_to(tmp_path / "not mounted")
    with pytest.raises(OSError, match="link whose target is missing"):
        is_gone(str(tmp_path / "drive" / "sub" / "x.png"))
    assert is_gone(str(tmp_path / "no" / "sub" / "x.png"))
    assert is_gone("/a\0b")


def test_open_regular_reads(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    with open_regular(tmp_path / "x") as file:
        assert isinstance(file, io.BufferedReader) and file.read() == b"abc"
