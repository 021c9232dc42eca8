"""Folders of encoded items: every format, what is wrong with them said in one line, and a killed import resumed."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import embedspace.catalog.bulk.adding
import embedspace.catalog.bulk.arrays
import embedspace.catalog.bulk.lines
import embedspace.catalog.bulk.parquet
import embedspace.catalog.bulk.tar
from embedspace.catalog import Catalog
from embedspace.catalog.bulk.importing import import_encoding, read_encoding
from embedspace.catalog.bulk.origin import FILE, Origin
from embedspace.catalog.store.schema import DATABASE
from embedspace.errors import FingerprintMismatchError, InputError
from eval.bench.faults.small_catalog import content_of
from tests.support.catalog_encoder import EMBED_DIM, HashEncoder, new_catalog, random_units, vector_items

COUNT, PER_ITEM = 60, 3


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A catalog of twenty items of three segments, as one parquet file, and all that it holds."""
    folder = tmp_path_factory.mktemp("source")
    with new_catalog(folder / "source.catalog") as catalog:
        catalog.add(vector_items(random_units(COUNT), per_item=PER_ITEM))
        catalog.export(folder / "all.parquet")
        return folder / "all.parquet", content_of(catalog)


def rows_of(parquet: Path) -> tuple[list[dict[str, Any]], np.ndarray]:
    rows = pq.read_table(parquet).to_pylist()
    return rows, np.asarray([row.pop("vector") for row in rows], np.float32)


def write_parquet(folder: Path, parquet: Path) -> None:
    table = pq.read_table(parquet)
    for number, first in enumerate(range(0, COUNT, 24)):
        pq.write_table(table.slice(first, 24), folder / f"part-{number}.parquet", row_group_size=7)


def write_foreign_parquet(folder: Path, parquet: Path) -> None:
    """Metadata as columns, vectors as lists of any length, no origin but that of the folder."""
    rows, vectors = rows_of(parquet)
    facts = [json.loads(row.pop("metadata")) for row in rows]
    columns = {name: [row[name] for row in rows] for name in rows[0] if name != "modality"}
    columns |= {name: [fact[name] for fact in facts] for name in facts[0]}
    table = pa.table({**columns, "embedding": [row.tolist() for row in vectors.astype(np.float64)]})
    pq.write_table(table, folder / "all.parquet")
    _say_origin(folder)


def write_arrays(folder: Path, parquet: Path) -> None:
    rows, vectors = rows_of(parquet)
    for number, first in enumerate(range(0, COUNT, 30)):
        np.save(folder / f"{number}.npy", vectors[first : first + 30])
        lines = [json.dumps(row) for row in rows[first : first + 30]]
        (folder / f"{number}.jsonl").write_text("\n".join(lines) + ("\n" if number else ""), "utf-8")
    _say_origin(folder)


