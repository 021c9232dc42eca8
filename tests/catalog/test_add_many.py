"""Items given as columns: the same catalog as item by item, whoever else writes; nothing of a wrong batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embedspace.catalog.bulk.adding
import embedspace.catalog.index.local
import embedspace.catalog.index.synced
import embedspace.catalog.store.bulk.statements
from embedspace.catalog import Catalog, CatalogItem, ItemTable
from embedspace.errors import InputError
from embedspace.segment import Segment
from eval.bench.faults.small_catalog import content_of
from tests.support.catalog_encoder import EMBED_DIM, new_catalog, random_units


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with new_catalog(tmp_path / "c.catalog") as opened:
        yield opened


def table(count: int = 40, seed: int = 1, **changed: Any) -> ItemTable:
    """Return items of two segments each, with all that a segment may have."""
    rows = [number // 2 for number in range(count)]
    columns = {
        "uris": [f"/media/{row % 3}/{row}.wav" for row in rows],
        "ids": [f"recording {row}" for row in rows],
        "starts": [None if row % 5 == 0 else number / 4 for number, row in enumerate(rows)],
        "ends": [None if row % 5 == 0 else -0.0 for row in rows],
        "texts": [f"said “{row}” \ud800" if row % 2 else "" for row in rows],
        "labels": ["title"] * count,
        "metadata": {
            "number": np.asarray(rows),
            "share": np.where(np.arange(count) % 4 < 2, np.nan, 0.5),
            "camera": [f'X"{row}“' for row in rows],
            "place": [{"city": "Köln", "at": [1, 2]} if row % 2 else None for row in rows],
            "even": [row % 2 == 0 for row in rows],
        },
    }
    modalities = ["audio" if number % 2 else "speech" for number in range(count)]
    return ItemTable(random_units(count, seed), modalities, **(columns | changed))  # type: ignore[arg-type]


def items(of: ItemTable) -> Iterator[CatalogItem]:
    """Return the same, item by item."""
    for first in range(0, len(of), 2):
        names = {name: column[first] for name, column in of.metadata.items()}
        facts = {name: getattr(value, "item", lambda value=value: value)() for name, value in names.items()}
        facts = {name: value for name, value in facts.items() if value is not None and value == value}
        segments = [of.segment(first), of.segment(first + 1)]
        uri = of.uris[first] if of.uris else ""
        yield CatalogItem(uri, "audio", segments, facts, content_hash=of.ids[first] if of.ids else "")


@pytest.mark.parametrize("ids", ["named", "made", "hex"])
def test_add_many_makes_the_catalog_that_add_makes(catalog: Catalog, tmp_path: Path, ids: str) -> None:
    rows = table()
    if ids == "made":
        rows = dataclasses.replace(rows, ids=None)
    elif ids == "hex":
        rows = dataclasses.replace(rows, ids=[f"{number // 2:032x}" for number in range(len(rows))])
    with new_catalog(tmp_path / "other.catalog") as other:
        assert other.add(items(rows)).added == 20
        assert catalog.add_many(rows).added == 20
        assert content_of(catalog) == content_of(other)
        digests = "SELECT id, digest FROM items ORDER BY item"
        assert catalog.store.rows(digests) == other.store.rows(digests)
        segments = "SELECT s.*, v.vector FROM segments s JOIN vectors v ON v.seq = s.seq ORDER BY s.seq"
        assert catalog.store.rows(segments) == other.store.rows(segments)
        assert [one.name for one in catalog.fields()] == [one.name for one in other.fields()]
        assert catalog.verify(files=False).ok
        for where in (None, "even = true and place.city = 'Köln' or share > 0.4", "camera like 'x%'"):
            found = [one.search(rows.vectors[6], query_modality="audio", where=where)[0] for one in (catalog, other)]
            assert found[0] == found[1] and found[0]


STRANGE = [
    '"',
    "\\",
    "\\u0000",
    "\n",
    "\x01\x1f",
    "é",
    "\u2028",
    "\ufeff",
    "\uffff",
    "😀",
    "",
    " ",
    "'",
    "\x00",
    "a\x00b",
]


@pytest.mark.parametrize("at_once", [1, 7, 4096])
@pytest.mark.parametrize("folders", [1, 3, 1000])
def test_statements_for_all_rows_write_what_one_for_each_does(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int, folders: int
) -> None:
    monkeypatch.setattr(embedspace.catalog.store.bulk.statements, "_AT_ONCE", at_once)
    strange = STRANGE if folders == 1 else STRANGE[:-2]  # without a zero byte places are handed over together, too
    count = 4 * len(strange)
    uris = [f"/{number * folders // count}/{number}{strange[number // 4]}" for number in range(count)]
    facts = {
        "text": [strange[number // 4] for number in range(count)],
        "name": [f"{number * 7 % count} {strange[number // 4 % 13]}" for number in range(count)],
        "number": [
            (-1) ** number * (2**63 - 1) - number % 2 + number // 4 * (-1) ** (number + 1) for number in range(count)
        ],
        "large": [2**63 + number for number in range(count)],
        "even": [number % 2 == 0 for number in range(count)],
        "long": ["x" * 200 if number % 3 else "y" for number in range(count)],
    }
    kinds = ["image" if number % 3 else "text" for number in range(count)]
    rows = ItemTable(random_units(count, 3), "image", uris, kinds=kinds, metadata=facts)
    half = ItemTable(
        rows.vectors[::2], "image", uris[::2], kinds=kinds[::2], metadata={n: v[::2] for n, v in facts.items()}
    )
    whole = [
        CatalogItem(uri, kind, [rows.segment(at)], {name: column[at] for name, column in facts.items()})
        for at, (uri, kind) in enumerate(zip(uris, kinds, strict=True))
    ]
    with new_catalog(tmp_path / "other.catalog") as other:
        other.add(whole[::2])
        other.add(whole[1::2])
        assert catalog.add_many(half).added == count // 2
        report = catalog.add_many(rows)  # half of it is known: the new ones are picked
        assert (report.added, report.known) == (count // 2, count // 2)
        assert content_of(catalog) == content_of(other)
        for table_, order in (("items", "item"), ("uris", "place"), ("segments", "seq"), ("vectors", "seq")):
            every = f"SELECT * FROM {table_} ORDER BY {order}"
            assert catalog.store.rows(every) == other.store.rows(every)
        assert catalog.verify(files=False).ok


def test_rows_without_names_are_items_of_their_own(catalog: Catalog) -> None:
    vectors = random_units(6)
    assert catalog.add_many(ItemTable(vectors, "image")).added == 6
    assert catalog.add_many([ItemTable(vectors[:2], "image"), ItemTable(vectors[3:5], "image")]).known == 4
    with_segment = next(iter(catalog.items()))
    assert with_segment.uris == (with_segment.id,) and with_segment.segments == {"image": 1}
    assert (
        catalog.add([CatalogItem("x", "image", [Segment("image", vectors[0])])]).known == 1
    )  # the id that `add` makes


def test_what_is_known_is_left_and_what_moved_moves(catalog: Catalog) -> None:
    catalog.add_many(table())
    assert catalog.add_many(table()) == dataclasses.replace(catalog.add_many(table()), known=20)
    moved = table(uris=[f"/elsewhere/{number // 2}" for number in range(40)])
    assert catalog.add_many(moved).known == 20 and len(catalog) == 20
    with catalog.store.writing("fail"):
        catalog.store.fail("/media/1/1.wav", "broken", 1, 1)
    changed = table(6, seed=2, ids=[f"new {number // 2}" for number in range(6)])
    report = catalog.add_many(changed)
    assert (report.added, report.updated, len(catalog), catalog.info().failures) == (0, 3, 23, ())
    twice = ItemTable(random_units(3, 9), "image", uris=["a", "b", "a"])  # the last one is what lies there, as in `add`
    assert (catalog.add_many(twice).updated, len(catalog)) == (1, 25)
    assert catalog.verify(files=False).ok


def test_content_that_could_not_be_read_is_found_again(catalog: Catalog) -> None:
    rows = table(4)
    catalog.add_many(rows)
    with catalog.store.writing("damage"):
        assert catalog.store.mark_damaged(rows.uris[0], "audio", "f" * 32)  # type: ignore[index]
    assert catalog.verify(files=False).problems
    catalog.add_many(rows)
    assert catalog.verify(files=False).ok and len(catalog) == 2


def _of(**changed: Any) -> Callable[[], ItemTable]:
    return lambda: table(**changed)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ItemTable(random_units(3, embed_dim=8), "image"),
            r"vectors of shape \(3, 8\) and type float32; expected",
        ),
        (lambda: ItemTable(random_units(3).astype(int), "image"), "type int64; expected"),
        (lambda: ItemTable(random_units(3)[0], "image"), r"shape \(16,\)"),
        (
            lambda: ItemTable(np.vstack([random_units(1), np.full((1, 16), np.nan)]), "image"),
            "row 2: a vector of norm nan",
        ),
        (lambda: ItemTable(random_units(2) * np.inf, "image"), "row 1: a vector of norm"),
        (lambda: ItemTable(random_units(2) * 2, "image"), "row 1: a vector of norm 2; the catalog takes unit vectors"),
        (_of(starts=[0.0] * 7 + [float("nan")] + [0.0] * 32), "row 8: a segment's bound is nan"),
        (_of(ends=[float("inf")] * 40), "row 1: a segment's bound is inf"),
        (_of(uris=["x"] * 39), "uris: 39 values for 40 rows"),
        (_of(metadata={"year": [1]}), "1 values for 40 rows"),
        (_of(metadata={"year": [float("inf")] * 40}), "metadata 'year'"),
        (_of(metadata={"name": ["\ud800"] * 40}), "metadata 'name'"),
        (
            _of(ids=["a", "a", "b", "b", "a", "a"] + [f"{number // 2}" for number in range(34)]),
            "row 5: id .* with other",
        ),
    ],
)
def test_wrong_columns_are_refused_whole(catalog: Catalog, make: Callable[[], ItemTable], message: str) -> None:
    catalog.add_many(ItemTable(random_units(2, 5), "image", uris=["old/1", "old/2"]))
    before = content_of(catalog)
    with pytest.raises(InputError, match=message) as caught:
        catalog.add_many(make())
    assert "\n" not in str(caught.value)
    assert content_of(catalog) == before and catalog.verify(files=False).ok


def test_batches_divide_no_item_and_keep_those_before_a_wrong_one(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedspace.catalog.bulk.adding, "BATCH", 5)
    catalog.add_many(table())
    assert {tuple(item.segments.items()) for item in catalog.items()} == {(("audio", 1), ("speech", 1))}
    wrong = np.concatenate([random_units(13, 7), np.zeros((1, EMBED_DIM), np.float32)])
    with pytest.raises(InputError, match="row 14"):
        catalog.add_many(ItemTable(wrong, "image"))
    assert len(catalog) == 30


def test_index_is_told_without_reading_again(catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("the vectors are read from SQLite")

    built = []
    monkeypatch.setattr(embedspace.catalog.index.local, "_FLUSHED_ROWS", 200)
    monkeypatch.setattr(embedspace.catalog.index.synced, "_TOLD_BYTES", 200 * 2 * EMBED_DIM)
    monkeypatch.setattr(
        embedspace.catalog.index.local.LocalIndex, "_build_quietly", lambda index: built.append(index._filling)
    )
    monkeypatch.setattr(embedspace.catalog.index.synced, "segment_batches", refuse)
    vectors = random_units(1000, 3)
    catalog.add_many(ItemTable(vectors[first : first + 50], "image") for first in range(0, 1000, 50))
    catalog._index._index._flushing.join()  # type: ignore[attr-defined]
    hit = catalog.search(vectors[901], query_modality="image", k=1)[0][0]
    assert hit.score == pytest.approx(1, abs=1e-3) and catalog.sizes() == {"image": 1000}
    assert set(built) == {0}  # after all of them, not again and again
    assert list((tmp_path / "c.catalog").glob("*.packed"))
    assert catalog.verify(files=False).ok


def test_index_is_told_what_add_wrote(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = random_units(12, 3)

    def items(*numbers: int) -> list[CatalogItem]:
        return [CatalogItem(f"place/{n % 10}", "image", [Segment("image", vectors[n])]) for n in numbers]

    def nearest(number: int) -> float:
        return catalog.search(vectors[number], query_modality="image", k=1)[0][0].score

    catalog.add(items(0, 1, 2))
    assert nearest(2) > 0.999
    monkeypatch.setattr(embedspace.catalog.bulk.adding, "_ITEMS", 2)
    with monkeypatch.context() as patch:
        patch.setattr(embedspace.catalog.index.synced, "segment_batches", None)  # nothing is read from SQLite
        catalog.add(items(3, 4, 5, 1))
        assert [nearest(number) > 0.999 for number in range(6)] == [True] * 6
    catalog.add(items(6, 10, 7, 11))  # two of them take the places, and so the rows, of earlier ones
    assert [nearest(number) > 0.999 for number in (0, 1, 5, 6, 7, 10, 11)] == [False, False, *[True] * 5]
    assert catalog.sizes() == {"image": 8} and catalog.verify(files=False).ok
    with pytest.raises(InputError, match="norm"):
        catalog.add([*items(8), CatalogItem("wrong", "image", [Segment("image", vectors[9] * 2)])])
    assert nearest(8) < 0.999 and catalog.sizes() == {"image": 8}  # its transaction was undone


def test_another_process_may_write_between_batches(catalog: Catalog, tmp_path: Path) -> None:
    vectors = random_units(90, 4)

    def tables() -> Iterator[ItemTable]:
        for first in range(0, 50, 10):  # an odd number of them: the last batch waits alone
            with Catalog.open(tmp_path / "c.catalog") as other:
                number = 60 + first // 2
                other.add([CatalogItem(f"other/{number}", "image", [Segment("image", vectors[number])])])
                if first == 30:
                    other.remove(uris=["other/60"])
            yield ItemTable(vectors[first : first + 10], "image", name=f"table {first}")

    catalog.add_many(tables())
    assert catalog.sizes() == {"image": 54} and len(catalog) == 54
    for number in [*range(50), *range(65, 85, 5)]:
        assert catalog.search(vectors[number], query_modality="image", k=1)[0][0].score > 0.999
    assert catalog.search(vectors[60], query_modality="image", k=1)[0][0].score < 0.999
