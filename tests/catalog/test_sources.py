"""Ingest of odd folders and manifests: whatever lies there, the rest is indexed and each oddity has its reason."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedspace.catalog import Catalog
from embedspace.catalog.ingest.ingest import ingest
from embedspace.catalog.ingest.scan import Candidate, chunks
from tests.support.catalog_encoder import HashEncoder, new_catalog
from tests.support.unprivileged import unprivileged


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(b"picture %d" % number)
    return folder


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with new_catalog(tmp_path / "media.catalog") as opened:
        yield opened


def uris(catalog: Catalog) -> set[str]:
    return {uri for item in catalog.items() for uri in item.uris}


def test_folder_with_the_table_that_pandas_wrote(catalog: Catalog, media: Path) -> None:
    (media / "metadata.csv").write_text(",file_name,caption\n0,0.png,zero\n1,2.png,two\n", encoding="utf-8")
    report = ingest(catalog, [media], HashEncoder())
    assert (report.added, report.failed) == (3, [])
    assert {item.metadata.get("caption") for item in catalog.items()} == {"zero", "two", None}


def test_folder_with_a_link_to_itself(catalog: Catalog, media: Path) -> None:
    (media / "self").symlink_to("self")
    report = ingest(catalog, [media], HashEncoder())
    assert report.added == 3
    (failure,) = report.failed
    assert failure.uri == str(media / "self") and failure.reason.startswith("cannot look at it: ")


def test_folder_with_a_link_into_one_that_may_not_be_entered(catalog: Catalog, media: Path, tmp_path: Path) -> None:
    (tmp_path / "closed" / "inner").mkdir(parents=True)
    (media / "into").symlink_to(tmp_path / "closed" / "inner")
    with unprivileged():
        (tmp_path / "closed").chmod(0)
        try:
            report = ingest(catalog, [media, tmp_path / "closed"], HashEncoder())
        finally:
            (tmp_path / "closed").chmod(0o700)
    assert report.added == 3
    assert [failure.reason for failure in report.failed] == [
        "cannot look at it: Permission denied",
        "cannot list the folder: Permission denied",
    ]


def test_rows_that_hold_much_are_taken_a_few_at_a_time() -> None:
    rows = [Candidate(f"/t.parquet#{number}", "image", 100, 0, content_hash="x") for number in range(7)]
    files = [Candidate(f"/{number}.png", "image", 10**9, 1) for number in range(5)]
    assert [len(chunk) for chunk in chunks([*rows, *files], 4, 250)] == [3, 3, 4, 2]


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_folder_whose_metadata_is_no_file(catalog: Catalog, media: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(media / "metadata.csv")
    else:
        (media / "metadata.csv").symlink_to("/dev/zero")
    report = ingest(catalog, [media], HashEncoder())
    assert (report.added, report.skipped) == (3, {})
    (failure,) = report.failed
    assert failure.uri == str(media / "metadata.csv") and "not a regular file" in failure.reason


def test_manifest_that_is_no_file(catalog: Catalog, media: Path) -> None:
    os.mkfifo(media / "list.csv")
    report = ingest(catalog, [media / "list.csv", media], HashEncoder())
    assert report.added == 3
    (failure,) = report.failed
    assert "list.csv: cannot read the manifest: not a regular file" in failure.reason


def test_verify_does_not_wait_for_a_pipe(catalog: Catalog, media: Path) -> None:
    ingest(catalog, [media], HashEncoder())
    for name in ("0.png", "1.png"):
        (media / name).unlink()
    os.mkfifo(media / "0.png")
    (media / "1.png").symlink_to("/dev/zero")
    problems = catalog.verify().problems
    assert [(Path(one.where).name, "not a regular file" in one.detail) for one in problems] == [
        ("0.png", True),
        ("1.png", True),
    ]
    assert ingest(catalog, [media], HashEncoder(), prune=True).removed == 2
    assert catalog.verify().ok


def test_folder_metadata_with_a_bad_row_keeps_the_others(catalog: Catalog, media: Path) -> None:
    deep = '{"file_name": "1.png", "x": ' + "[" * 900 + "]" * 900 + "}"
    lines = ['{"file_name": "0.png", "caption": "zero"}', deep, '{"file_name": "2.png", "caption": "\\ud800"}', "{}"]
    (media / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    report = ingest(catalog, [media], HashEncoder())
    assert report.added == 3
    assert [Path(failure.uri).name for failure in report.failed] == [f"metadata.jsonl#{number}" for number in (2, 3, 4)]
    assert [item.metadata["caption"] for item in catalog.items("caption is not null")] == ["zero"]


def test_rows_whatever_their_ids_hold_stay_until_their_manifest_goes(catalog: Catalog, media: Path) -> None:
    ids = ["a#b", "#", "100%", "%23", "a", "a:5", "a", "a/b.csv#1"]
    manifest = media / "list.jsonl"
    manifest.write_text("".join(json.dumps({"id": name, "text": f"{name} {n}"}) + "\n" for n, name in enumerate(ids)))
    assert ingest(catalog, [manifest], HashEncoder()).added == len(ids)
    assert len(uris(catalog)) == len(ids)
    report = ingest(catalog, [media, manifest], HashEncoder(), prune=True)
    assert (report.removed, report.unchanged) == (0, len(ids))
    assert catalog.verify().ok
    manifest.unlink()
    problems = catalog.verify().problems
    assert {(one.what, one.where) for one in problems} == {
        ("missing file", f"{manifest}#{n}") for n in [*ids[:6], "a:7", ids[7]]
    }


@pytest.mark.parametrize("names", [("C", "C#"), ("C", "C%"), ("a.csv", "a.csv#"), ("C%23", "C#")])
def test_folders_side_by_side_whose_names_differ_by_a_sharp(
    catalog: Catalog, tmp_path: Path, names: tuple[str, str]
) -> None:
    folders = [tmp_path / name for name in names]
    for number, folder in enumerate(folders):
        folder.mkdir()
        (folder / "x.png").write_bytes(b"x %d" % number)
        (folder / "y.png").write_bytes(b"y %d" % number)
        (folder / "rows.csv").write_text(f"id,text\n1,row of {number}\n")
    sources = [*folders, *(folder / "rows.csv" for folder in folders)]
    assert ingest(catalog, sources, HashEncoder()).added == 6
    (folders[1] / "x.png").unlink()
    (folders[1] / "rows.csv").unlink()
    gone = {one.where for one in catalog.verify().problems}
    assert len(gone) == 2 and all("x.png" in uri or "rows.csv" in uri for uri in gone)
    report = ingest(catalog, folders, HashEncoder(), prune=True)
    assert (report.removed, report.unchanged) == (2, 3)
    assert catalog.verify().ok and len(catalog) == 4


def test_file_that_is_called_like_a_row_is_refused(catalog: Catalog, media: Path) -> None:
    (media / "list.csv").write_text("id,text\n1.png,a row\n", encoding="utf-8")
    (media / "list.csv#1.png").write_bytes(b"a picture")
    (media / "other.csv#1.png").write_bytes(b"another picture")  # no other.csv: nothing it could be mistaken for
    report = ingest(catalog, [media, media / "list.csv"], HashEncoder())
    assert report.added == 5
    (failure,) = report.failed
    assert failure.reason == f"it is called like a row of {media / 'list.csv'}; rename it"
    assert catalog.verify().ok


def test_catalog_of_an_earlier_version_gets_its_uris_at_open(tmp_path: Path) -> None:
    folder = tmp_path / "a#b%c"
    folder.mkdir()
    manifest = folder / "rows.csv"
    manifest.write_text("id,text\n1,one\n2,two\n", encoding="utf-8")
    (folder / "x.png").write_bytes(b"x")
    path = tmp_path / "media.catalog"
    with new_catalog(path) as catalog:
        ingest(catalog, [folder, manifest], HashEncoder())
        written = uris(catalog)
        with catalog.store.writing("go back to how uris were written") as connection:
            for number in (1, 2):
                old, new = f"{manifest}#{number}", f"{tmp_path}/a%23b%25c/rows.csv#{number}"
                assert connection.execute("UPDATE uris SET uri = ? WHERE uri = ?", (old, new)).rowcount == 1
            connection.execute("DELETE FROM meta WHERE key = 'row_uris'")
    with Catalog.open(path, read_only=True) as catalog:  # cannot be written to, but is understood
        assert catalog.verify().ok and uris(catalog) != written
    with Catalog.open(path) as catalog:
        assert uris(catalog) == written
        assert ingest(catalog, [folder, manifest], HashEncoder()).unchanged == 3
