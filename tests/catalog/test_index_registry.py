"""Another engine is one file: an index registered from outside, found by the name in a catalog's settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embedspace.calibration.background import background_of
from embedspace.catalog import Catalog, CatalogItem, IndexSettings
from embedspace.catalog.index import base
from embedspace.catalog.index.base import IndexState, Nearest, VectorIndex, factory_of, index_names, register_index
from embedspace.catalog.store.store import Store
from embedspace.catalog.store.vectors import SegmentRows
from embedspace.errors import CatalogError, ConfigError
from embedspace.segment import Segment
from tests.support.catalog_encoder import new_catalog, random_units, unit, vector_items


class Shelf:
    """A plain index in memory: a dictionary per modality, a full sort per query."""

    def __init__(self, store: Store, settings: IndexSettings) -> None:
        self.calls: list[str] = []
        self.kept: dict[str, dict[int, tuple[tuple[int, int], NDArray[np.float32]]]] = {}
        self.waiting: list[tuple[str, SegmentRows | NDArray[np.int64]]] = []
        self.known = IndexState()

    def state(self) -> IndexState:
        return self.known

    def counts(self) -> dict[str, int]:
        return {name: len({key for key, _ in held.values()}) for name, held in self.kept.items() if held}

    def segments(self, modality: str) -> NDArray[np.int64]:
        return np.array(sorted(self.kept.get(modality, {})), np.int64)

    def add(self, modality: str, rows: SegmentRows) -> None:
        self.calls.append(f"add {len(rows)}")
        self.waiting.append((modality, rows))

    def remove(self, modality: str, segments: NDArray[np.int64]) -> None:
        self.calls.append(f"remove {len(segments)}")
        self.waiting.append((modality, segments))

    def commit(self, state: IndexState) -> None:
        for modality, given in self.waiting:
            held = self.kept.setdefault(modality, {})
            if isinstance(given, SegmentRows):
                for seq, key, vector in zip(given.seq.tolist(), given.key.tolist(), given.vectors, strict=True):
                    held[seq] = ((key[0], key[1]), vector.astype(np.float32))
            else:
                for seq in given.tolist():
                    del held[seq]
        self.waiting, self.known = [], state

    def search(
        self, modality: str, queries: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None = None
    ) -> list[Nearest]:
        return [self._nearest(modality, query, k, allowed) for query in queries]

    def _nearest(self, modality: str, query: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None) -> Nearest:
        best: dict[tuple[int, int], tuple[float, int]] = {}
        everything: dict[tuple[int, int], float] = {}
        chosen = None if allowed is None else set(allowed.tolist())
        for seq, (key, vector) in self.kept.get(modality, {}).items():
            score = round(float(vector @ query), 6)
            everything[key] = max(everything.get(key, -2.0), score)
            if (chosen is None or seq in chosen) and score > best.get(key, (-2.0, 0))[0]:
                best[key] = (score, seq)
        ranked = sorted(best.items(), key=lambda one: (-one[1][0], one[0]))[:k]
        (background,) = background_of(np.array(list(everything.values())), len(everything))
        return Nearest(
            np.array([seq for _, (_, seq) in ranked], np.int64),
            np.array([key for key, _ in ranked], np.uint64).reshape(-1, 2),
            np.array([score for _, (score, _) in ranked], np.float32),
            background,
        )

    def save(self, max_bytes: int | None = None) -> None:
        self.calls.append("save")

    def build(self, max_bytes: int | None = None) -> None:
        self.calls.append("build")

    def describe(self) -> dict[str, str]:
        return dict.fromkeys(self.counts(), "on the shelf")


register_index("shelf")(Shelf)
SETTINGS = IndexSettings(name="mine", engine="shelf")


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with new_catalog(tmp_path / "c.catalog", SETTINGS) as opened:
        yield opened


def shelf_of(catalog: Catalog) -> Shelf:
    index: VectorIndex = catalog._index.current()
    assert isinstance(index, Shelf)
    return index


def test_an_index_from_outside_finds_what_the_local_one_finds(tmp_path: Path, catalog: Catalog) -> None:
    queries = random_units(5, seed=3)
    with new_catalog(tmp_path / "local.catalog") as local:
        for opened in (local, catalog):
            opened.add(vector_items(random_units(300), per_item=3))
            opened.add(vector_items(random_units(60, seed=1), "audio", first=100))
        for where in (None, "number < 30 or even = true"):
            for to in (None, "audio"):
                wanted = local.search(queries, query_modality="text", k=12, where=where, to=to)
                found = catalog.search(queries, query_modality="text", k=12, where=where, to=to)
                for one, other in zip(wanted, found, strict=True):
                    assert [hit.id for hit in one] == [hit.id for hit in other]
                    assert [hit.start for hit in one] == [hit.start for hit in other]
                    scores = [hit.score for hit in other]
                    assert [hit.score for hit in one] == pytest.approx(scores, abs=1e-5)
    assert catalog.info().indexes == {"image": "on the shelf", "audio": "on the shelf"}
    assert catalog.verify().ok


def test_an_index_is_told_only_what_changed(catalog: Catalog) -> None:
    catalog.add(vector_items(random_units(10)))
    assert shelf_of(catalog).calls == ["add 10"]
    catalog.search(unit("q"), query_modality="text")
    assert shelf_of(catalog).calls == ["add 10"]
    catalog.add(vector_items(random_units(2, seed=5), "audio", first=10))
    catalog.remove("number < 3")
    with Catalog.open(catalog.path) as other:  # another connection has an index of its own
        other.add([CatalogItem("new", "image", [Segment("image", unit("new"))])])
    assert catalog.search(unit("new"), query_modality="text", k=1)[0][0].uri == "new"
    assert sorted(shelf_of(catalog).calls) == ["add 1", "add 10", "add 2", "remove 3"]
    state = catalog.store.state()
    assert shelf_of(catalog).known == IndexState(state[1], state[2])
    found = shelf_of(catalog).search("image", unit("new")[None], 1)[0]
    assert found.ids == [catalog.search(unit("new"), query_modality="text", k=1)[0][0].id]
    catalog.optimize()
    assert shelf_of(catalog).calls[-2:] == ["save", "build"]


def test_an_index_that_fails_half_way_begins_anew(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog.add(vector_items(random_units(10)))
    catalog.add(vector_items(random_units(4, seed=1), "audio", first=10))

    def unreachable(self: Shelf, state: IndexState) -> None:
        raise OSError("the engine cannot be reached")

    with monkeypatch.context() as patch:
        patch.setattr(Shelf, "commit", unreachable)
        with pytest.raises(CatalogError, match="cannot read its vectors: the engine cannot be reached"):
            catalog.search(unit("q"), query_modality="text")
    assert len(catalog.search(unit("q"), query_modality="text", k=99)[0]) == 14


def test_a_catalog_of_an_engine_that_is_not_there_says_so(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(base._ENGINES.found, "shelf")
    with pytest.raises(ConfigError, match="index settings 'mine': unknown engine 'shelf'; known: local"):
        Catalog.open(catalog.path)


def test_unknown_and_doubled_engines_are_refused(tmp_path: Path, catalog: Catalog) -> None:
    assert {"local", "shelf"} <= set(index_names())
    with pytest.raises(ConfigError, match="unknown engine 'cloud'; known: local, shelf"):
        factory_of(IndexSettings(engine="cloud"))
    with pytest.raises(ConfigError, match="index engine 'shelf' is registered twice"):
        register_index("shelf")(lambda store, settings: Shelf(store, settings))
    with pytest.raises(ConfigError, match="unknown engine 'cloud'"):
        new_catalog(tmp_path / "d.catalog", IndexSettings(engine="cloud"))
    assert not (tmp_path / "d.catalog").exists()
