"""Ingest: what is new, changed, moved, gone or bad; interruptions; manifests."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from embedspace.catalog import Catalog, Progress
from embedspace.catalog.content_ids import file_hash
from embedspace.catalog.ingest.counting import SourceCounter
from embedspace.catalog.ingest.ingest import ingest
from embedspace.catalog.ingest.reading import tick_left
from embedspace.errors import FingerprintMismatchError, InputError, StorageFullError, WeightsError
from embedspace.segment import Decoded, Segment
from tests.support.catalog_encoder import HashEncoder, new_catalog

pa = pytest.importorskip("pyarrow")


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    (folder / "sub").mkdir(parents=True)
    for number in range(6):
        (folder / f"{number}.png").write_bytes(b"picture %d" % number)
    (folder / "sub" / "a.wav").write_bytes(b"noise")
    (folder / "sub" / "b.wav").write_bytes(b"noise and speech")
    (folder / "sub" / "c.txt").write_text("a barking dog", encoding="utf-8")
    return folder


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with new_catalog(tmp_path / "media.catalog") as opened:
        yield opened


def uris(catalog: Catalog) -> set[str]:
    return {Path(uri).name for item in catalog.items() for uri in item.uris}


def test_ingest_indexes_a_folder(catalog: Catalog, media: Path) -> None:
    (media / "notes.xyz").write_bytes(b"?")
    (media / ".hidden.png").write_bytes(b"hidden")
    encoder = HashEncoder()
    report = ingest(catalog, [media], encoder)
    assert (report.seen, report.added, report.failed, report.skipped) == (9, 9, [], {".xyz": 1})
    assert catalog.info().segments == {"audio": 2, "image": 6, "speech": 1, "text": 1}
    hit = catalog.search(encoder.query("image", b"picture 3"), query_modality="image", k=1)[0][0]
    assert Path(hit.uri).name == "3.png"
    assert hit.score == pytest.approx(1.0, abs=1e-3)
    assert hit.metadata["nbytes"] == 9


def test_ingest_again_encodes_nothing(catalog: Catalog, media: Path) -> None:
    ingest(catalog, [media], HashEncoder())
    encoder = HashEncoder()
    report = ingest(catalog, [media], encoder)
    assert (report.unchanged, report.added, report.updated) == (9, 0, 0)
    assert encoder.decoded == [] and encoder.batches == []


def test_ingest_touched_file_is_hashed_not_encoded(catalog: Catalog, media: Path) -> None:
    ingest(catalog, [media], HashEncoder())
    os.utime(media / "1.png", ns=(1, 1))
    encoder = HashEncoder()
    assert ingest(catalog, [media], encoder).unchanged == 9
    assert encoder.decoded == []
    again = HashEncoder()
    assert ingest(catalog, [media], again).unchanged == 9


def test_ingest_notices_a_moved_file(catalog: Catalog, media: Path) -> None:
    ingest(catalog, [media], HashEncoder())
    (media / "1.png").rename(media / "sub" / "moved.png")
    encoder = HashEncoder()
    report = ingest(catalog, [media], encoder)
    assert (report.moved, report.added, report.unchanged) == (1, 0, 8)
    assert encoder.decoded == []
    assert "moved.png" in uris(catalog) and "1.png" not in uris(catalog)
    assert len(catalog) == 9


def test_ingest_changed_file_replaces_its_item(catalog: Catalog, media: Path) -> None:
    ingest(catalog, [media], HashEncoder())
    (media / "1.png").write_bytes(b"another picture")
    report = ingest(catalog, [media], HashEncoder())
    assert (report.updated, report.added, report.unchanged) == (1, 0, 8)
    assert len(catalog) == 9
    hits = catalog.search(HashEncoder().query("image", b"picture 1"), query_modality="image", k=1)[0]
    assert hits[0].score < 0.99


def test_ingest_one_item_for_several_copies(catalog: Catalog, media: Path) -> None:
    (media / "copy.png").write_bytes(b"picture 1")
    encoder = HashEncoder()
    report = ingest(catalog, [media], encoder)
    assert (report.added, report.duplicates) == (9, 1)
    assert sum(encoder.batches) == 9
    copies = [item for item in catalog.items() if len(item.uris) == 2]
    assert [{Path(uri).name for uri in item.uris} for item in copies] == [{"1.png", "copy.png"}]
    (media / "1.png").unlink()
    assert ingest(catalog, [media], encoder, prune=True).removed == 0
    assert len(catalog) == 9 and "1.png" not in uris(catalog)


def test_ingest_prunes_only_when_asked(catalog: Catalog, media: Path) -> None:
    ingest(catalog, [media], HashEncoder())
    (media / "1.png").unlink()
    for name in ("a.wav", "b.wav", "c.txt"):
        (media / "sub" / name).unlink()
    (media / "sub").rmdir()
    assert ingest(catalog, [media], HashEncoder()).removed == 0
    assert len(catalog) == 9
    assert ingest(catalog, [media], HashEncoder(), prune=True).removed == 4
    assert len(catalog) == 5


def test_ingest_prune_of_a_missing_folder_removes_nothing(catalog: Catalog, media: Path) -> None:
    ingest(catalog, [media], HashEncoder())
    media.rename(media.with_name("unmounted"))
    with pytest.raises(InputError, match="no such file or folder"):
        ingest(catalog, [media], HashEncoder(), prune=True)
    assert len(catalog) == 9


def test_ingest_lists_bad_files_and_goes_on(catalog: Catalog, media: Path) -> None:
    (media / "x.png").write_bytes(b"bad")
    (media / "y.txt").write_bytes(b"nan")
    report = ingest(catalog, [media], HashEncoder())
    assert report.added == 9
    assert sorted((Path(failure.uri).name, failure.known) for failure in report.failed) == [
        ("x.png", False),
        ("y.txt", False),
    ]
    assert "norm nan" in {Path(f.uri).name: f.reason for f in report.failed}["y.txt"]
    assert len(catalog.info().failures) == 2


def test_ingest_retries_a_bad_file_only_when_asked_or_changed(catalog: Catalog, media: Path) -> None:
    (media / "x.png").write_bytes(b"bad")
    ingest(catalog, [media], HashEncoder())
    encoder = HashEncoder()
    assert [failure.known for failure in ingest(catalog, [media], encoder).failed] == [True]
    assert encoder.decoded == []
    assert [failure.known for failure in ingest(catalog, [media], encoder, retry_failed=True).failed] == [False]
    (media / "x.png").write_bytes(b"good now")
    assert ingest(catalog, [media], encoder).failed == []
    assert catalog.info().failures == ()


def test_ingest_copies_of_a_bad_file_all_fail(catalog: Catalog, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"bad")
    report = ingest(catalog, [tmp_path], HashEncoder())
    assert len(report.failed) == 2
    assert all("not a image" in failure.reason for failure in report.failed)


def test_ingest_encoder_failure_of_one_item_spares_its_batch(catalog: Catalog, media: Path) -> None:
    class Fragile(HashEncoder):
        def encode_decoded(self, items: list[Decoded]) -> list[list[Segment]]:
            if any(b"picture 2" in str(item.inputs).encode() for item in items):
                raise RuntimeError("shape mismatch")
            return super().encode_decoded(items)

    report = ingest(catalog, [media], Fragile())
    assert report.added == 8
    assert [(Path(failure.uri).name, failure.reason) for failure in report.failed] == [
        ("2.png", "RuntimeError: shape mismatch")
    ]


def test_ingest_broken_installation_ends_it(catalog: Catalog, media: Path) -> None:
    class Broken(HashEncoder):
        def decode(self, source: object, kind: str, *, as_modality: str | None = None) -> Decoded:
            raise WeightsError("weights are missing")

    with pytest.raises(WeightsError):
        ingest(catalog, [media], Broken())
    assert catalog.info().failures == ()


def test_ingest_another_encoder_is_refused(catalog: Catalog, media: Path) -> None:
    ingest(catalog, [media], HashEncoder())
    with pytest.raises(FingerprintMismatchError, match="catalog migrate"):
        ingest(catalog, [media], HashEncoder({"image": "2"}))


def test_ingest_missing_and_unknown_sources(catalog: Catalog, media: Path, tmp_path: Path) -> None:
    (tmp_path / "odd.xyz").write_bytes(b"noise")
    report = ingest(catalog, [tmp_path / "nothing", tmp_path / "odd.xyz", media / "1.png"], HashEncoder())
    assert report.added == 1
    assert report.failed[0].reason == "no such file or folder"
    assert "unknown file suffix" in report.failed[1].reason
    report = ingest(catalog, [tmp_path / "odd.xyz"], HashEncoder(), as_modality="speech")
    assert report.added == 1 and catalog.info().segments["speech"] == 1


def test_ingest_empty_folder_finds_nothing(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    report = ingest(catalog, [tmp_path / "empty"], HashEncoder())
    assert (report.seen, report.added, report.failed) == (0, 0, [])


def test_ingest_imposed_modality_encodes_again(catalog: Catalog, media: Path) -> None:
    ingest(catalog, [media], HashEncoder())
    encoder = HashEncoder()
    report = ingest(catalog, [media], encoder, as_modality="speech")
    assert report.unchanged == 7 and len(encoder.decoded) == 2
    assert catalog.info().segments == {"image": 6, "speech": 2, "text": 1}
    assert ingest(catalog, [media], HashEncoder()).unchanged == 9


def test_ingest_reports_progress(catalog: Catalog, media: Path) -> None:
    seen: list[Progress] = []
    ingest(catalog, [media], HashEncoder(), batch_size=2, callback=seen.append)
    assert seen[-1].done == seen[-1].seen == 9
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)


def test_ingest_same_vectors_whatever_the_batch_and_threads(tmp_path: Path, media: Path) -> None:
    found = []
    for number, (batch, workers) in enumerate([(1, 1), (32, 4)]):
        with new_catalog(tmp_path / f"{number}.catalog") as catalog:
            ingest(catalog, [media], HashEncoder(), batch_size=batch, workers=workers)
            ids, vectors = catalog.vectors()
            found.append({(one, vector.tobytes()) for one, vector in zip(ids, vectors, strict=True)})
    assert found[0] == found[1]


def test_ingest_bounds_decoded_bytes(catalog: Catalog, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedspace.modality.DecodedSize.of", lambda self, size: size * self.growth)
    monkeypatch.setattr(
        HashEncoder,
        "decode",
        lambda self, source, kind, as_modality=None: Decoded(kind, [("image", "", source.read_bytes())], {}, 100 << 20),
    )
    encoder = HashEncoder()
    ingest(catalog, [media], encoder, batch_size=32)
    assert max(encoder.batches) <= 2  # never more than two items of 100 MiB wait in a budget of 256 MiB


class Lines(HashEncoder):
    """Every line of a text is an input; one that says "bad" cannot be encoded."""

    def decode(self, source: object, kind: str, *, as_modality: str | None = None) -> Decoded:
        assert isinstance(source, Path)
        inputs = [("text", "", line) for line in source.read_text("utf-8").splitlines()]
        return Decoded(kind, inputs, {}, 100, range(1, len(inputs)))

    def encode_decoded(self, items: list[Decoded]) -> list[list[Segment]]:
        if any(line == "bad" for item in items for _, _, line in item.inputs):
            raise RuntimeError("a bad line")
        found = super().encode_decoded(items)
        self.batches[-1] = sum(len(item.inputs) for item in items)
        return found


def test_ingest_of_a_long_item_goes_part_by_part(catalog: Catalog, tmp_path: Path) -> None:
    lengths = {"a": 30, "b": 40, "c": 500, "d": 3}
    for name, count in lengths.items():
        lines = [f"{name}{number}" for number in range(count)]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "e.txt").write_text("line\n" * 100 + "bad\n", encoding="utf-8")
    encoder, seen = Lines(), list[Progress]()
    report = ingest(catalog, [tmp_path], encoder, callback=seen.append, workers=1)
    assert report.added == 4 and [failure.reason for failure in report.failed] == ["RuntimeError: a bad line"]
    assert encoder.batches == [30, 40, *[64] * 7, 52, 3, 64]  # neighbours together, a long one in parts
    inside = [now.part for now in seen if Path(now.uri).name == "c.txt" and now.part]
    assert inside == pytest.approx([*(64 * number / 500 for number in range(1, 8)), 1.0])
    assert [now.added for now in seen if now.part][:8] == [2] * 8  # what came before is in the catalog already
    ids, vectors = catalog.vectors("text")
    assert len(ids) == sum(lengths.values())
    wanted = [encoder.query("text", f"c{number}") for number in range(500)]
    np.testing.assert_allclose(vectors[70:570], wanted, atol=1e-3)


def test_counter_counts_what_an_ingest_looks_at(media: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    (media / "notes.xyz").write_bytes(b"?")
    (tmp_path / "t.csv").write_text('id,text\na,"one\ntwo"\nb,three\n', encoding="utf-8")
    pq.write_table(pa.table({"text": ["a", "b", "c"]}), tmp_path / "t.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"nonsense")
    names = ("media", "t.csv", "t.parquet", "broken.parquet", "missing.png")
    counter = SourceCounter([tmp_path / name for name in names], patience=0.0)
    assert counter.total() in (None, 16)
    deadline = time.monotonic() + 20
    while counter.total() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    counter.close()
    with new_catalog(tmp_path / "c.catalog") as catalog:
        report = ingest(catalog, [tmp_path / name for name in names], HashEncoder())
    assert counter.total() == 16 == report.added + len(report.failed)
    patient = SourceCounter([media], patience=60.0)
    assert patient.total() is None
    patient.close()


# -- files that change -----------------------------------------------------------------------------------------------


class Rewriting(HashEncoder):
    """Somebody writes to a file while it is decoded, so many times."""

    def __init__(self, path: Path, times: int) -> None:
        super().__init__()
        self.path, self.times = path, times

    def decode(self, source: object, kind: str, *, as_modality: str | None = None) -> Decoded:
        if source == self.path and self.times:
            self.times -= 1
            before = self.path.stat()
            self.path.write_bytes(b"picture %d" % (90 + self.times))  # as long as it was
            os.utime(self.path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return super().decode(source, kind, as_modality=as_modality)


def of_one_content(catalog: Catalog, path: Path) -> bool:
    """Whether the vector at a place is that of the bytes that its content id stands for."""
    (item,) = (one for one in catalog.items() if str(path) in one.uris)
    same = HashEncoder().query("image", path.read_bytes()) @ catalog.vectors("image", [item.id])[1][0]
    return item.id == file_hash(path, "image") and bool(same > 0.99)


def test_ingest_of_a_file_that_is_rewritten_while_it_is_read(catalog: Catalog, media: Path) -> None:
    path = media / "31.png"
    path.write_bytes(b"picture 31")
    report = ingest(catalog, [media], Rewriting(path, 1))
    assert (report.added, report.failed) == (10, [])
    assert of_one_content(catalog, path) and catalog.verify().ok


def test_ingest_of_a_file_that_does_not_come_to_rest(catalog: Catalog, media: Path) -> None:
    path = media / "31.png"
    path.write_bytes(b"picture 31")
    ingest(catalog, [media], HashEncoder())
    path.write_bytes(b"picture 32")
    (media / "copy.png").write_bytes(b"picture 32")  # its twin: decoded when the first turns out to be something else
    report = ingest(catalog, [media], Rewriting(path, 99), workers=1)
    (failure,) = report.failed
    assert "was written to while it was read, 3 times; index it again when nothing writes to it" in failure.reason
    assert of_one_content(catalog, media / "copy.png")
    assert str(path) in {uri for item in catalog.items() for uri in item.uris}  # nothing is lost meanwhile
    report = ingest(catalog, [media], HashEncoder())
    assert (report.updated, report.failed) == (1, [])
    assert of_one_content(catalog, path) and catalog.verify().ok


def test_ingest_waits_until_a_write_would_be_seen(
    catalog: Catalog, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time_ns() // 10**9 * 10**9 + 10**9  # a medium that counts whole seconds
    os.utime(media / "1.png", ns=(now, now))
    waited: list[float] = []
    monkeypatch.setattr("embedspace.catalog.ingest.reading.time.sleep", waited.append)
    ingest(catalog, [media / "1.png"], HashEncoder())
    assert 0 < waited[0] <= 4


def test_tick_left_is_how_long_a_write_goes_unseen() -> None:
    assert tick_left(123_456_789, 123_456_789 + 30_000_000) == 0
    assert tick_left(123_456_789, 123_456_789 + 5_000_000) == pytest.approx(0.015)
    assert tick_left(5_000_000_000, 6_000_000_000) == pytest.approx(1.0)
    assert tick_left(5_000_000_000, 8_000_000_000) == 0
    assert tick_left(10**18 + 1, 1) == 0  # a time to come


def test_ingest_of_a_file_that_became_damaged(catalog: Catalog, media: Path) -> None:
    encoder, path = HashEncoder(), media / "1.png"
    (media / "metadata.csv").write_text("file_name,caption\n1.png,one\n", encoding="utf-8")
    ingest(catalog, [media], encoder)
    (media / "metadata.csv").unlink()
    path.write_bytes(b"bad")
    for known in (False, True):
        report = ingest(catalog, [media], encoder)
        assert [(failure.uri, failure.known) for failure in report.failed] == [(str(path), known)]
        hits = catalog.search(encoder.query("image", b"picture 1"), query_modality="image", k=9)[0]
        assert str(path) not in {hit.uri for hit in hits} and len(hits) == 8
        (problem,) = catalog.verify().problems
        assert (problem.what, problem.where) == ("damaged file", str(path))
        assert "not a image" in problem.detail and "restore it and index it again" in problem.detail
    path.write_bytes(b"picture 1")  # restored: it is what it was, and is called what it was called
    assert ingest(catalog, [media], encoder).added == 1
    assert next(catalog.items("caption = 'one'")).uris == (str(path),)
    assert catalog.verify().ok


def test_ingest_prune_cleans_what_became_damaged(catalog: Catalog, media: Path) -> None:
    ingest(catalog, [media], HashEncoder())
    (media / "copy.png").write_bytes(b"picture 1")
    ingest(catalog, [media], HashEncoder())
    (media / "1.png").write_bytes(b"bad")
    ingest(catalog, [media], HashEncoder())
    assert not catalog.verify().ok
    hit = catalog.search(HashEncoder().query("image", b"picture 1"), query_modality="image", k=1)[0][0]
    assert Path(hit.uri).name == "copy.png"  # the same content at another place stays
    ingest(catalog, [media], HashEncoder(), prune=True)
    assert catalog.verify().ok and len(catalog) == 9
    assert [Path(failure.uri).name for failure in catalog.info().failures] == ["1.png"]


def test_ingest_row_that_can_no_longer_be_encoded(catalog: Catalog, tmp_path: Path) -> None:
    manifest = tmp_path / "texts.csv"
    manifest.write_text("id,text\na,one\nb,two\n", encoding="utf-8")
    ingest(catalog, [manifest], HashEncoder())
    manifest.write_text("id,text\na,one\nb,nan\n", encoding="utf-8")
    ingest(catalog, [manifest], HashEncoder())
    assert len(catalog) == 1 and [problem.where for problem in catalog.verify().problems] == [f"{manifest}#b"]
    assert catalog.remove(uris=[f"{manifest}#b"]).items == 0
    assert catalog.verify().ok


def test_ingest_of_a_disk_that_cannot_be_read_loses_nothing(
    catalog: Catalog, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = HashEncoder()
    ingest(catalog, [media], encoder)
    (media / "1.png").write_bytes(b"bad and more")

    def failing(path: str, kind: str) -> str:
        if str(path).endswith("1.png"):
            raise OSError(errno.EIO, "Input/output error")
        return file_hash(path, kind)

    with monkeypatch.context() as patch:
        patch.setattr("embedspace.catalog.ingest.reading.file_hash", failing)
        report = ingest(catalog, [media], encoder, prune=True)
    assert [failure.reason for failure in report.failed] == ["cannot read it: Input/output error"]
    assert len(catalog.search(encoder.query("image", b"picture 1"), query_modality="image", k=9)[0]) == 9
    (media / "1.png").write_bytes(b"picture 1")
    report = ingest(catalog, [media], encoder)  # no --retry-failed: the file was never at fault
    assert (report.unchanged, report.failed) == (9, [])


# -- interruptions ---------------------------------------------------------------------------------------------------


def test_ingest_interrupted_keeps_what_was_committed(catalog: Catalog, media: Path) -> None:
    encoder = HashEncoder()
    encoder.interrupt_after = 2
    report = ingest(catalog, [media], encoder, batch_size=2)
    assert report.interrupted and report.added == len(catalog) == 4
    assert catalog.verify().ok
    report = ingest(catalog, [media], HashEncoder(), batch_size=2)
    assert (report.added, report.unchanged) == (5, 4)


def test_ingest_killed_at_any_moment_resumes(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(200):
        (folder / f"{number:03}.png").write_bytes(b"picture %d" % number)
    path = tmp_path / "killed.catalog"
    new_catalog(path).close()
    counts: list[int] = []
    for wait in (0.05, 0.1, 0.15):
        command = [sys.executable, "-m", "tests.support.catalog_encoder", str(path), str(folder), "0.02"]
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
        deadline = time.monotonic() + 20
        before = counts[-1] if counts else 0
        while time.monotonic() < deadline:
            with Catalog.open(path, read_only=True) as catalog:
                if len(catalog) > before:
                    break
            time.sleep(0.02)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with Catalog.open(path) as catalog:
            counts.append(len(catalog))
            assert catalog.verify().ok
    assert 0 < counts[0] < counts[-1] < 200
    with Catalog.open(path) as catalog:
        report = ingest(catalog, [folder], HashEncoder())
        assert (report.added, report.unchanged) == (200 - counts[-1], counts[-1])
        assert len(catalog) == 200 and catalog.verify().ok


def test_ingest_full_disk_keeps_what_was_committed(catalog: Catalog, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(400):
        (folder / f"{number:03}.txt").write_text(f"{number} " * 500, encoding="utf-8")
    pages = catalog.store.rows("PRAGMA page_count")[0][0]
    catalog.store.rows(f"PRAGMA max_page_count = {pages + 60}")
    with pytest.raises(StorageFullError, match=r"disk is full.*intact.*run the same command again"):
        ingest(catalog, [folder], HashEncoder(), batch_size=8)
    kept = len(catalog)
    assert 0 < kept < 400 and catalog.verify().ok
    catalog.store.rows("PRAGMA max_page_count = 1000000")
    report = ingest(catalog, [folder], HashEncoder())
    assert (report.added, report.unchanged) == (400 - kept, kept)


# -- manifests -------------------------------------------------------------------------------------------------------


def test_ingest_csv_manifest_names_files_and_metadata(catalog: Catalog, media: Path) -> None:
    manifest = media / "list.csv"
    with manifest.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "title", "year", "code"])
        writer.writerows([["1.png", "A soup", "1999", "007"], ["none.png", "", "", ""]])
    report = ingest(catalog, [manifest], HashEncoder())
    assert report.added == 1 and "no such file" in report.failed[0].reason
    item = next(catalog.items("year > 1990 and title like '%soup%' and code = '007'"))
    assert item.metadata["year"] == 1999
    assert ingest(catalog, [media], HashEncoder()).unchanged == 1
    assert next(catalog.items("year = 1999")).uris == item.uris


def test_ingest_changed_manifest_changes_metadata_without_encoding(catalog: Catalog, media: Path) -> None:
    manifest = media / "list.jsonl"
    manifest.write_text(json.dumps({"path": "1.png", "year": 1}) + "\n", encoding="utf-8")
    ingest(catalog, [manifest], HashEncoder())
    manifest.write_text(json.dumps({"path": "1.png", "year": 2}) + "\n", encoding="utf-8")
    encoder = HashEncoder()
    assert ingest(catalog, [manifest], encoder).unchanged == 1
    assert encoder.decoded == []
    assert next(catalog.items()).metadata["year"] == 2


def test_ingest_recipe_rows_have_a_segment_a_field(catalog: Catalog, tmp_path: Path) -> None:
    manifest = tmp_path / "recipes.jsonl"
    rows = [
        {"id": "r1", "title": "Soup", "ingredients": ["water", "salt"], "steps": ["boil", "eat"], "servings": 2},
        {"id": "r2", "title": "Cake", "ingredients": ["flour"], "steps": ["bake"], "servings": 8},
    ]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows) + "not json\n[1]\n{}\n", encoding="utf-8")
    encoder = HashEncoder()
    report = ingest(catalog, [manifest], encoder)
    assert report.added == 2
    assert [Path(failure.uri).name for failure in report.failed] == [
        "recipes.jsonl#3", "recipes.jsonl#4", "recipes.jsonl#5"
    ]  # fmt: skip
    hits = catalog.search(encoder.query("text", "water\nsalt"), query_modality="text", k=5)[0]
    assert (hits[0].label, hits[0].text, hits[0].uri) == ("ingredients", "water\nsalt", f"{manifest}#r1")
    assert len(hits) == 2  # one hit an item
    only = catalog.search(encoder.query("text", "Soup"), query_modality="text", where="label = 'title'")[0]
    assert [hit.text for hit in only] == ["Soup", "Cake"]
    whole = [row[0] for row in catalog.store.rows("SELECT text FROM segments WHERE label = 'whole' ORDER BY seq")]
    assert whole[0] == "Soup\nwater\nsalt\nboil\neat"
    assert [item.metadata["servings"] for item in catalog.items("servings > 2 and title = 'Cake'")] == [8]


def test_ingest_manifest_rows_are_incremental_and_pruned(catalog: Catalog, tmp_path: Path) -> None:
    manifest = tmp_path / "texts.csv"
    manifest.write_text("id,text\na,one\nb,two\nc,three\n", encoding="utf-8")
    assert ingest(catalog, [manifest], HashEncoder()).added == 3
    manifest.write_text("id,text\na,one\nb,two changed\n", encoding="utf-8")
    report = ingest(catalog, [manifest], HashEncoder(), prune=True)
    assert (report.unchanged, report.updated, report.removed) == (1, 1, 1)
    assert len(catalog) == 2 and catalog.verify().ok


def test_ingest_parquet_manifest_with_embedded_files(catalog: Catalog, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    manifest = tmp_path / "set.parquet"
    table = pa.table(
        {
            "image": [{"bytes": b"picture A", "path": "a.png"}, {"bytes": b"bad", "path": "b.png"}],
            "label": [3, 4],
        }
    )
    pq.write_table(table, manifest)
    encoder = HashEncoder()
    report = ingest(catalog, [manifest], encoder)
    assert report.added == 1 and len(report.failed) == 1
    hit = catalog.search(encoder.query("image", b"picture A"), query_modality="image")[0][0]
    assert (hit.uri, hit.metadata["label"], hit.kind) == (f"{manifest}#1", 3, "image")


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_ingest_imagefolder_metadata(catalog: Catalog, media: Path, suffix: str) -> None:
    rows = [("1.png", "one"), ("sub/a.wav", "a sound")]
    if suffix == "csv":
        text = "file_name,caption\n" + "".join(f"{name},{caption}\n" for name, caption in rows)
    else:
        text = "".join(json.dumps({"file_name": name, "caption": caption}) + "\n" for name, caption in rows)
    (media / f"metadata.{suffix}").write_text(text, encoding="utf-8")
    report = ingest(catalog, [media], HashEncoder())
    assert report.added == 9
    captions = {Path(item.uris[0]).name: item.metadata["caption"] for item in catalog.items("caption is not null")}
    assert captions == {"1.png": "one", "a.wav": "a sound"}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("m.csv", "path\nd\xe9j\xe0".encode("latin-1"), "not UTF-8"),
        ("m.parquet", b"nonsense", "not a parquet file"),
        ("m.json", b'{"a": 1}', "list of objects"),
    ],
)
def test_ingest_unreadable_manifest_is_one_failure(
    catalog: Catalog, tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    report = ingest(catalog, [tmp_path / name], HashEncoder())
    assert len(report.failed) == 1 and reason in report.failed[0].reason


def test_ingest_links_that_form_a_circle_end(catalog: Catalog, media: Path) -> None:
    (media / "sub" / "loop").symlink_to(media, target_is_directory=True)
    (media / "dangling.png").symlink_to(media / "nowhere.png")
    report = ingest(catalog, [media], HashEncoder())
    assert report.added == 9 and len(report.failed) == 1


def test_ingest_pipes_are_no_files(catalog: Catalog, media: Path) -> None:
    os.mkfifo(media / "pipe.wav")
    report = ingest(catalog, [media], HashEncoder())
    assert [failure.reason for failure in report.failed] == ["not a regular file"]


def test_ingest_overlapping_sources_encode_once(catalog: Catalog, media: Path) -> None:
    encoder = HashEncoder()
    report = ingest(catalog, [media, media / "1.png", media / "sub"], encoder)
    assert (report.added, report.unchanged, sum(encoder.batches)) == (9, 4, 9)


def test_ingest_skips_catalogs_inside_the_folder(media: Path) -> None:
    with new_catalog(media / "inner.catalog") as catalog:
        report = ingest(catalog, [media], HashEncoder())
        assert report.seen == 9 and report.skipped == {}


def test_ingest_file_names_that_are_not_utf8_are_listed(catalog: Catalog, media: Path) -> None:
    with open(os.fsencode(media) + b"/\xff.png", "wb") as file:
        file.write(b"picture")
    report = ingest(catalog, [media], HashEncoder())
    assert report.added == 9
    assert "not UTF-8" in report.failed[0].reason and "\\xff" in report.failed[0].uri


def test_ingest_vectors_are_those_of_the_encoder(catalog: Catalog, media: Path) -> None:
    ingest(catalog, [media], HashEncoder())
    _, vectors = catalog.vectors("text")
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[0], HashEncoder().query("text", "a barking dog"), atol=1e-3)
