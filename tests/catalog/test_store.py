"""The SQLite truth: creation, damage, locks, full disks, identity, fingerprints, verification, export."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embedspace.catalog.store.schema
from embedspace.catalog import Catalog, CatalogItem, IndexSettings
from embedspace.catalog.bulk.importing import import_encoding, read_encoding
from embedspace.catalog.index.parts import PACKED
from embedspace.catalog.ingest.ingest import ingest
from embedspace.catalog.store.errors import translated
from embedspace.catalog.store.schema import DATABASE
from embedspace.catalog.store.vectors import widened
from embedspace.errors import (
    CatalogCorruptError,
    CatalogError,
    CatalogExistsError,
    CatalogLockedError,
    CatalogNotFoundError,
    ConfigError,
    FingerprintMismatchError,
    InputError,
    StorageFullError,
)
from embedspace.segment import Segment
from tests.support.catalog_encoder import EMBED_DIM, HashEncoder, new_catalog, random_units, unit, vector_items


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "c.catalog"


@pytest.fixture
def catalog(path: Path) -> Iterator[Catalog]:
    with new_catalog(path) as opened:
        yield opened


# -- opening ---------------------------------------------------------------------------------------------------------


def test_open_missing_catalog_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(CatalogNotFoundError, match="embedspace index FOLDER --catalog"):
        Catalog.open(tmp_path / "none.catalog")


@pytest.mark.parametrize(("content", "what"), [(b"", "an empty file"), (b"words of mine " * 200, "not a database")])
def test_open_file_that_is_no_catalog_advises_no_deletion(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "x.catalog").write_bytes(content)
    with pytest.raises(CatalogCorruptError, match=rf"not a catalog.*{what}.*name another path") as caught:
        Catalog.open(tmp_path / "x.catalog")
    assert "delete" not in str(caught.value)


def test_open_database_of_another_application(tmp_path: Path) -> None:
    (tmp_path / "x.catalog").mkdir()
    connection = sqlite3.connect(tmp_path / "x.catalog" / DATABASE)
    connection.execute("CREATE TABLE t(x)")
    connection.close()
    with pytest.raises(CatalogCorruptError, match="another application"):
        Catalog.open(tmp_path / "x.catalog")


def test_open_folder_that_is_no_catalog(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"")
    with pytest.raises(CatalogCorruptError, match="not a catalog"):
        Catalog.open(tmp_path)


def test_open_newer_format_is_refused(path: Path) -> None:
    new_catalog(path).close()
    connection = sqlite3.connect(path / DATABASE)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(CatalogCorruptError, match="upgrade embedspace"):
        Catalog.open(path)


def test_open_damaged_catalog_is_one_clear_error(path: Path) -> None:
    with new_catalog(path) as catalog:
        catalog.add(vector_items(random_units(500)))
    (path / PACKED).unlink()
    content = bytearray((path / DATABASE).read_bytes())
    content[4096 * 3 : 4096 * 40] = os.urandom(4096 * 37)
    (path / DATABASE).write_bytes(content)
    with pytest.raises(CatalogCorruptError, match="restore it from a copy"), Catalog.open(path) as catalog:
        catalog.search(unit("q"), query_modality="text")


def test_open_accepts_the_file_inside(path: Path) -> None:
    new_catalog(path).close()
    with Catalog.open(path / DATABASE) as catalog:
        assert len(catalog) == 0


def test_open_read_only_on_a_read_only_folder(path: Path) -> None:
    with new_catalog(path) as catalog:
        catalog.add(vector_items(random_units(5)))
    with Catalog.open(path, read_only=True) as catalog:
        assert len(catalog.search(unit("q"), query_modality="text")[0]) == 5
        with pytest.raises(CatalogError, match="read-only"):
            catalog.add(vector_items(random_units(1, seed=1)))


def test_create_refuses_what_exists(path: Path, catalog: Catalog) -> None:
    with pytest.raises(CatalogError, match="exists already"):
        new_catalog(path)


def test_create_after_an_interrupted_creation(path: Path) -> None:
    path.mkdir()
    (path / f"{DATABASE}.partial").write_bytes(b"half a file")
    with pytest.raises(CatalogNotFoundError):
        Catalog.open(path)
    new_catalog(path).close()
    assert not (path / f"{DATABASE}.partial").exists()


CREATE = """
import sys
from pathlib import Path
from embedspace.errors import CatalogExistsError
from tests.support.catalog_encoder import new_catalog
print("ready", flush=True)
sys.stdin.readline()
try:
    new_catalog(Path(sys.argv[1])).close()
    print("made")
