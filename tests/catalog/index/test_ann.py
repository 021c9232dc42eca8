"""The index as a file: mapped, extended, damaged, made by an earlier version, built beside searches, killed."""

from __future__ import annotations

import dataclasses
import json
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from embedspace.catalog import Catalog, IndexSettings
from embedspace.catalog.index import local, upkeep
from embedspace.catalog.index.ann import files
from embedspace.catalog.index.ann.built import build_index, extended, kind_of
from embedspace.catalog.index.ann.files import facts_path, index_path, load_index, save_index
from embedspace.catalog.index.ann.lists import sound_lists
from embedspace.catalog.index.ann.probing import held_out, measured, probed_for
from embedspace.catalog.index.ann.search import exact_is_cheaper, search_index
from embedspace.catalog.index.local import LocalIndex
from embedspace.catalog.index.runs import Rows
from embedspace.catalog.index.upkeep import Moment
from embedspace.catalog.store.vectors import SegmentRows
from tests.support.catalog_encoder import new_catalog, random_units, vector_items

SMALL = IndexSettings(name="small", min_vectors=200, nlist=16, quantizer="sq8")
KINDS = [dataclasses.replace(SMALL, quantizer=kind) for kind in ("pq4", "sq8", "none")]


def rows_of(vectors: NDArray[np.float32], gap: int = 3) -> Rows:
    """One run of items of one segment, sequence numbers with gaps."""
    seq = gap * np.arange(1, len(vectors) + 1, dtype=np.int64)
    key = np.stack([np.zeros(len(seq), np.uint64), seq.astype(np.uint64)], axis=1)
    return Rows.of(SegmentRows(seq, seq, key, vectors.astype(np.float16)))


def first(rows: Rows, count: int) -> Rows:
    run = rows.runs[0].rows
    return Rows.of(SegmentRows(run.seq[:count], run.item[:count], run.key[:count], run.vectors[:count]))


def ids_in(index: object) -> list[int]:
    lists = index.invlists
    return sorted(
        seq
        for cell in range(lists.nlist)
        if lists.list_size(cell)
        for seq in faiss.rev_swig_ptr(lists.get_ids(cell), lists.list_size(cell)).tolist()
    )


@pytest.mark.parametrize("settings", KINDS, ids=lambda one: one.quantizer)
def test_mapped_index_finds_what_the_one_in_memory_finds(tmp_path: Path, settings: IndexSettings) -> None:
    rows, queries = rows_of(random_units(1500)), random_units(10, seed=4)
    built = dataclasses.replace(build_index(rows, settings), nprobe=5, recall=0.97)
    path = index_path(tmp_path, "image")
    assert save_index(built, path, "me", rows.embed_dim)
    loaded = load_index(path, settings, "me", rows.embed_dim)
    assert loaded is not None
    for name in ("built_at", "size", "cells", "kind", "trained", "nprobe", "overfetch", "recall"):
        assert getattr(loaded, name) == getattr(built, name), name
    for one, other in zip(search_index(built, rows, queries, 10), search_index(loaded, rows, queries, 10), strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)
    assert ids_in(loaded.index) == rows.seq.tolist() and sound_lists(path)
    assert faiss.downcast_InvertedLists(loaded.index.invlists).prefetch_nthread == 0  # else 32 threads start per search
    assert load_index(path, settings, "another", rows.embed_dim) is None
    assert load_index(path, dataclasses.replace(settings, nlist=17), "me", rows.embed_dim) is None


