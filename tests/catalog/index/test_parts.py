"""Packed parts: what closing writes, deletions, kills, damages, catalogs of before, and writing beside searches."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedspace.catalog import Catalog
from embedspace.catalog.index import local, merging, packed, parts
from embedspace.catalog.index.local import LocalIndex
from embedspace.catalog.index.parts import MANIFEST, PACKED, load_parts
from embedspace.catalog.index.runs import Rows, Run
from embedspace.catalog.index.sampling import sample
from embedspace.catalog.store.schema import DATABASE
from tests.support.catalog_encoder import new_catalog, random_units, vector_items

QUERY = random_units(1, seed=3)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rows are as many as thousands otherwise."""
    monkeypatch.setattr(local, "_UNSAVED_ROWS", 20)
    monkeypatch.setattr(local, "_FLUSHED_ROWS", 10_000)
    monkeypatch.setattr(parts, "SMALL", 100)
    monkeypatch.setattr(parts, "_MANY", 3)


def filled(path: Path, *counts: int) -> Path:
    """A catalog that was opened, given some items and closed, again and again."""
    new_catalog(path).close()
    first = 0
    for number, count in enumerate(counts):
        with Catalog.open(path) as catalog:
            catalog.add(vector_items(random_units(count, seed=number), first=first))
        first += count
    return path


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.glob("*.packed"))


def found(path: Path) -> list[str]:
    """Ids of all items, the nearest first; brute force agrees."""
    with Catalog.open(path, read_only=True) as catalog:
        hits = [hit.id for hit in catalog.search(QUERY, query_modality="text", k=2000)[0]]
        ids, vectors = catalog.vectors()
        scores = (vectors @ QUERY[0]).round(6)
        assert hits == [ids[row] for row in sorted(range(len(ids)), key=lambda row: (-scores[row], ids[row]))]
        assert catalog.verify().ok
    return hits


def test_closing_after_one_item_writes_nothing_packed(tmp_path: Path) -> None:
    path = filled(tmp_path / "c.catalog", 200)
    before = {file.name: (file.stat().st_mtime_ns, file.stat().st_size) for file in path.glob("vectors*")}
    with Catalog.open(path) as catalog:
        catalog.add(vector_items(random_units(1, seed=9), first=200))
    assert {file.name: (file.stat().st_mtime_ns, file.stat().st_size) for file in path.glob("vectors*")} == before
    assert len(found(path)) == 201


def test_more_items_are_a_part_of_their_own_and_small_parts_become_one(tmp_path: Path) -> None:
    path = filled(tmp_path / "c.catalog", 200)
    assert names(path) == [PACKED] and not (path / MANIFEST).exists()  # as earlier versions left it
    untouched = (path / PACKED).stat().st_mtime_ns
    counts = []
    for number in range(5):
        with Catalog.open(path) as catalog:
            catalog.add(vector_items(random_units(30, seed=10 + number), first=200 + 30 * number))
        counts.append(len(names(path)))
        assert len(found(path)) == 230 + 30 * number
    assert counts == [2, 3, 4, 2, 3]  # three small ones and a fourth became one; what they were is gone
    assert (path / PACKED).stat().st_mtime_ns == untouched


def test_deletions_are_noted_and_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filled(tmp_path / "c.catalog", 200, 40)

    def compare_all(*_: object) -> None:
        raise AssertionError("all segments were compared")

    monkeypatch.setattr("embedspace.catalog.index.synced.segment_numbers", compare_all)
    untouched = {name: (path / name).stat().st_mtime_ns for name in names(path)}
    with Catalog.open(path) as catalog, Catalog.open(path, read_only=True) as other:
        other.search(QUERY, query_modality="text")
        assert catalog.remove("number in (5, 7, 210)").items == 3
        for opened in (catalog, other):
            assert len(opened.search(QUERY, query_modality="text", k=400)[0]) == 237
    assert {name: (path / name).stat().st_mtime_ns for name in names(path)} == untouched
    assert len(found(path)) == 237
    with Catalog.open(path) as catalog:
        loaded = load_parts(catalog.store)
        assert loaded.deletions == 3 and sum(run.living for part in loaded.parts for _, run in part.runs()) == 237


def test_deletions_that_an_earlier_version_made_are_found_by_comparing(tmp_path: Path) -> None:
    path = filled(tmp_path / "c.catalog", 200)
    connection = sqlite3.connect(path / DATABASE)
    connection.executescript(
        "PRAGMA foreign_keys = ON; DELETE FROM segments WHERE seq IN (3, 4); DELETE FROM items WHERE item IN (3, 4); "
        "UPDATE meta SET value = value + 2 WHERE key = 'deletions'; "
        "UPDATE meta SET value = value + 1 WHERE key = 'revision'"
    )
    connection.close()
    assert len(found(path)) == 198
    with Catalog.open(path) as catalog:
        catalog.remove("number = 9")
    assert len(found(path)) == 197