def write_lines(folder: Path, parquet: Path) -> None:
    """As `catalog export` writes them, beside a manifest, which is none of them."""
    rows, vectors = rows_of(parquet)
    for number, first in enumerate(range(0, COUNT, 30)):
        some = zip(rows[first : first + 30], vectors[first : first + 30].tolist(), strict=True)
        lines = [json.dumps({**row, "metadata": json.loads(row["metadata"]), "vector": vector}) for row, vector in some]
        (folder / f"{number}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "manifest.jsonl").write_text(json.dumps({"path": "a.jpg"}), "utf-8")
    _say_origin(folder)


def write_tar(folder: Path, parquet: Path) -> None:
    rows, vectors = rows_of(parquet)
    with tarfile.open(folder / "00000.tar", "w") as archive:
        for number, (row, vector) in enumerate(zip(rows, vectors, strict=True)):
            file = io.BytesIO()
            np.save(file, vector)
            row["metadata"] = json.loads(row["metadata"])
            members = {"jpg": b"no matter", "clip.npy": file.getvalue(), "json": json.dumps(row).encode()}
            for suffix, raw in members.items():
                facts = tarfile.TarInfo(f"some/{number:05}.{suffix}")
                facts.size = len(raw)
                archive.addfile(facts, io.BytesIO(raw))
    _say_origin(folder)


def _say_origin(folder: Path) -> None:
    origin = Origin(EMBED_DIM, HashEncoder().fingerprints())
    (folder / FILE).write_text(origin.to_json(), "utf-8")


def imported(catalog: Catalog, folder: Path, modality: str = "image") -> Any:
    return import_encoding(catalog, read_encoding(folder, modality=modality))


@pytest.mark.parametrize("write", [write_parquet, write_foreign_parquet, write_arrays, write_lines, write_tar])
def test_every_format_makes_the_same_catalog(
    source: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    write: Callable[[Path, Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    readers = (embedspace.catalog.bulk.arrays, embedspace.catalog.bulk.lines, embedspace.catalog.bulk.tar)
    for module in (*readers, embedspace.catalog.bulk.parquet):
        monkeypatch.setattr(module, "_ROWS", 7)  # which divides items
    folder = tmp_path / "parts"
    folder.mkdir()
    write(folder, source[0])
    with new_catalog(tmp_path / "c.catalog") as catalog:
        report = imported(catalog, folder)
        assert (report.added, report.known, report.resumed) == (COUNT // PER_ITEM, 0, 0)
        found = content_of(catalog)
        if write is write_tar:  # samples have a key
            assert {item[2].pop("key")[:5] for item in found["items"].values()} == {"some/"}
        assert found == source[1]
        assert catalog.verify(files=False).ok
        assert imported(catalog, folder).known == COUNT // PER_ITEM  # nothing twice
        assert content_of(catalog)["items"].keys() == source[1]["items"].keys()


def test_import_goes_on_where_it_was_killed(
    source: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, path = tmp_path / "parts", tmp_path / "c.catalog"
    folder.mkdir()
    write_parquet(folder, source[0])
    new_catalog(path).close()
    program = (
        "import sys, time, embedspace.catalog.bulk.adding as adding\n"
        "from embedspace.catalog import Catalog\n"
        "from embedspace.catalog.bulk.importing import import_encoding, read_encoding\n"
        "adding.BATCH = 6\n"
        "with Catalog.open(sys.argv[1]) as catalog:\n"
        "    import_encoding(catalog, read_encoding(sys.argv[2]), callback=lambda now: time.sleep(0.1))\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program, path, folder], cwd=Path(__file__).parents[2])
    with Catalog.open(path, read_only=True) as catalog:
        while len(catalog) < 10:  # in the middle of the second file
            time.sleep(0.01)
            assert child.poll() is None
    child.send_signal(signal.SIGKILL)
    child.wait()
    monkeypatch.setattr(embedspace.catalog.bulk.adding, "BATCH", 6)
    with Catalog.open(path) as catalog:
        kept = len(catalog)
        assert 10 <= kept < 20 and catalog.verify(files=False).ok
        report = imported(catalog, folder)
        assert (report.added, report.known, report.resumed) == (20 - kept, 0, kept * PER_ITEM)
        assert content_of(catalog) == source[1]
        assert catalog.store.rows("SELECT * FROM imports") == []


def test_file_that_changed_since_is_read_from_its_start(
    source: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedspace.catalog.bulk.adding, "BATCH", 6)
    folder = tmp_path / "parts"
    folder.mkdir()
    write_arrays(folder, source[0])
    good = (folder / "1.npy").read_bytes()
    vectors = np.load(folder / "1.npy")
    vectors[20] = np.nan
    np.save(folder / "1.npy", vectors)
    with new_catalog(tmp_path / "c.catalog") as catalog:
        with pytest.raises(InputError, match=r"1\.npy: row 21: a vector of norm nan"):
            imported(catalog, folder)
        kept = len(catalog)
        assert kept == 16 and catalog.verify(files=False).ok
        (folder / "1.npy").write_bytes(good)
        os.utime(folder / "1.npy", ns=(1, 2**62))
        report = imported(catalog, folder)
        assert (report.added, report.known, report.resumed) == (4, 6, 30)
        assert content_of(catalog) == source[1]


def _parquet(**columns: Any) -> Callable[[Path], None]:
    vectors = random_units(3)
    columns = {"modality": ["image"] * 3, "id": ["a", "b", "c"], "vector": list(vectors.tolist())} | columns
    kept = {name: column for name, column in columns.items() if column is not None}
    return lambda folder: pq.write_table(pa.table(kept), folder / "a.parquet")


def _twice(folder: Path) -> None:
    _parquet()(folder)
    (folder / "b.parquet").write_bytes((folder / "a.parquet").read_bytes())


def _mixed(folder: Path) -> None:
    _parquet()(folder)
    np.save(folder / "b.npy", random_units(2, embed_dim=8))
    (folder / "b.jsonl").write_text('{"modality": "image"}\n' * 2)


def _array(vectors: Any, lines: str | None) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        np.save(folder / "a.npy", vectors)
        if lines is not None:
            (folder / "a.jsonl").write_text(lines)

    return write


UNIT = [1.0, *[0.0] * 15]


def _lines(*records: dict[str, Any]) -> Callable[[Path], Any]:
    return lambda folder: (folder / "b.jsonl").write_text("\n".join(map(json.dumps, records)), "utf-8")


def _tar(**members: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        with tarfile.open(folder / "a.tar", "w") as archive:
            for suffix, raw in members.items():
                facts = tarfile.TarInfo(f"0.{suffix}")
                facts.size = len(raw)
                archive.addfile(facts, io.BytesIO(raw))

    return write


def _cut(folder: Path) -> None:
    _tar(json=b'{"x": 1}' * 1000)(folder)
    (folder / "a.tar").write_bytes((folder / "a.tar").read_bytes()[:2000])


def _samples(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Write a tar of five samples, a header and a vector of 512 bytes each, then its end, changed."""

    def write(folder: Path) -> None:
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w") as archive:
            for number, vector in enumerate(random_units(5)):
                array = io.BytesIO()
                np.save(array, vector)
                facts = tarfile.TarInfo(f"{number}.npy")
                facts.size = array.tell()
                archive.addfile(facts, io.BytesIO(array.getvalue()))
        (folder / "a.tar").write_bytes(change(raw.getvalue()))

    return write


def _catalog(folder: Path) -> None:
    (folder / DATABASE).write_bytes(b"")


def _other_space(folder: Path) -> None:
    _parquet()(folder)
    (folder / FILE).write_text(Origin(EMBED_DIM, {"image": "f" * 64}).to_json())


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda folder: None, r"nothing to import; known: \.parquet"),
        (_catalog, "a catalog, which is not imported; write it out first: embedspace catalog export"),
        (lambda folder: (folder / "vectors.packed").touch(), r"a part of a catalog \(vectors.packed\)"),
        (_parquet(vector=None, x=[1, 2, 3]), r"no column 'vector' \(or 'embedding'\); it has: modality, id, x"),
        (_parquet(vector=[1.0, 2.0, 3.0]), "column 'vector' is of type double; expected lists of float"),
        (_parquet(vector=[[1.0] * 8] * 3), "vectors of length 8; .* holds 16"),
        (_parquet(vector=[[1.0] + [0.0] * 15, [1.0], None]), "row 2: a vector of length 1; those before it have 16"),
        (_parquet(vector=[[float("nan")] * 16] * 3), "row 1: a vector of norm nan"),
        (_parquet(modality=None), "no column 'modality' .* say it with modality .--modality.; it has: id, vector"),
        (_parquet(modality=["image", None, "image"]), "row 2: no modality"),
        (_parquet(modality=["smell"] * 3), "nothing says which encoder made its smell vectors"),
        (
            _parquet(id=["a", "b", "a"]),
            "row 3: id [0-9a-f]{32} is in the catalog, or in an earlier row, with ",
        ),
        (_parquet(start=[0.0, 1.0, float("nan")]), "row 3: a segment's bound is nan"),
        (_parquet(metadata=["{}", "[]", "{}"]), "row 2: 'metadata' is '\\[\\]'; expected a JSON object"),
        (lambda folder: (folder / "a.parquet").write_bytes(b"PAR1 no"), r"a\.parquet: cannot be read"),
        (_twice, r"b\.parquet: the same as .*a\.parquet, written twice; delete one of them"),
        (_mixed, r"b\.npy: vectors of length 8, those of .*a\.parquet have 16"),
        (_other_space, r"its vectors are of another encoder than those of .* \(image: catalog [0-9a-f]{12}, here ffff"),
        (lambda folder: (folder / FILE).write_text("{}") and _parquet()(folder), "does not say which encoder"),
        (_array(random_units(2), None), r"no a\.jsonl beside it"),
        (_array(random_units(2), "{}\n"), r"a\.jsonl: 1 lines for the 2 rows of a\.npy"),
        (_array(random_units(2), "{}\n{]\n"), r"a\.jsonl: line 2: no JSON"),
        (_array(random_units(2), "{}\n{}"), "row 1: no 'modality'; say it with modality .--modality."),
        (_array(random_units(2), '{"modality": "image"}\n[1]'), "row 2: .* expected an object"),
        (_array(random_units(1), '{"modality": "image", "start": "x"}'), "'start' is 'x'; expected a number"),
        (_array(random_units(1), '{"modality": "image", "uri": [1]}'), "'uri' is .* expected a text"),
        (_array(random_units(1)[0], "{}"), r"an array of shape \(16,\) and type float32"),
        (_array(np.asarray([{}], object), "{}"), r"a\.npy: cannot be read"),
        (_lines({"vector": UNIT}, {"x": 1}), r"b\.jsonl: row 2: no 'vector' \(or 'embedding'\)"),
        (_lines({"vector": UNIT}, {"vector": [1.0]}), "row 2: a vector of length 1; those before it have 16"),
        (_lines({"vector": UNIT}, {"vector": ["x"]}), "row 2: 'vector' is no list of numbers"),
        (_lines({"vector": [0.0] * 16, "modality": "image"}), "row 1: a vector of norm 0"),
        (_lines({"x": 1}), r"nothing to import; known: \.parquet"),
        (_tar(json=b"{}"), "sample '0' has no .npy member, its vector"),
        (_tar(npy=b"no array"), "sample '0': "),
        (_cut, r"a\.tar: cannot be read"),
        (_samples(lambda raw: raw[:3072]), r"a\.tar: cannot be read: damaged or cut off after 3072 bytes \(empty"),
        (
            _samples(lambda raw: raw[:2048] + b"\xff" * 512 + raw[2560:]),
            "damaged or cut off after 2048 bytes .bad checks",
        ),
        (_samples(lambda raw: raw[:3300]), r"a\.tar: cannot be read: .*(truncated|unexpected end)"),
        (_parquet(weight=[1.0, float("inf"), 2.0]), "metadata 'weight': inf; give finite numbers, or leave it out"),
    ],
)
def test_wrong_files_are_one_line_and_nothing_is_written(
    tmp_path: Path, write: Callable[[Path], Any], message: str
) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    write(folder)
    with new_catalog(tmp_path / "c.catalog") as catalog:
        catalog.add(vector_items(random_units(1, 5), first=900))
        before = content_of(catalog)
        with pytest.raises((InputError, FingerprintMismatchError), match=message) as caught:
            imported(catalog, folder, modality="")
        assert "\n" not in str(caught.value)
        assert content_of(catalog) == before


def test_command_makes_a_catalog_of_exports_and_says_what_it_lacks(
    source: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from embedspace.cli.app import main

    path = str(tmp_path / "made.catalog")
    assert main(["catalog", "import", str(source[0]), path, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["added"], said["items"], said["files"]) == (20, 20, 1)
    with Catalog.open(path) as catalog:
        assert catalog.fingerprints == dict(HashEncoder().fingerprints())
        assert content_of(catalog) == source[1]
    assert main(["catalog", "import", str(source[0]), path]) == 0
    assert "1 files: 0 added, 0 updated, 20 known already; 20 items in" in capsys.readouterr().out
    bare = tmp_path / "bare.parquet"
    pq.write_table(pq.read_table(source[0]).replace_schema_metadata(None), bare)
    assert main(["catalog", "import", str(bare), str(tmp_path / "no.catalog")]) == 2
    assert "name their space with --space, so that" in capsys.readouterr().err
    assert not (tmp_path / "no.catalog").exists()
    assert main(["catalog", "import", str(bare), path]) == 0
    assert "nothing says which encoder made its vectors; taken for the catalog's" in capsys.readouterr().err


def test_origin_survives_its_own_writing() -> None:
    origin = Origin(8, {"image": "a"}, '{"x": 1}')
    assert Origin.from_json(origin.to_json(), Path("x")) == origin
    assert dataclasses.replace(origin, calibration_json="") != origin