@pytest.mark.parametrize("settings", KINDS, ids=lambda one: one.quantizer)
def test_extended_index_has_what_lives_and_nothing_else(tmp_path: Path, settings: IndexSettings) -> None:
    vectors = random_units(1700)
    rows = rows_of(vectors)
    path = index_path(tmp_path, "image")
    built = build_index(first(rows, 1500), settings)
    save_index(built, path, "me", rows.embed_dim)
    mapped = load_index(path, settings, "me", rows.embed_dim)
    assert mapped is not None
    few = extended(mapped, Rows([rows.runs[0].without(np.arange(0, 1500, 100))]))
    assert ids_in(few.index) == rows.seq.tolist() and few.size == 1700  # those few are not worth it
    gone = rows.runs[0].without(np.arange(0, 1500, 7))
    more = extended(mapped, Rows([gone]))
    assert ids_in(more.index) == gone.rows.seq[gone.alive].tolist() and more.size == gone.living
    assert ids_in(mapped.index) == first(rows, 1500).seq.tolist()  # as it was
    save_index(more, path, "me", rows.embed_dim)
    again = load_index(path, settings, "me", rows.embed_dim)
    assert again is not None and (again.size, again.built_at) == (gone.living, rows.last_seq)
    every = dataclasses.replace(again, nprobe=16, overfetch=400)
    found = search_index(every, Rows([gone]), vectors[1600:1610], 1)
    assert [int(best.rows[0]) for best in found] == list(range(1600, 1610))
    near = [search_index(dataclasses.replace(every, overfetch=30), Rows([gone]), vectors[[row]], 1)[0].rows[0]
            for row in range(1, 1500, 7)]  # fmt: skip
    assert near == list(range(1, 1500, 7))  # codes are where their numbers are


def test_damaged_cells_are_found_by_verify_and_never_end_a_search(tmp_path: Path) -> None:
    with new_catalog(tmp_path / "c.catalog", SMALL) as catalog:
        catalog.add(vector_items(random_units(400)))
    file = tmp_path / "c.catalog" / "image.faiss"
    content = bytearray(file.read_bytes())
    content[-5000:] = random.Random(0).randbytes(5000)
    file.write_bytes(content)
    with Catalog.open(tmp_path / "c.catalog", read_only=True) as catalog:
        for query in random_units(20, seed=9):
            catalog.search(query, query_modality="text", k=10)
        assert [(one.what, one.where) for one in catalog.verify().problems] == [("derived file", "image.faiss")]
    file.unlink()
    with Catalog.open(tmp_path / "c.catalog") as catalog:
        catalog.optimize()
        assert catalog.verify().ok


def test_no_search_and_no_reader_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.catalog"
    with new_catalog(path, SMALL) as catalog:
        catalog.add(vector_items(random_units(400)))
    (path / "image.faiss").unlink()

    def refuse(*_: object) -> None:
        raise AssertionError("built")

    monkeypatch.setattr(upkeep, "build_index", refuse)
    for read_only in (True, False):
        with Catalog.open(path, read_only=read_only) as catalog:
            assert len(catalog.search(random_units(1, seed=5), query_modality="text", k=10)[0]) == 10
            assert catalog.info().indexes["image"] == "ivf, sq8: not built yet"
    assert not (path / "image.faiss").exists()


def test_reader_uses_the_index_that_a_writer_made_meanwhile(tmp_path: Path) -> None:
    path, query = tmp_path / "c.catalog", random_units(1, seed=5)
    new_catalog(path, SMALL).close()
    with Catalog.open(path) as writer, Catalog.open(path, read_only=True) as reader:
        writer.add(vector_items(random_units(400)))
        reader.search(query, query_modality="text")
        assert reader.info().indexes["image"] == "ivf, sq8: not built yet"
        writer.optimize()
        reader.search(query, query_modality="text")
        assert reader.info().indexes["image"].startswith("ivf, sq8: 400 vectors")
        writer.add(vector_items(random_units(50, seed=8), first=400))
        writer.optimize()
        assert len(reader.search(query, query_modality="text", k=500)[0]) == 450
        assert reader.info().indexes["image"].startswith("ivf, sq8: 450 vectors")