def test_optimize_clears_away_what_was_deleted(tmp_path: Path) -> None:
    path = filled(tmp_path / "c.catalog", 200, 150, 120)
    with Catalog.open(path) as catalog:
        catalog.remove("number < 90")
        catalog.optimize()
        assert names(path) == [PACKED] and not (path / MANIFEST).exists()
        assert [part.packed.count for part in load_parts(catalog.store).parts] == [380]
        before = (path / PACKED).stat().st_mtime_ns
        catalog.optimize()
    assert (path / PACKED).stat().st_mtime_ns == before and len(found(path)) == 380


@pytest.mark.parametrize("name", [PACKED, MANIFEST, "second", "third"])
@pytest.mark.parametrize("damage", ["missing", "garbage", "flipped", "truncated"])
def test_damaged_parts_never_change_what_is_found(tmp_path: Path, name: str, damage: str) -> None:
    path = filled(tmp_path / "c.catalog", 200, 150, 40)
    with Catalog.open(path) as catalog:
        catalog.remove("number in (1, 2, 230, 370)")
    wanted = found(path)
    others = sorted((file for file in names(path) if file != PACKED), key=lambda file: int(file.split("-")[1]))
    file = path / {"second": others[0], "third": others[1]}.get(name, name)
    content = file.read_bytes()
    match damage:
        case "missing":
            file.unlink()
        case "garbage":
            file.write_bytes(b"EMBSPACK" + b"\xff" * 60)
        case "flipped":
            file.write_bytes(content[:-300] + bytes([content[-300] ^ 4]) + content[-299:])
        case _:
            file.write_bytes(content[:-9])
    with Catalog.open(path, read_only=True) as catalog:
        hits = catalog.search(QUERY, query_modality="text", k=400)[0]
        assert [hit.id for hit in hits] == wanted
        if damage != "missing":
            assert [problem.what for problem in catalog.verify().problems] == ["derived file"]
    with Catalog.open(path) as catalog:
        catalog.optimize()
    assert found(path) == wanted


def test_a_part_that_another_version_wrote_anew_is_used_alone(tmp_path: Path) -> None:
    path = filled(tmp_path / "c.catalog", 200, 150)
    other = filled(tmp_path / "d.catalog", 350)
    with Catalog.open(path) as catalog:
        catalog.remove("number = 0")
        identity = catalog.store.catalog_id
    connection = sqlite3.connect(other / DATABASE)
    raw = (other / PACKED).read_bytes()
    was = connection.execute("SELECT value FROM meta WHERE key = 'catalog_id'").fetchone()[0]
    connection.close()
    wanted = found(path)
    (path / PACKED).write_bytes(raw.replace(was.encode(), identity.encode()))
    # seen by its own header: 350 segments, no deletion; those that the database lacks must not be found
    assert set(found_ids(path)) <= set(wanted)


def found_ids(path: Path) -> list[str]:
    with Catalog.open(path, read_only=True) as catalog:
        return [hit.id for hit in catalog.search(QUERY, query_modality="text", k=400)[0]]


@pytest.mark.parametrize("step", ["after the part", "after the manifest"])
def test_a_kill_between_two_files_loses_nothing(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filled(tmp_path / "c.catalog", 200, 150)

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed), Catalog.open(path) as catalog:
        catalog.add(vector_items(random_units(60, seed=8), first=400))
        catalog.remove("number < 40")
        if step == "after the part":
            patch.setattr(local, "save_parts", killed)
        else:
            patch.setattr(LocalIndex, "_use", killed)
        catalog.optimize()
    assert len(found(path)) == 370
    with Catalog.open(path) as catalog:
        catalog.optimize()
    assert len(found(path)) == 370 and names(path)[-1] == PACKED


def test_rows_in_memory_become_a_part_while_searches_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_FLUSHED_ROWS", 100)
    path = filled(tmp_path / "c.catalog", 200)
    with Catalog.open(path) as catalog:
        index = catalog._index.current()
        assert isinstance(index, LocalIndex)
        for number in range(6):
            catalog.add(vector_items(random_units(70, seed=20 + number), first=200 + 70 * number))
            catalog.remove(f"number = {205 + 70 * number}")
            hits = catalog.search(QUERY, query_modality="text", k=900)[0]
            assert len(hits) == 200 + 69 * (number + 1)
        assert index._flushing is not None
        index._flushing.join()
        assert len(names(path)) > 1 and len(index.rows("image").runs) <= 1 + 6
        assert len(catalog.search(QUERY, query_modality="text", k=900)[0]) == 614
        stored = json.loads((path / MANIFEST).read_text())["body"]
        assert len(stored["parts"]) == len(names(path))
    assert len(found(path)) == 614


