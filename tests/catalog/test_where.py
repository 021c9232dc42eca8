"""The filter language: meaning, errors that help, and nothing that reaches SQL as text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from embedspace.catalog import Catalog, CatalogItem
from embedspace.catalog.store.filters.where import compile_where
from embedspace.errors import InputError
from embedspace.segment import Segment
from tests.support.catalog_encoder import new_catalog, unit


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    rows = [
        ("/a.wav", "audio", {"duration": 3.5, "title": "Onion Soup", "tags": ["hot"], "exif": {"iso": 100}, "n": 1}),
        ("/b.wav", "audio", {"duration": 30, "title": "it's \"fine\"", "n": 2, "my field": "x", "kind": "odd"}),
        ("/c.png", "image", {"width": 100, "title": "Cake", "n": 3, "a.b": "dotted", "flag": True}),
        ("/d.png", "image", {"width": 200, "n": 4, "flag": False, "year": "1999"}),
    ]  # fmt: skip
    with new_catalog(tmp_path_factory.mktemp("where") / "c.catalog") as opened:
        opened.add(
            CatalogItem(uri, kind, [Segment(kind, unit(uri), 0.0, 5.0, f"said in {uri}", "title")], metadata, size=9)
            for uri, kind, metadata in rows
        )
        yield opened


def numbers(catalog: Catalog, where: str) -> list[int]:
    return [item.metadata["n"] for item in catalog.items(where)]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("duration < 5 and modality = 'audio' and title like '%soup%'", [1]),
        ("modality == 'audio' AND NOT duration < 5", [2]),
        ("modality = 'image' or duration >= 30", [2, 3, 4]),
        ("modality = 'image' or modality = 'audio' and n = 1", [1, 3, 4]),
        ("(modality = 'image' or modality = 'audio') and n = 1", [1]),
        ("width between 100 and 150", [3]),
        ("n not between 2 and 4", [1]),
        ("n in (1, 4, 77)", [1, 4]),
        ("title not in ('Cake')", [1, 2]),
        ("title is null", [4]),
        ("title is not null", [1, 2, 3]),
        ("title not like '%e%'", [1]),
        ("title = 'it''s \"fine\"'", [2]),
        ('title = "it\'s ""fine"""', [2]),
        ("uri like '%.wav'", [1, 2]),
        ("modality = 'image' and label = 'title'", [3, 4]),
        ("text like '%c.png%'", [3]),
        ("start <= 0 and end > 4.5", [1, 2, 3, 4]),
        ("size = 9", [1, 2, 3, 4]),
        ("exif.iso = 1e2", [1]),
        ("a.b = 'dotted'", [3]),
        ("`my field` = 'x'", [2]),
        ("meta.kind = 'odd'", [2]),
        ("catalog.kind = 'audio'", [1, 2]),
        ("catalog.label = 'title' and label = 'title' and catalog.size = 9", [1, 2, 3, 4]),
        ("tags like '%hot%'", [1]),
        ("flag = true", [3]),
        ("flag = false", [4]),
        ("n > -1.5 and n != 1 and n <> 2", [3, 4]),
        ("year = '1999'", [4]),
    ],
)
def test_where_means_what_it_says(catalog: Catalog, where: str, expected: list[int]) -> None:
    assert numbers(catalog, where) == expected


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("durration < 5", r"unknown field 'durration' \(did you mean 'duration'\?\); known: .*duration.*uri"),
        ("duration <", "expected a value"),
        ("duration 5", "expected a comparison"),
        ("duration < 5 kind", "expected 'and', 'or' or the end"),
        ("(duration < 5", r"expected '\)'"),
        ("duration < 'abc", "cannot read this at character 12"),
        ("  ", "expected the name of a field"),
        ("and", "expected the name of a field"),
        ("duration < kind", "expected a value"),
        ("n = 1; drop table items", "cannot read this"),
        ("n = 1 -- comment", "cannot read this"),
        ("n = 1 union select 1", "expected 'and', 'or' or the end"),
        ("(select 1) = 1", "unknown field 'select'"),
        ("load_extension('x') = 1", "unknown field 'load_extension'"),
        ("item = 1", "unknown field 'item'"),
        ("i.item = 1", "unknown field 'i.item'"),
        ("catalog.title = 'Cake'", "unknown field 'catalog.title'"),
        ("kind = 'audio'", r"'kind' is a name in the metadata and a column of the catalog; write meta\.kind or"),
        ("n = 1 and not (kind is null)", r"write meta\.kind or catalog\.kind"),
        ("title = '\udcff'", "not UTF-8"),
        ("n in ()", "expected a value"),
        ("not " * 60 + "n = 1", "nested deeper"),
        ("(" * 60 + "n = 1" + ")" * 60, "nested deeper"),
        ("n = 1 or " * 3000 + "n = 1", "at most 20000"),
        ("n in (" + ",".join("1" * 1000) + ")", "at most 900"),
    ],
)
def test_where_errors_say_what_and_where(catalog: Catalog, where: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(catalog.items(where))


@pytest.mark.parametrize(
    "value",
    ["' or 1=1 --", "x'); drop table items; --", '" or ""="', "%' or '1'='1", "\\' or 1=1", "$.title", "a\0b"],
)
def test_where_values_are_only_values(catalog: Catalog, value: str) -> None:
    quoted = value.replace("'", "''")
    assert numbers(catalog, f"title = '{quoted}'") == []
    assert len(catalog) == 4
    assert compile_where(f"kind = '{quoted}'", []).parameters == [value]


def test_where_hostile_metadata_names_are_harmless(tmp_path: Path) -> None:
    names = ["x') or 1=1 --", 'a"]', "$", "a'b", "{}", "{0}", "i.item", "Größe", "`tick`", "[0]", "#-1"]
    with new_catalog(tmp_path / "c.catalog") as catalog:
        for number, name in enumerate(names):
            catalog.add([CatalogItem(str(number), "image", [Segment("image", unit(name))], {name: 1, "n": number})])
        for number, name in enumerate(names):
            if "`" not in name and '"' not in name:
                assert numbers(catalog, f"`{name}` = 1") == [number]
        with pytest.raises(InputError, match="unknown field"):
            numbers(catalog, '`a"]` = 1')


def test_where_compiles_to_fixed_words_and_parameters() -> None:
    condition = compile_where("title like 'a%' and (n = 5 or not kind in ('x', 'y'))", ["title", "n"])
    assert condition.sql == (
        "(ifnull(json_extract(i.metadata, ?) LIKE ?, 0) AND "
        "(ifnull(json_extract(i.metadata, ?) = ?, 0) OR (NOT ifnull(i.kind IN (?, ?), 0))))"
    )
    assert condition.parameters == ['$."title"', "a%", '$."n"', 5, "x", "y"]