def test_writer_builds_and_extends_in_the_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_FLUSHED_ROWS", 100)
    monkeypatch.setattr(upkeep, "_GROWN", 9)
    monkeypatch.setattr(Moment.BACKGROUND, "_value_", (100, 0.1))
    with new_catalog(tmp_path / "c.catalog", SMALL) as catalog:
        sizes = []
        for number in range(6):
            catalog.add(vector_items(random_units(150, seed=number), first=150 * number))
            hits = catalog.search(random_units(1, seed=77), query_modality="text", k=2000)[0]
            assert len(hits) == 150 * (number + 1)
            waited([name for name in ("embedspace-flush", "embedspace-build")])
            index = catalog._index.current()
            assert isinstance(index, LocalIndex)
            ann = index._modalities["image"].ann
            sizes.append(0 if ann is None else ann.size)
        assert sizes == [0, 300, 450, 600, 750, 900]


def waited(names: list[str]) -> None:
    """Wait for threads, in the order in which one starts the next."""
    for name in names:
        for thread in threading.enumerate():
            if thread.name == name:
                thread.join(30)


def test_probes_are_enough_for_queries_across_a_gap() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(60, 32))
    points = centres[rng.integers(0, 60, 6000)] + 0.7 * rng.normal(size=(6000, 32))
    shifted = points[:300] + 0.3 * rng.normal(size=(300, 32)) + 3.0 * rng.normal(size=(1, 32))
    pictures, texts = (rows_of((some / np.linalg.norm(some, axis=1, keepdims=True)).astype(np.float32))
                       for some in (points, shifted))  # fmt: skip
    ann = build_index(pictures, dataclasses.replace(SMALL, nlist=64))
    both = held_out({"image": pictures, "text": texts}, "image", 0)
    own = held_out({"image": pictures}, "image", 0)
    assert all(at not in truth for at, truth in zip(own.own["image"], own.truth["image"], strict=True))
    chosen = probed_for(ann, pictures, both, 0.95, 8)
    assert chosen.least >= 0.95 and set(chosen.recall) == {"image", "text"}
    assert chosen.nprobe > probed_for(ann, pictures, own, 0.95, 8).nprobe  # the gap costs
    assert measured(ann, pictures, both, max(1, chosen.nprobe // 2), 8).least < 0.95


def test_a_filter_is_scanned_where_that_costs_less() -> None:
    rows = rows_of(random_units(20_000))
    ann = dataclasses.replace(build_index(rows, dataclasses.replace(SMALL, nlist=128)), nprobe=8)
    cheaper = [exact_is_cheaper(ann, rows, rows.chosen(rows.seq[::step]), 10) for step in (400, 100, 2, 1)]
    assert cheaper == [True, True, False, False]
    fixed = dataclasses.replace(ann, settings=dataclasses.replace(SMALL, exact_below=15_000))
    assert exact_is_cheaper(fixed, rows, rows.chosen(rows.seq[::2]), 10)


def test_many_vectors_are_compressed() -> None:
    settings = IndexSettings()
    assert [kind_of(settings, count, 256) for count in (499_999, 500_000)] == ["sq8", "pq4"]
    assert kind_of(settings, 10**6, 255) == kind_of(dataclasses.replace(settings, index="hnsw"), 10**6, 256) == "sq8"


def test_tune_keeps_the_fastest_that_finds_enough(tmp_path: Path) -> None:
    path = tmp_path / "c.catalog"
    with new_catalog(path, SMALL) as catalog:
        catalog.add(vector_items(random_units(600)))
        tried = catalog.tune(0.9)
        assert [one.way for one in tried] == ["exact", *3 * ["ivf, sq8"]]
        (kept,) = [one for one in tried if one.chosen]
        assert kept.recall >= 0.9 and kept.milliseconds == min(
            one.milliseconds for one in tried[1:] if one.recall >= 0.9
        )
        assert len(catalog.search(random_units(1, seed=3), query_modality="text", k=10)[0]) == 10
    with Catalog.open(path, read_only=True) as catalog:
        catalog.search(random_units(1, seed=3), query_modality="text", k=10)
        index = catalog._index.current()
        assert isinstance(index, LocalIndex)
        ann = index._modalities["image"].ann
        assert ann is not None and (ann.nprobe, ann.overfetch) == (kept.nprobe, kept.overfetch)
        assert catalog.settings.target_recall == 0.9 and catalog.verify().ok


# -- of earlier versions ---------------------------------------------------------------------------------------------


def made_before(path: Path, count: int) -> None:
    """A catalog as an earlier version left it: its settings, and a FAISS file with facts beside it."""
    with new_catalog(path, SMALL) as catalog:
        catalog.add(vector_items(random_units(count)))
    with Catalog.open(path) as catalog:
        settings = json.loads(SMALL.to_json()) | {"overfetch": 8, "exact_below": 50_000, "name": "default"}
        for name in ("target_recall", "compress_above"):
            del settings[name]
        with catalog.store.writing("age it"):
            catalog.store.set_meta("recipe", json.dumps(settings))
        index = catalog._index.current()
        assert isinstance(index, LocalIndex)
        ann = build_index(index.rows("image"), SMALL)
        file = index_path(path, "image")
        signature = files._signature(SMALL, catalog.store.catalog_id, ann.index.d)
        files._write_whole(ann.index, file, {"signature": signature, "built_at": ann.built_at, "size": ann.size})


def test_index_of_an_earlier_version_is_used_and_then_replaced(tmp_path: Path) -> None:
    path = tmp_path / "c.catalog"
    made_before(path, 400)
    query = random_units(1, seed=5)
    with Catalog.open(path, read_only=True) as catalog:
        assert (catalog.settings.quantizer, catalog.settings.exact_below) == ("auto", 0)
        assert len(catalog.search(query, query_modality="text", k=10)[0]) == 10
        assert catalog.info().indexes["image"].startswith("ivf, sq8: 400 vectors") and catalog.verify().ok
    with Catalog.open(path) as catalog:
        catalog.optimize()
    assert not facts_path(path / "image.faiss").exists() and sound_lists(path / "image.faiss")
    with Catalog.open(path, read_only=True) as catalog:
        assert catalog.info().indexes["image"].startswith("ivf, sq8: 400 vectors") and catalog.verify().ok


OPTIMIZE = """
import sys
from embedspace.catalog import Catalog
print("go", flush=True)
with Catalog.open(sys.argv[1]) as catalog:
    catalog.optimize()
"""


def test_migration_may_be_killed_at_any_moment(tmp_path: Path) -> None:
    path, query = tmp_path / "c.catalog", random_units(5, seed=5)
    made_before(path, 3000)
    with Catalog.open(path, read_only=True) as catalog:
        before = [len(hits) for hits in catalog.search(query, query_modality="text", k=20)]
    dice, finished = random.Random(1), 0
    for _ in range(8):
        run = subprocess.Popen([sys.executable, "-c", OPTIMIZE, path], stdout=subprocess.PIPE, text=True)
        assert run.stdout is not None and run.stdout.readline() == "go\n"
        time.sleep(dice.uniform(0.0, 0.8))
        run.send_signal(signal.SIGKILL)
        finished += run.wait() == 0
        run.stdout.close()
        with Catalog.open(path, read_only=True) as catalog:
            assert catalog.verify().ok
            assert [len(hits) for hits in catalog.search(query, query_modality="text", k=20)] == before
    with Catalog.open(path) as catalog:
        catalog.optimize()
        assert catalog.verify().ok and not facts_path(path / "image.faiss").exists()


def test_what_a_killed_process_left_half_written_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "c.catalog"
    with new_catalog(path, dataclasses.replace(SMALL, index="hnsw")) as catalog:
        catalog.add(vector_items(random_units(300)))
    (path / ".image.7-1.partial.faiss").write_bytes(b"half of it")
    facts_path(index_path(path, "image")).unlink()  # killed after the index was renamed, before its facts were
    with Catalog.open(path, read_only=True) as catalog:
        assert catalog.verify(files=False).ok
    index_path(path, "image").write_bytes(b"garbage")
    with Catalog.open(path, read_only=True) as catalog:
        assert not catalog.verify(files=False).ok