except CatalogExistsError as error:
    assert "exists already" in str(error)
    print("exists")
"""


def test_create_by_several_processes_at_once_makes_one_whole_catalog(tmp_path: Path) -> None:
    path, names = tmp_path / "c.catalog", ("embed_dim", "catalog_id", "revision", "recipe")
    command = [sys.executable, "-c", CREATE, str(path)]
    root = Path(__file__).parents[2]
    with contextlib.ExitStack() as stack:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        processes = [stack.enter_context(subprocess.Popen(command, cwd=root, **pipes)) for _ in range(3)]
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        said = sorted(process.communicate()[0].strip() for process in processes)
    assert said == ["exists", "exists", "made"]
    with Catalog.open(path) as catalog:
        assert catalog.verify().ok and all(catalog.store.meta(name) is not None for name in names)
    assert not list(path.glob("*.partial*"))


@pytest.mark.parametrize("links", [True, False])
def test_create_leaves_what_another_process_made_meanwhile(
    path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def no_link(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    if not links:
        monkeypatch.setattr(os, "link", no_link)
    write = embedspace.catalog.store.schema._write_schema

    def meanwhile(*arguments: Any) -> None:
        write(*arguments)
        monkeypatch.setattr("embedspace.catalog.store.schema._write_schema", write)
        new_catalog(path).close()

    monkeypatch.setattr("embedspace.catalog.store.schema._write_schema", meanwhile)
    with pytest.raises(CatalogExistsError, match="exists already"):
        new_catalog(path)
    with Catalog.open(path) as catalog:
        assert catalog.verify().ok


def test_create_on_a_full_disk_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageFullError, match="the disk is full"):
        new_catalog(path)
    assert list(path.iterdir()) == []


# -- locks and full disks --------------------------------------------------------------------------------------------

LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


def test_locked_by_another_process_is_said_and_searching_works(path: Path) -> None:
    with new_catalog(path) as catalog:
        catalog.add(vector_items(random_units(20)))
    command = [sys.executable, "-c", LOCK, str(path / DATABASE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"locked\n"
        with Catalog.open(path, timeout=0.1) as catalog:
            with pytest.raises(CatalogLockedError, match=r"another process is writing.*wait for it"):
                catalog.add(vector_items(random_units(1, seed=1)))
            assert len(catalog.search(unit("q"), query_modality="text", k=50)[0]) == 20
        process.communicate()
    with Catalog.open(path) as catalog:
        assert catalog.add([CatalogItem("new", "image", [Segment("image", unit("n"))])]).added == 1


def test_full_disk_keeps_committed_rows(catalog: Catalog) -> None:
    catalog.add(vector_items(random_units(100)))
    pages = catalog.store.rows("PRAGMA page_count")[0][0]
    catalog.store.rows(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StorageFullError, match=r"disk is full.*intact.*Free some space"):
        catalog.add(vector_items(random_units(5000, seed=1), first=100))
    assert len(catalog) % 256 == 100 and catalog.verify().ok


def test_full_disk_while_writing_files(tmp_path: Path) -> None:
    with pytest.raises(StorageFullError), translated(tmp_path, "write"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_full_disk_while_writing_derived_files_is_no_error(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog.add(vector_items(random_units(50)))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("embedspace.catalog.index.packed._write", full)
    catalog.optimize()
    assert len(catalog.search(unit("q"), query_modality="text", k=99)[0]) == 50
    assert list(catalog.store.folder.glob("*partial*")) == []


def test_failed_batch_leaves_no_trace(catalog: Catalog) -> None:
    good = CatalogItem("good", "image", [Segment("image", unit("g"))])
    bad = CatalogItem("bad", "image", [Segment("image", unit("b") * 2)])
    with pytest.raises(InputError, match="norm 2"):
        catalog.add([good, bad])
    assert len(catalog) == 0 and catalog.verify().ok


# -- items -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vector", "message"),
    [(np.ones(3, np.float32), "length 3; this catalog holds 16"), (np.full(EMBED_DIM, np.nan, np.float32), "norm nan")],
)
def test_add_refuses_wrong_vectors(catalog: Catalog, vector: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        catalog.add([CatalogItem("x", "image", [Segment("image", vector)])])


def test_add_leaves_out_what_json_has_not(catalog: Catalog) -> None:
    facts = {"good": 1.5, "bad": float("nan"), "deep": {"bad": float("nan"), "good": [1, float("nan")]}}
    segments = [Segment("image", unit("z"))]
    catalog.add([CatalogItem("z", "image", segments, facts, facts={"found": float("inf"), "seen": 2})])
    assert next(catalog.items("good > 1")).metadata == {"good": 1.5, "deep": {"good": [1, None]}, "seen": 2}
    with pytest.raises(InputError, match=r"y: metadata 'deep\.far' is -inf; give a finite number, or leave it out"):
        catalog.add([CatalogItem("y", "image", [Segment("image", unit("y"))], {"deep": {"far": float("-inf")}})])
    assert catalog.verify(files=False).ok


def test_add_counts_new_changed_and_known(catalog: Catalog) -> None:
    def item(uri: str, content: str) -> CatalogItem:
        return CatalogItem(uri, "image", [Segment("image", unit(content))])

    assert catalog.add([item("a", "1"), item("b", "2"), item("c", "1")]).known == 1
    report = catalog.add([item("a", "3"), item("b", "2")])
    assert (report.added, report.updated, report.known) == (0, 1, 1)
    assert {item.uris for item in catalog.items()} == {("a",), ("b",), ("c",)}


def test_add_metadata_of_several_places_is_merged(catalog: Catalog) -> None:
    segment = Segment("image", unit("1"))
    catalog.add(
        [
            CatalogItem("a", "image", [segment], {"title": "first", "x": 1}, facts={"width": 5, "title": "fact"}),
            CatalogItem("b", "image", [segment], {"title": "second", "y": 2}),
        ]
    )
    assert next(catalog.items()).metadata == {"width": 5, "title": "first", "x": 1, "y": 2}
    catalog.remove(uris=["a"])
    assert next(catalog.items()).metadata == {"width": 5, "title": "second", "y": 2}


def test_remove_needs_one_way_to_say_what(catalog: Catalog) -> None:
    with pytest.raises(InputError):
        catalog.remove()
    with pytest.raises(InputError):
        catalog.remove("kind = 'image'", uris=["a"])


def test_vectors_come_in_order_and_by_id(catalog: Catalog) -> None:
    vectors = random_units(700)
    catalog.add(vector_items(vectors))
    ids, stored = catalog.vectors("image")
    np.testing.assert_allclose(stored, vectors, atol=1e-3)
    some, part = catalog.vectors(ids=[ids[3], ids[600]])
    assert some == [ids[3], ids[600]]
    np.testing.assert_array_equal(part, stored[[3, 600]])
    assert catalog.vectors("audio")[1].shape == (0, EMBED_DIM)


def test_info_counts(catalog: Catalog) -> None:
    catalog.add(vector_items(random_units(12), per_item=3))
    info = catalog.info()
    assert (info.items, info.uris, info.kinds, info.segments) == (4, 4, {"image": 4}, {"image": 12})
    assert info.fields == ("even", "number") and info.settings == "default" and info.size_bytes > 0
    assert info.indexes == {"image": "exact"} and not info.calibrated


# -- fingerprints ----------------------------------------------------------------------------------------------------


def test_fingerprint_of_another_encoder_is_refused(catalog: Catalog) -> None:
    catalog.add(vector_items(random_units(3)))
    catalog.check_fingerprint(HashEncoder().fingerprints())
    catalog.check_fingerprint({"image": HashEncoder().fingerprints()["image"], "smell": "1"})
    with pytest.raises(FingerprintMismatchError, match=r"audio: catalog \w{12}, encoder \w{12}.*catalog migrate"):
        catalog.check_fingerprint(HashEncoder({"audio": "2"}).fingerprints())


def test_fingerprint_of_an_empty_catalog_is_replaced(catalog: Catalog) -> None:
    newer = HashEncoder({"audio": "2"}).fingerprints()
    catalog.adopt_fingerprints(newer)
    assert catalog.fingerprints == newer


# -- verification ----------------------------------------------------------------------------------------------------


@pytest.fixture
def indexed(path: Path, tmp_path: Path) -> Iterator[Catalog]:
    folder = tmp_path / "media"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.png").write_bytes(b"picture %d" % number)
    (tmp_path / "rows.csv").write_text("id,text\na,one\n", encoding="utf-8")
    with new_catalog(path) as catalog:
        ingest(catalog, [folder, tmp_path / "rows.csv"], HashEncoder())
        yield catalog


def test_verify_sound_catalog(indexed: Catalog) -> None:
    report = indexed.verify()
    assert report.ok and (report.items, report.segments, report.files) == (6, 6, 6)


def test_verify_detects_a_changed_vector(indexed: Catalog) -> None:
    other = unit("tampered").astype("<f2").tobytes()
    indexed.store.connection.execute("UPDATE vectors SET vector = ? WHERE seq = 3", (other,))
    assert [problem.what for problem in indexed.verify(files=False).problems] == ["vector"]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE segments SET text = 'other' WHERE seq = 3",
        "UPDATE segments SET modality = 'audio' WHERE seq = 3",
        "UPDATE vectors SET vector = x'00' WHERE seq = 3",
        "DELETE FROM vectors WHERE seq = 3",
        "DELETE FROM segments WHERE seq = 3",
        "DELETE FROM uris WHERE place = 3",
        "UPDATE items SET content = '\"other\"' WHERE content IS NOT NULL",
        "DELETE FROM fingerprints",
        "PRAGMA foreign_keys = OFF; DELETE FROM items WHERE item = 3",
    ],
)
def test_verify_detects_tampering(indexed: Catalog, sql: str) -> None:
    indexed.store.connection.executescript(sql)
    assert not indexed.verify().ok


def test_verify_detects_missing_and_changed_files(indexed: Catalog, tmp_path: Path) -> None:
    (tmp_path / "media" / "1.png").unlink()
    facts = (tmp_path / "media" / "2.png").stat()
    (tmp_path / "media" / "2.png").write_bytes(b"PICTURE 2")
    os.utime(tmp_path / "media" / "2.png", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    problems = {(problem.what, Path(problem.where).name) for problem in indexed.verify().problems}
    assert problems == {("missing file", "1.png"), ("changed file", "2.png")}
    assert indexed.verify(files=False).ok


def test_verify_detects_a_damaged_packed_file(indexed: Catalog) -> None:
    indexed.optimize()
    file = indexed.store.folder / PACKED
    assert indexed.verify().ok
    content = file.read_bytes()
    file.write_bytes(content[:-5] + b"?" + content[-4:])
    assert [problem.what for problem in indexed.verify().problems] == ["derived file"]


# -- export ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_export_round_trip(indexed: Catalog, tmp_path: Path, suffix: str) -> None:
    segments = [Segment("text", unit("x"), 0.0, 3.0, "text “x”", "title"), Segment("audio", unit("y"))]
    indexed.add([CatalogItem("more", "audio", segments, {"year": 3})])
    file = tmp_path / f"out{suffix}"
    assert indexed.export(file) == 8
    with new_catalog(tmp_path / "copy.catalog") as copy:
        encoding = read_encoding(file)
        assert encoding.origin is not None and encoding.origin.fingerprints == indexed.fingerprints
        import_encoding(copy, encoding)
        assert [(item.id, item.uris, item.kind, item.metadata, item.segments) for item in copy.items()] == [
            (item.id, item.uris, item.kind, item.metadata, item.segments) for item in indexed.items()
        ]
        assert copy.vectors()[0] == indexed.vectors()[0]
        np.testing.assert_allclose(copy.vectors()[1], indexed.vectors()[1], atol=1e-3)
        hit = copy.search(unit("x"), query_modality="text", k=1)[0][0]
        assert (hit.text, hit.label, hit.start, hit.end) == ("text “x”", "title", 0.0, 3.0)


def test_export_npz(indexed: Catalog, tmp_path: Path) -> None:
    assert indexed.export(tmp_path / "out.npz") == 6
    with np.load(tmp_path / "out.npz", allow_pickle=False) as arrays:
        ids, vectors = indexed.vectors()
        np.testing.assert_array_equal(arrays["vectors"], vectors)
        assert arrays["ids"].tolist() == ids
        assert arrays["modalities"].tolist() == ["image"] * 5 + ["text"]
        assert np.isnan(arrays["starts"]).all()


def test_optimize_sweeps_what_killed_processes_left_half_written(indexed: Catalog) -> None:
    folder = indexed.store.folder
    names = (f".{Path(PACKED).stem}.99-1.partial.packed", "image.faiss.99-1.partial")  # of this version, and before
    for name in names:
        (folder / name).write_bytes(b"half a file")
    indexed.optimize()
    assert all((folder / name).exists() for name in names)  # their processes may still be writing
    for name in names:
        os.utime(folder / name, (1, 1))
    indexed.optimize()
    assert not list(folder.glob("*partial*"))


def test_export_unknown_suffix_and_no_leftovers(indexed: Catalog, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"known: \.parquet, \.npz, \.jsonl"):
        indexed.export(tmp_path / "out.xml")
    with pytest.raises(CatalogError):
        indexed.export(tmp_path / "no" / "folder.jsonl")
    assert list(tmp_path.glob("*partial*")) == []


# -- package and recipes ---------------------------------------------------------------------------------------------


def test_catalog_copied_elsewhere_works(catalog: Catalog, path: Path, tmp_path: Path) -> None:
    catalog.add(vector_items(random_units(9)))
    catalog.close()
    shutil.copytree(path, tmp_path / "copy.catalog")
    with Catalog.open(tmp_path / "copy.catalog") as copy:
        assert len(copy.search(unit("q"), query_modality="text", k=99)[0]) == 9
    catalog.store.connection = sqlite3.connect(":memory:")  # for the fixture to close


def test_package_exports_all_and_loads_no_faiss() -> None:
    for name in embedspace.catalog.__all__:
        assert getattr(embedspace.catalog, name).__name__ == name
    assert embedspace.catalog.Recipe is IndexSettings  # its old name
    code = (
        "import sys, embedspace.catalog as c; c.Catalog; c.IngestReport; import embedspace.catalog.ingest.ingest; "
        "assert not {'faiss', 'torch', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('index = "magic"', "allowed: exact, hnsw, ivf"),
        ("nlists = 3", "unknown key 'nlists'; known: .*nlist"),
        ('nlist = "many"', "nlist: must be a whole number, got 'many'"),
        ("nlist = -1", "must not be negative"),
        ("nlist = ", "not a TOML file"),
        ('device = "gpu"', "device = 'gpu'; allowed: cpu, cuda, cuda:1"),
        ("device = 1", "device: must be text, got 1"),
        ('index = "hnsw"\ndevice = "cuda"', "device = 'cuda' is for index = 'ivf', not 'hnsw'"),
    ],
)
def test_settings_errors(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        IndexSettings.from_toml(tmp_path / "r.toml")


def test_settings_round_trip(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('index = "hnsw"\nhnsw_m = 8\n', encoding="utf-8")
    settings = IndexSettings.from_toml(tmp_path / "mine.toml")
    assert (settings.name, settings.hnsw_m, settings.ef_search) == ("mine", 8, IndexSettings().ef_search)
    assert IndexSettings.from_json(settings.to_json()) == settings


def test_widened_is_what_numpy_converts() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)].reshape(-1, 2)
    np.testing.assert_array_equal(widened(finite), finite.astype(np.float32))
