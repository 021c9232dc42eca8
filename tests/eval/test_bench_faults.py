"""The fault bench runs, counts what it did, and sees a fault that is planted."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from embedspace.catalog import Catalog
from embedspace.catalog.index import local
from embedspace.catalog.index.parts import load_parts
from eval.bench.faults import __main__ as faults
from eval.bench.faults import damages, hostile, hostile_files, kills, mutants, readers
from eval.bench.faults.samples import mutated, tables, write_samples
from eval.bench.faults.trials import Plan


def test_faults_merges_its_parts_into_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("damages", "readers"):
        monkeypatch.setattr("sys.argv", ["faults", "--only", part, "--scale", "0.01", "--out", str(tmp_path)])
        assert faults.main() == 0
    written = json.loads((tmp_path / "faults.json").read_text("utf-8"))
    assert written["damages"]["trials"] == 3 and written["readers"]["searches"] > 0
    assert [json.loads(line)["part"] for line in capsys.readouterr().out.splitlines()] == ["damages", "readers"]


def test_faults_kills_writers_and_finds_what_they_left_whole(tmp_path: Path) -> None:
    tally = kills.kills(Plan(tmp_path, 0, 0.01))
    assert (tally.trials, tally.wrong) == (3, [])
    assert local._FLUSHED_ROWS == 20_000  # as before


def test_faults_merges_parts_and_extends_codes_in_what_it_kills(tmp_path: Path) -> None:
    path = tmp_path / "c"
    kills.new_catalog(path, kills.CODED).close()
    with kills._often():
        kills._in_sessions(path)
        with Catalog.open(path) as catalog:
            assert len(load_parts(catalog.store).parts) < 4
        kills._extend(path)
    with Catalog.open(path, read_only=True) as catalog:
        assert catalog.info().indexes["image"].startswith("ivf, pq4: 160 vectors") and len(catalog) == 160
        assert catalog.verify(files=False).ok


def test_faults_sees_what_a_killed_writer_left_half_done(tmp_path: Path) -> None:
    path = tmp_path / "c"
    kills.new_catalog(path).close()
    write = kills._Write("add", path, kills._add)
    kills._add(path)
    with Catalog.open(path) as catalog:
        content = kills.content_of(catalog)
        assert kills._aftermath(write, path, content) == ""
        catalog.remove(uris=["item/7"])
        catalog.add(kills.written_items(1, 99))
        assert "differs from one that was never killed" in kills._aftermath(write, path, content)
        catalog.store.rows("DELETE FROM vectors WHERE seq = 5")
    assert kills._aftermath(write, path, content).startswith("verify: Problem")


def test_faults_sees_silent_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind:
        problems = ()

    monkeypatch.setattr(Catalog, "verify", lambda self, files=True: Blind())
    monkeypatch.setattr(damages, "_damage", _other_metadata)
    tally = damages.damages(Plan(tmp_path, 0, 0.004))
    assert tally.outcomes == {"database: silently wrong": 1} and len(tally.wrong) == 1


def _other_metadata(file: Path, draws: np.random.Generator) -> str:
    import sqlite3

    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE items SET metadata = '{}'")
    connection.close()
    return "metadata emptied"


def test_faults_mutants_are_read_or_refused(tmp_path: Path) -> None:
    tally = mutants.mutants(Plan(tmp_path, 0, 0.006, fake=True))
    assert (tally.trials, tally.wrong) == (60, [])
    assert tally.outcomes["refused"] > 5 and tally.outcomes["read"] > 5


def test_faults_count_a_reader_that_dies_or_is_slow() -> None:
    found = {
        "number": 3,
        "suffix": ".png",
        "how": "cut",
        "outcome": "refused",
        "said": "",
        "seconds": 0.1,
        "gigabytes": 1.0,
    }
    assert mutants._wrong(found) == ""
    assert "11.0 s" in mutants._wrong(found | {"seconds": 11.0})
    assert "2.1 GB" in mutants._wrong(found | {"gigabytes": 2.1})
    assert "KeyError: 'id'" in mutants._wrong(found | {"outcome": "unexpected", "said": "KeyError: 'id'"})


def test_samples_cover_every_suffix_that_is_read(tmp_path: Path) -> None:
    from embedspace.catalog.places import MANIFEST_SUFFIXES
    from embedspace.modality import SUFFIXES

    files = [*write_samples(tmp_path / "samples"), *tables(tmp_path, "a.png")]
    aliases = {".oga", ".md", ".rst", ".ndjson", ".jfif", ".jpe", ".m4v"}
    assert {file.suffix for file in files} | aliases >= {*SUFFIXES, *MANIFEST_SUFFIXES}
    raw = files[0].read_bytes()
    assert len({mutated(raw, [raw], np.random.default_rng(seed))[0] for seed in range(30)}) > 25


def test_hostile_cases_are_judged_by_code_words_time_and_memory(tmp_path: Path) -> None:
    case = hostile_files.Case("x", lambda folder: [], (1,), "not a regular file")
    ended = hostile._Ended(1, "a: not a regular file", 3.0, 1.0, False)
    assert hostile._wrong(case, ended) == ""
    for change in (
        {"code": 70}, {"said": "nothing"}, {"processor": 99.0}, {"gigabytes": 2.5}, {"late": True},
        {"said": "not a regular file, unexpected KeyError"},
    ):  # fmt: skip
        assert hostile._wrong(case, hostile._Ended(**{**_facts(ended), **change})), change


def _facts(ended: hostile._Ended) -> dict[str, object]:
    return {name: getattr(ended, name) for name in ended.__slots__}


def test_hostile_files_are_made_and_one_of_them_is_met(tmp_path: Path) -> None:
    for number, case in enumerate(hostile_files.CASES):
        if case.name not in ("ten hours of FLAC", "four pictures of 177 megapixels"):
            folder = tmp_path / f"{number}"
            folder.mkdir()
            assert (
                "{catalog}" in case.make(folder)
                or "embed" in case.make.__qualname__
                or "config" in case.make.__qualname__
            )
    ended = hostile._run([sys.executable, "-m", "embedspace.cli", "catalog", "info", "nowhere"], tmp_path)
    assert ended.code == 2 and "no catalog here" in ended.said and 0 < ended.gigabytes < 1


def test_readers_see_part_of_a_transaction(tmp_path: Path) -> None:
    with kills.new_catalog(tmp_path / "c") as catalog:
        catalog.add(readers.written_items(readers._FIRST + 3))
        assert "part of a transaction" in readers._check(catalog, 0)
        catalog.remove(uris=["item/0"])
        assert "not the first hit" in readers._check(catalog, 0)