def test_a_reader_writes_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_FLUSHED_ROWS", 10)
    path = filled(tmp_path / "c.catalog", 200)
    with Catalog.open(path, read_only=True) as reader:
        reader.search(QUERY, query_modality="text")
        with Catalog.open(path) as catalog:
            catalog.add(vector_items(random_units(50, seed=5), first=200))
            assert len(reader.search(QUERY, query_modality="text", k=400)[0]) == 250
            assert names(path) == [PACKED]


def merging_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "_FAN", 3)
    monkeypatch.setattr(merging, "_SMALLEST", 150)


def test_parts_of_a_size_are_merged_after_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    merging_soon(monkeypatch)
    path = filled(tmp_path / "c.catalog", 120, 120)
    assert len(names(path)) == 2
    with Catalog.open(path) as catalog:
        catalog.remove("number in (3, 130)")
        catalog.add(vector_items(random_units(120, seed=2), first=240))
    assert len(names(path)) == 1 and len(found(path)) == 358
    with Catalog.open(path) as catalog:
        assert [part.packed.count for part in load_parts(catalog.store).parts] == [358]  # the dead are left out
    for number in range(3, 9):
        with Catalog.open(path) as catalog:
            catalog.add(vector_items(random_units(120, seed=number), first=120 * number))
    with Catalog.open(path) as catalog:
        assert [part.packed.count for part in load_parts(catalog.store).parts] == [1078]
    assert len(found(path)) == 1078


def test_what_is_deleted_or_added_during_a_merge_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filled(tmp_path / "c.catalog", 120, 120, 120, 120)
    merging_soon(monkeypatch)
    real = merging.merged_part
    with Catalog.open(path) as catalog:
        index = catalog._index.current()
        assert isinstance(index, LocalIndex)

        def meanwhile(*arguments: Any) -> Any:
            part = real(*arguments)
            catalog.remove("number in (0, 250, 479)")
            catalog.add(vector_items(random_units(30, seed=7), first=480))
            assert len(catalog.search(QUERY, query_modality="text", k=900)[0]) == 507
            return part

        monkeypatch.setattr(local, "merged_part", meanwhile)
        index.build(0)
        monkeypatch.setattr(local, "merged_part", real)
        assert len(names(path)) == 1 and len(index.rows("image").runs) == 2
        assert len(catalog.search(QUERY, query_modality="text", k=900)[0]) == 507
        catalog.close()
    assert len(found(path)) == 507


def test_a_merge_that_is_killed_leaves_the_parts_that_there_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled(tmp_path / "c.catalog", 120, 120, 120)
    merging_soon(monkeypatch)
    with Catalog.open(path) as catalog:
        index = catalog._index.current()
        monkeypatch.setattr(local, "save_parts", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            index.build(0)
        monkeypatch.undo()
    assert len(found(path)) == 360 and len(names(path)) == 4  # the new one is swept up later
    with Catalog.open(path, read_only=True) as reader:
        assert len(load_parts(reader.store).parts) == 3


@pytest.mark.parametrize("dead", [0, 30, 390])
def test_what_a_sample_may_draw_lies_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dead: int) -> None:
    for module in ("packed", "parts", "sampling.sample"):
        monkeypatch.setattr(f"embedspace.catalog.index.{module}.DRAWN", 60)
    monkeypatch.setattr(packed, "_DRAWN_ABOVE", 300)
    monkeypatch.setattr(sample, "SAMPLE", 40)
    path = filled(tmp_path / "c.catalog", 400)
    with Catalog.open(path) as catalog:
        catalog.remove(f"number < {dead}")
        index = catalog._index.current()
        assert isinstance(index, LocalIndex)
        rows = index.rows("image")
        assert rows.runs[0].draws[60].rows is not None  # from the file
        if dead < 390:
            monkeypatch.setattr(Run, "take", lambda *_: 1 / 0)  # nothing is read from all over the file
        drawn = sample.sample_of(rows)
        monkeypatch.undo()
        assert len(drawn.rows) == (40 if dead < 390 else 10)
    with monkeypatch.context() as patch:
        patch.setattr(sample, "SAMPLE", 40)
        plain = sample.sample_of(Rows([Run(run.rows, run.alive) for run in rows.runs]))
    for name in ("rows", "seq", "starts", "vectors"):
        np.testing.assert_array_equal(getattr(drawn, name), getattr(plain, name))


def test_damage_of_what_a_sample_may_draw_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_DRAWN_ABOVE", 300)
    path = filled(tmp_path / "c.catalog", 400)
    content = (path / PACKED).read_bytes()
    (path / PACKED).write_bytes(content[:-5] + bytes([content[-5] ^ 4]) + content[-4:])
    with Catalog.open(path, read_only=True) as reader:
        assert not load_parts(reader.store).parts
        assert [problem.what for problem in reader.verify().problems] == ["derived file"]
