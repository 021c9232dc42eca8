"""The table of metadata's values: filters find by it what they find without, whatever was written, and by whom."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embedspace.catalog.store.filters.plan as plan
import embedspace.catalog.store.filters.values as values
from embedspace.catalog import Catalog, CatalogItem, ItemTable
from embedspace.catalog.migrate import migrate
from embedspace.catalog.search.searcher import Searcher
from embedspace.catalog.store.filters.values import fill_values, has_values, pairs_of
from embedspace.catalog.store.lookup import segments_where
from embedspace.catalog.store.schema import DATABASE
from embedspace.errors import InputError
from embedspace.segment import Segment
from tests.support.catalog_encoder import HashEncoder, new_catalog, random_units, unit

OLD = Path(__file__).parents[1] / "data" / "catalog-format-1.zip"

VALUES: list[Any] = [
    0, 1, 5, -3, 2.5, -0.0, 1e300, 2**62, 2**70, True, False, None, "", "a", "Apple", "apple pie", "aPPle", "APPL", "5",
    "19", "2024-05-01", "2024-05-01T10:00:00", "ü", "Z", "[", "x" * 201, "a\nb", "a\\b", [1, 2], ["a"], {"x": 1},
    {"x": "a", "y": {"z": 2}}, {"a.b": 3}, {}, [],
]  # fmt: skip
WORDS = ["Red", "red", "rED", "REDO", "rose", "Blue", "7up", "7UP!", "rd"]
NAMES = ["f", "g", "x.y", "my field", "ümlaut", "a\\b", "t\tb", "[0]", "nest"]


def metadata(draws: np.random.Generator) -> dict[str, Any]:
    """Return odd metadata."""
    found: dict[str, Any] = {name: VALUES[draws.integers(len(VALUES))] for name in NAMES if draws.random() < 0.6}
    if draws.random() < 0.3:
        found["x"] = {"y": VALUES[draws.integers(len(VALUES))], "k": int(draws.integers(4))}
    return found | {"plain": int(draws.integers(6)), "word": WORDS[draws.integers(len(WORDS))]}


def item(number: int, draws: np.random.Generator, **changed: Any) -> CatalogItem:
    facts = {"plain": 9, "bytes": number} if number % 3 == 0 else {}
    segments = [Segment("image", unit(f"{number}"), text=f"t{number}")]
    return CatalogItem(f"/m/{number}.png", "image", segments, metadata(draws), facts=facts, **changed)


def table_of(catalog: Catalog) -> set[tuple[str, str, int]]:
    return {(field, repr(value), item) for field, value, item in catalog.store.rows("SELECT * FROM field_values")}


def table_wanted(catalog: Catalog) -> set[tuple[str, str, int]]:
    rows = catalog.store.rows("SELECT item, metadata FROM items")
    return {(field, repr(value), item) for item, text in rows for field, value in pairs_of(json.loads(text))}


def comparison(draws: np.random.Generator) -> str:
    name = ["`f`", "`g`", "`x.y`", "`my field`", "`a\\b`", "`[0]`", "`x.k`", "plain", "word", "`nest.x`"][
        draws.integers(10)
    ]
    value = [
        "0", "1", "2.5", "5", "'a'", "'apple'", "'5'", "'2024-05'", "''", "true", "'%p%'", "'ap%'", "'A_p%'", "'1%'",
        "'2%'", "'%'", "'Z%'", "'ü%'", "'R%'", "'re%'", "'rEd_'", "'7u%'", "1e18",
    ]  # fmt: skip
    one, other, third = (value[draws.integers(len(value))] for _ in range(3))
    text = f"'{one.strip(chr(39))}'"
    forms = [
        f"{name} = {one}", f"{name} != {one}", f"{name} < {one}", f"{name} >= {one}", f"{name} like {text}",
        f"{name} not like {text}", f"{name} in ({one}, {other}, {third})", f"{name} not in ({one}, {other})",
        f"{name} between {one} and {other}", f"{name} is null", f"{name} is not null", f"kind = {one}",
    ]  # fmt: skip
    return forms[draws.integers(len(forms))]


def expression(draws: np.random.Generator, depth: int = 2) -> str:
    if not depth or draws.random() < 0.3:
        return comparison(draws)
    parts = [expression(draws, depth - 1) for _ in range(2 + (draws.random() < 0.2))]
    joined = f" {['and', 'or'][draws.integers(2)]} ".join(parts)
    return f"not ({joined})" if draws.random() < 0.15 else f"({joined})"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    """A catalog after everything that changes metadata."""
    draws = np.random.default_rng(0)
    with new_catalog(tmp_path_factory.mktemp("values") / "c.catalog") as catalog:
        catalog.add(item(number, draws) for number in range(60))
        names = [metadata(draws) for _ in range(60)]
        columns = {name: [one.get(name) for one in names] for name in {name for one in names for name in one}}
        catalog.add_many(
            ItemTable(random_units(60), "image", [f"/n/{number}" for number in range(60)], metadata=columns)
        )
        catalog.add(item(number, draws) for number in range(0, 60, 4))  # said anew
        catalog.add(item(number, draws, as_modality="image") for number in range(1, 60, 9))  # segments anew
        more = [item(number, draws) for number in range(100, 110)]
        catalog.add(more)
        catalog.add(CatalogItem(f"/twice/{one.uri}", "image", one.segments, {"late": 1}) for one in more)
        catalog.remove("plain = 3")
        catalog.remove(uris=["/m/2.png", "/n/7", more[0].uri])
        catalog.add(item(number, draws) for number in range(200, 230))  # numbers of items are given again
        yield catalog


def test_table_is_what_the_metadata_says(written: Catalog) -> None:
    assert has_values(written.store)
    assert table_of(written) == table_wanted(written) and len(table_of(written)) > 500


def test_values_that_json_holds_otherwise_are_marked() -> None:
    odd = {"a.b": 1, "a": {"b": 2, "c\n": 3, "d": {}}, 'no"name': 1, "": 1}
    assert list(pairs_of(odd)) == [("a.b", b""), ("a.b", 2), ("a.c\n", b""), ("", b"")]
    kept = {"i": 2**63 - 1, "t": True, "f": 0.5, "s": "x" * 200, "none": None}
    assert list(pairs_of(kept)) == [("i", 2**63 - 1), ("t", 1), ("f", 0.5), ("s", "x" * 200)]
    marked = {"i": 2**63, "f": float("inf"), "s": "x" * 201, "nul": "a\0", "list": [1]}
    assert list(pairs_of(marked)) == [(name, b"") for name in marked]


@pytest.mark.parametrize(
    "where", ["plain like '2%'", "word like 're%'", "word like 'RE%'", "word like '7u%'", "word like 'r_d'"]
)
def test_prefixes_are_looked_up_whatever_their_case(written: Catalog, where: str) -> None:
    assert "table of metadata" in written.explain(where)
    condition = Searcher(written.store, lambda: None).condition(where)  # type: ignore[arg-type, return-value]
    looked_at = f"SELECT s.seq FROM segments s JOIN items i ON i.item = s.item WHERE {condition.sql} ORDER BY s.seq"
    wanted = [seq for (seq,) in written.store.rows(looked_at, tuple(condition.parameters))]
    assert segments_where(written.store, condition).tolist() == wanted != []


@pytest.mark.parametrize("counted", [50_000, 5])
def test_filters_find_what_a_look_at_every_item_finds(
    written: Catalog, counted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_COUNTED", counted)
    draws, ways = np.random.default_rng(counted), set()
    searcher = Searcher(written.store, lambda: None)  # type: ignore[arg-type, return-value]
    for _ in range(300):
        where = expression(draws)
        condition = searcher.condition(where)
        sql = f"SELECT s.seq FROM segments s JOIN items i ON i.item = s.item WHERE {condition.sql} ORDER BY s.seq"
        wanted = [seq for (seq,) in written.store.rows(sql, tuple(condition.parameters))]
        assert segments_where(written.store, condition).tolist() == wanted, where
        ways.add(("rest" in searcher.explain(where), "looked at" in searcher.explain(where)))
    assert ways >= {(False, False), (False, True)}


def test_plan_takes_the_smallest_comparison_and_says_so(written: Catalog) -> None:
    said = written.explain("word like 'r%' and plain = 2 and kind = 'image'")
    assert said.startswith("plain = 2: ") and said.endswith(
        " items in the table of metadata; of each the rest is asked"
    )
    assert written.explain("plain > 1").startswith("plain > 1: ")
    assert written.explain("plain > 1 and plain <= 2 and plain != 7").startswith(
        "plain > 1 and plain <= 2 and plain != 7: "
    )
    assert written.explain("kind = 'image'") == "every item is looked at"
    assert "f: values that no table holds" in written.explain("f = 1 or plain = 1")
    assert "does not narrow it down" in written.explain("plain = 1 or kind = 'image'")
    with pytest.raises(InputError, match="unknown field 'plane'"):
        written.explain("plane = 1")
    sql = "SELECT item FROM field_values WHERE field = ? AND value = ?"
    steps = written.store.rows(f"EXPLAIN QUERY PLAN {sql}", ("plain", 2))
    assert "SEARCH field_values USING PRIMARY KEY (field=? AND value=?)" in steps[0][3]


def test_items_and_remove_look_a_filter_up(tmp_path: Path) -> None:
    asked: list[str] = []
    with new_catalog(tmp_path / "c.catalog") as catalog:
        years = [{"year": 2020 + number % 3} for number in range(9)]
        catalog.add_many(ItemTable(random_units(9), "image", metadata={"year": [one["year"] for one in years]}))
        catalog.store.connection.set_trace_callback(asked.append)
        found = [record.metadata for record in catalog.items("year = 2021")]
        removed = catalog.remove("year = 2021")
        catalog.store.connection.set_trace_callback(None)
        assert found == years[1::3] and removed.items == 3 and [*catalog.items("year = 2021")] == []
    assert not [sql for sql in asked if "json_extract" in sql]  # nobody looks at every item
    assert sum("FROM field_values" in sql for sql in asked) >= 2


def test_memo_survives_what_does_not_touch_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counted(store: Any, condition: Any, seconds: Any = None, after: int = 0) -> Any:
        asked.append(after)
        return segments_where(store, condition, seconds, after)

    monkeypatch.setattr("embedspace.catalog.search.searcher.segments_where", counted)
    with new_catalog(tmp_path / "c.catalog") as catalog:
        rows = random_units(40)

        def found() -> set[str]:
            hits = catalog.search(rows[0], query_modality="image", k=40, where="odd = 1")[0]
            return {hit.uri for hit in hits}

        def table(first: int, last: int) -> ItemTable:
            odd = [number % 2 for number in range(first, last)]
            uris = [f"u{number}" for number in range(first, last)]
            return ItemTable(rows[first:last], "image", uris, metadata={"odd": odd})

        catalog.add_many(table(0, 20))
        assert found() == found() == {f"u{number}" for number in range(1, 20, 2)} and asked == [0]
        catalog.add_many(table(20, 30))
        catalog.remove(uris=["u1"])
        assert found() == {f"u{number}" for number in range(3, 30, 2)} and asked == [0, 20]  # only the newer ones
        catalog.add([CatalogItem("u40", "image", [Segment("image", unit("40"))], {"odd": 1})])
        assert "u40" in found() and asked == [0, 20, 30]
        catalog.add([CatalogItem("u3", "image", [Segment("image", rows[3])], {"odd": 2})])  # metadata of what was there
        assert "u3" not in found() and asked[-1] == 0
        assert catalog.search(rows[0], query_modality="image", where="uri = 'u4'")[0][0].uri == "u4"
        catalog.add_many(ItemTable(rows[4:5], "image", ["elsewhere"]))
        assert catalog.search(rows[0], query_modality="image", where="uri = 'elsewhere'")[0]
        assert catalog.search(rows[0], query_modality="image", where="uri = 'u4'")[0]
        assert asked[-3:] == [0, 0, 0]  # places come and go


def test_facets_count_all_items_or_some(tmp_path: Path) -> None:
    with new_catalog(tmp_path / "c.catalog") as catalog:
        columns = {
            "camera": ["X100", "X100", "Q2", "X100", None, "Q2"],
            "year": [1999, 2004, 2004, 2010, 2020, 2021],
            "taken": ["2024-05-01", None, "2024-06-01", None, None, "2025-01-01"],
            "tags": [["a"], ["b"], ["a"], None, None, None],
        }
        catalog.add_many(ItemTable(random_units(6), "image", list("abcdef"), metadata=columns))
        found = {one.name: one for one in catalog.facets()}
        assert list(found.values()) == catalog.fields()
        assert found["camera"].values == (("X100", 3), ("Q2", 2)) and found["camera"].count == 5
        assert (found["year"].kind, found["year"].low, found["year"].high) == ("number", 1999, 2021)
        assert (found["taken"].kind, found["taken"].high) == ("time", "2025-01-01")
        assert found["tags"].values == (('["a"]', 2), ('["b"]', 1))
        some = {one.name: one for one in catalog.facets("year >= 2004 and camera is not null", most=1)}
        assert some["camera"].values == (("Q2", 2),) and some["camera"].count == 4
        assert some["tags"].count == 2 and some["year"].low == 2004
        assert [one.name for one in catalog.facets("year = 2020", fields=["camera", "year"])] == ["year"]
        with pytest.raises(InputError, match="unknown field 'lens'; known: camera, tags, taken, year"):
            catalog.facets(fields=["lens"])


def test_command_prints_facets_and_plans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from embedspace.cli.app import main

    path = tmp_path / "c.catalog"
    with new_catalog(path) as catalog:
        catalog.add_many(ItemTable(random_units(3), "image", metadata={"camera": ["X", "X", "Y"], "year": [1, 2, 3]}))
    assert main(["catalog", "facets", str(path), "--where", "year < 3"]) == 0
    assert capsys.readouterr().out.split() == "camera text 2 X (2) year number 2 1 to 2".split()
    assert main(["catalog", "facets", str(path), "--field", "camera", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["values"] == [["X", 2], ["Y", 1]]
    assert main(["catalog", "facets", str(path), "--field", "lens"]) == 2
    assert "unknown field 'lens'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "damage", ["DELETE FROM field_values WHERE item = 3", "UPDATE field_values SET value = 'z' WHERE item = 3"]
)
def test_verify_finds_a_table_that_differs_and_optimize_mends_it(tmp_path: Path, damage: str) -> None:
    with new_catalog(tmp_path / "c.catalog") as catalog:
        catalog.add_many(ItemTable(random_units(5), "image", metadata={"w": list("abcde")}))
        assert catalog.verify(files=False).ok
        catalog.store.connection.execute(damage)
        (problem,) = catalog.verify(files=False).problems
        assert (problem.where, "catalog optimize" in problem.detail) == ("field_values", True)
        catalog.optimize()
        assert catalog.verify(files=False).ok and table_of(catalog) == table_wanted(catalog)


# -- catalogs of earlier versions ----------------------------------------------------------------------------------


def forget_table(path: Path) -> None:
    """Make a catalog what an earlier version left."""
    with sqlite3.connect(path / DATABASE) as connection:
        connection.execute("DROP TABLE field_values")
        connection.execute("DELETE FROM meta WHERE key IN ('values_item', 'values_revision', 'metadata_changes')")
    connection.close()


def test_earlier_catalog_is_filled_when_opened_and_searched_meanwhile(tmp_path: Path) -> None:
    shutil.unpack_archive(OLD, tmp_path)
    path = tmp_path / "old.catalog"
    query, where = unit("tall grass"), "number < 5"
    with Catalog.open(path, read_only=True) as catalog:
        assert not has_values(catalog.store)
        assert "catalog optimize" in catalog.explain(where)
        before = catalog.search(query, query_modality="text", where=where)
    with Catalog.open(path) as catalog:
        assert has_values(catalog.store) and table_of(catalog) == table_wanted(catalog) != set()
        assert "table of metadata" in catalog.explain(where)
        assert catalog.search(query, query_modality="text", where=where) == before
        assert migrate(catalog, HashEncoder({"text": "2"})).encoded == 3
        assert table_of(catalog) == table_wanted(catalog)


def test_what_an_earlier_version_writes_is_noticed(written: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "copy.catalog"
    with sqlite3.connect(path.with_suffix(".sqlite")) as copy:
        written.store.connection.backup(copy)
    copy.close()
    path.mkdir()
    path.with_suffix(".sqlite").rename(path / DATABASE)
    with sqlite3.connect(path / DATABASE) as connection:  # as they do: the items, and the revision
        connection.execute("""UPDATE items SET metadata = '{"plain": 77}' WHERE item = (SELECT max(item) FROM items)""")
        connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'revision'")
    connection.close()
    with Catalog.open(path, read_only=True) as catalog:
        assert not has_values(catalog.store)
        assert len(list(catalog.items("plain = 77"))) == 1
        query = random_units(1)[0]
        assert len(catalog.search(query, query_modality="image", where="plain = 77")[0]) == 1
    with Catalog.open(path) as catalog:
        assert has_values(catalog.store) and table_of(catalog) == table_wanted(catalog)


def test_filling_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "c.catalog"
    count = 400
    with new_catalog(path) as catalog:
        catalog.add_many(ItemTable(random_units(count), "image", metadata={"number": range(count), "w": ["x"] * count}))
    forget_table(path)
    program = (
        "import sys, time, embedspace.catalog.store.filters.values as values\n"
        "from embedspace.catalog import Catalog\n"
        "values._BATCH = 10\n"
        "real = values.write_values\n"
        "values.write_values = lambda *given: (time.sleep(0.05), real(*given))\n"
        "Catalog.open(sys.argv[1])\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program, path], cwd=Path(__file__).parents[2])
    with Catalog.open(path, read_only=True) as catalog:
        while int(catalog.store.meta("values_item") or 0) < 100:
            time.sleep(0.01)
            assert child.poll() is None
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert not has_values(catalog.store)
        query = random_units(1)[0]
        assert len(catalog.search(query, query_modality="image", k=50, where="number >= 380")[0]) == 20
    begun = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(values, "_BATCH", 50)
        real = values.write_values
        patch.setattr(values, "write_values", lambda at, rows: (begun.append(rows[0][2]), real(at, rows)))
        with Catalog.open(path) as catalog:
            assert has_values(catalog.store) and table_of(catalog) == table_wanted(catalog)
            assert len(table_of(catalog)) == 2 * count and begun[0] > 100  # not from the start
            assert catalog.verify(files=False).ok


def test_large_catalogs_are_filled_by_optimize(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.catalog"
    with new_catalog(path) as catalog:
        catalog.add_many(ItemTable(random_units(30), "image", metadata={"number": range(30)}))
    forget_table(path)
    monkeypatch.setattr("embedspace.catalog.store.facts._FILLED_AT_OPENING", 20)
    with Catalog.open(path) as catalog:
        assert not has_values(catalog.store) and not fill_values(catalog.store, 20)
        catalog.add_many(ItemTable(random_units(5, 3), "image", metadata={"number": range(30, 35)}))
        catalog.remove("number = 2")  # what is not in the table yet
        catalog.optimize()
        assert has_values(catalog.store) and table_of(catalog) == table_wanted(catalog)
        assert len(table_of(catalog)) == 34
