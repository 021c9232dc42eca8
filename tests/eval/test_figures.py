"""The tables of figures follow from the results alone."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from embedspace.evaluate import load_suite
from embedspace.evaluate.generation.media.suite import load_media_suite
from eval import figures, film_figures
from eval.composed_pairs import fresh_pairs_of, pairs_of, rest_of
from eval.composed_scenes import couples
from eval.marks import marks_of, page_with_marks

SUITES = Path(__file__).parents[2] / "eval/suites"


def report(**changes: Any) -> dict[str, Any]:
    metrics = {"recall_at_1": [0.4, 0.35, 0.45], "recall_at_10": [0.75, 0.7, 0.8], "medr": [3.0, 2.0, 4.0]}
    result = {"query": "image", "gallery": "text", "label": "", "gallery_size": 281, "metrics": metrics}
    result |= {"chance": {"recall_at_1": 0.004, "recall_at_10": 0.036}}
    result |= {"num_queries": 31, "num_missing": 4, "clusters": {"concept": 29}, "groups": {"fr": {}, "es": {}}}
    result |= {"group_mean": {name: [value[0] / 2, *value[1:]] for name, value in metrics.items()}}
    base = {"suite": "stamps", "description": "d", "commit": "c" * 40, "date": "2026-01-01", "split_hash": "s" * 64}
    return base | {"weights": {"image": "w" * 64}, "results": [result], "gains": {}} | changes


def test_figure_row_quotes_value_and_interval() -> None:
    row = {"title": "image → text", "suite": "stamps", "query": "image", "gallery": "text", "ask": "40 / 75"}
    expected = "| image → text | 281 | 40.0 [35, 45] | 75.0 [70, 80] | 3 | 40 / 75 |  |"
    assert figures.figure_row(row, {"stamps": report()}) == expected


def test_titles_are_filled_from_the_report() -> None:
    row = {
        "title": "{queries} of {concept}, {missing} silent, mean of {groups}",
        "suite": "stamps",
        "from": "group_mean",
    }
    row |= {"query": "image", "gallery": "text"}
    expected = "| 31 of 29, 4 silent, mean of fr es | 281 | 20.0 [35, 45] | 37.5 [70, 80] | 1.5 |  |  |"
    assert figures.figure_row(row, {"stamps": report()}) == expected
    assert figures.figure_row(row, {}).startswith("| – of –, – silent, mean of – | – | not measured")
    with pytest.raises(SystemExit, match=r"'\{dogs\} here' counts \{dogs\}; the report has: concept queries gallery"):
        figures.figure_row({**row, "title": "{dogs} here"}, {"stamps": report()})


def test_no_count_is_typed_in_a_title() -> None:
    tables = tomllib.loads((SUITES.parent / "figures.toml").read_text())
    depths = re.compile(r"R@\d+|top-\d+|first \d+|--candidates \d+")  # these say what is asked, not how many there are
    for row in [*tables["rows"], *tables["made"]]:
        assert not re.search(r"\d", depths.sub("", row["title"])), row["title"]


def test_no_size_of_a_set_is_typed_in_a_suite_s_description() -> None:
    for path in sorted((SUITES.parent / "results").glob("*.json")):
        entry = json.loads(path.read_text())
        if not isinstance(entry, dict) or "suite" not in entry:
            continue
        typed = set(re.findall(r"\d{2,}", load_suite(SUITES / f"{entry['suite']}.toml").description))
        assert not typed & {str(size) for size in entry["sizes"].values()}, path.name


def test_a_row_of_a_choice_in_sight_of_test_data_leads_to_the_reason() -> None:
    marks = [
        {"text": "looked at once", "of": [{"suite": "other"}, {"suite": "stamps", "query": "speech"}]},
        {"text": "tried on it", "of": [{"suite": "stamps", "query": "image"}, {"suite": "pictures", "source": "text"}]},
        {"text": "never used", "of": [{"suite": "none"}]},
    ]
    row = {"title": "t", "suite": "stamps", "query": "image", "gallery": "text"}
    table = figures.figures_table([row, {**row, "suite": "third"}], {"stamps": report()}, marks)
    assert "| t †2 | 281 |" in table and "| t | – |" in table
    assert '(["Not blind"](training/LOG.md)):\n\n- †2: tried on it' in table
    assert "looked at once" not in table and "never used" not in table
    made = {"title": "m", "suite": "pictures", "list": "rows", "metric": "top_1", "where": {"source": "text"}}
    assert "| m †2 |" in figures.made_table([made], {"pictures": made_report()}, marks)
    assert "†" not in figures.figures_table([row], {"stamps": report()})
    page = page_with_marks("# stamps\n", "stamps", marks)
    assert page.endswith("- †1: looked at once\n- †2: tried on it\n<!-- marks:end -->\n")
    assert "(../../training/LOG.md)" in page
    assert page_with_marks(page, "stamps", marks) == page
    assert page_with_marks(page, "third", marks) == "# stamps\n"
    assert "[stamps](stamps.md) † |" in figures.results_index({"stamps": report()}, None, marks)


def test_marks_of_figures_toml_are_of_rows_or_directions_that_there_are() -> None:
    tables = tomllib.loads((SUITES.parent / "figures.toml").read_text())
    for mark in tables["marks"]:
        for part in mark["of"]:
            if any(marks_of({"suite": row["report"], **row}, [{"of": [part]}]) for row in tables["films"]):
                continue
            assert (SUITES / f"{part['suite']}.toml").is_file(), part
            shown = any(marks_of(row, [{"of": [part]}]) for row in [*tables["rows"], *tables["made"]])
            suite = None if shown else load_suite(SUITES / f"{part['suite']}.toml")
            assert shown or (suite is not None and part["query"] in suite.sets), part


def test_what_is_not_blind_in_the_log_is_marked() -> None:
    """Each admission of the log is about a suite that carries a mark."""
    tables = tomllib.loads((SUITES.parent / "figures.toml").read_text())
    touched = {part["suite"] for mark in tables["marks"] for part in mark["of"]}
    assert touched >= {
        "speakers",
        "human_speech",
        "composed",
        "generation",
        "sounds_leave_one_out",
        "generation_sounds",
    }


def test_figure_row_says_what_was_not_measured() -> None:
    row = {"title": "t", "suite": "stamps", "query": "text", "gallery": "image"}
    assert "not measured" in figures.figure_row(row, {"stamps": report()})
    assert "not measured" in figures.figure_row(row, {})


def test_main_rewrites_and_checks_the_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "eval/results").mkdir(parents=True)
    (tmp_path / "eval/results/stamps.json").write_text(json.dumps(report()))
    (tmp_path / "eval/results/bench.json").write_text("[1]")
    (tmp_path / "eval/figures.toml").write_text(
        '[[rows]]\ntitle="t"\nsuite="stamps"\nquery="image"\ngallery="text"\nheadline="h"\n'
    )
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(f"{figures.START}\n{figures.END}\n")
    page = tmp_path / "docs/figures.md"
    page.write_text("no table")
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["figures"])
    with pytest.raises(SystemExit, match="figures:start"):
        figures.main()
    page.write_text(f"before\n{figures.START}\nold\n{figures.END}\nafter\n")
    figures.main()
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| t | 281 | 40.0 [35, 45] |" in text
    assert "old" not in text
    assert "[stamps](stamps.md)" in (tmp_path / "eval/results/README.md").read_text()
    assert "| h | 281 | 40.0 [35, 45] | 75.0 [70, 80] | 3.6 |" in (tmp_path / "README.md").read_text()
    monkeypatch.setattr("sys.argv", ["figures", "--check"])
    monkeypatch.setattr(figures, "stale_lines", lambda root: [])
    figures.main()
    page.write_text(text.replace("40.0", "99.0"))
    with pytest.raises(SystemExit):
        figures.main()
    page.write_text(text)
    monkeypatch.setattr(figures, "stale_lines", lambda root: ["stamps.json: old"])
    with pytest.raises(SystemExit):
        figures.main()


def test_rows_of_figures_toml_name_directions_that_the_suites_have() -> None:
    rows = tomllib.loads((SUITES.parent / "figures.toml").read_text())["rows"]
    for row in rows:
        suite = load_suite(SUITES / f"{row['suite']}.toml")
        pairs = [(direction.query, direction.gallery) for direction in suite.directions]
        assert (row["query"], row["gallery"]) in pairs if "query" in row else suite.composed


def made_report(**changes: Any) -> dict[str, Any]:
    row = {"group": "g", "system": "generated", "source": "text", "family": "flow", "top_1": [0.4, 0.3, 0.5]}
    rows = [row, {**row, "family": "vae"}, {"group": "g", "system": "real", "top_1": [0.8, 0.7, 0.9]}]
    base = {"generation_suite": "pictures", "description": "d", "commit": "c" * 40, "date": "2026-01-01"}
    return base | {"split_hash": "s" * 64, "heads": {"image": "h" * 64}, "rows": rows} | changes


def test_what_is_made_stands_beside_what_is_real() -> None:
    row = {"title": "t", "suite": "pictures", "list": "rows", "metric": "top_1", "ask": "≥ 35"}
    row |= {"where": {"system": "generated", "family": "flow"}, "real": {"system": "real"}, "wrong": {"system": "no"}}
    table = figures.made_table([row], {"pictures": made_report()})
    assert "| t | 40.0 [30, 50] |  | 80.0 [70, 90] |  | ≥ 35 |  |" in table
    assert "loses" not in table
    assert "| t | not measured |" in figures.made_table([row], {})


def test_where_the_nearest_training_item_is_better_the_page_says_so() -> None:
    rows = [
        {"from": "sound", "system": "generated", "names_any": [0.08, 0.0, 0.2], "names_all": [0.02, 0.0, 0.1]},
        {"from": "sound", "system": "nearest", "names_any": [0.1, 0.0, 0.2], "names_all": [0.04, 0.0, 0.1]},
    ]
    row = {"title": "t", "suite": "pictures", "list": "rows", "metric": "names_any", "every": "names_all"}
    row |= {"where": {"system": "generated"}, "nearest": {"system": "nearest"}}
    table = figures.made_table([row], {"pictures": made_report(rows=rows)})
    assert "| t | 8.0 [0, 20] / 2.0 [0, 10] | **10.0 [0, 20] / 4.0 [0, 10]** |" in table
    assert "In 1 of 1 rows generation **loses**" in table
    rows[0]["names_any"] = [0.12, 0.0, 0.2]
    table = figures.made_table([row], {"pictures": made_report(rows=rows)})
    assert "| t | **12.0 [0, 20] / 2.0 [0, 10]** | 10.0 [0, 20] / 4.0 [0, 10] |" in table and "loses" not in table


def test_every_figure_of_what_is_made_has_its_nearest_training_item_beside_it() -> None:
    rows = tomllib.loads((SUITES.parent / "figures.toml").read_text())["made"]
    judged = [row for row in rows if row["metric"] in ("top_1", "recall_at_10", "names_any")]
    assert judged and all("nearest" in row for row in judged)
    assert all(row["every"] == "names_all" for row in rows if row["metric"] == "names_any")
    assert {row["metric"] for row in rows} >= {"near_copies", "near_copies_features", "near_copies_aligned"}


def test_rows_of_what_is_made_name_groups_and_sources_that_the_suites_have() -> None:
    rows = tomllib.loads((SUITES.parent / "figures.toml").read_text())["made"]
    for row in rows:
        if row["list"] != "rows":
            continue
        suite = load_media_suite(SUITES / f"{row['suite']}.toml")
        groups = {group.name: group for group in suite.groups}
        for where in (row[key] for key in ("where", "nearest", "real", "wrong") if key in row):
            assert where["group"] in groups
            assert where.get("source", "text") in groups[where["group"]].sources
            assert where.get("family", "flow") in suite.families


def test_main_also_writes_what_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "eval/results").mkdir(parents=True)
    (tmp_path / "eval/results/pictures.json").write_text(json.dumps(made_report()))
    tables = 'rows = []\n[[made]]\ntitle="t"\nsuite="pictures"\nlist="rows"\nmetric="top_1"\nwhere={family="vae"}\n'
    (tmp_path / "eval/figures.toml").write_text(tables)
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(f"{figures.START}\n{figures.END}\n")
    page = tmp_path / "docs/figures.md"
    page.write_text(f"{figures.START}\n{figures.END}\n{figures.MADE_START}\nold\n{figures.MADE_END}\n")
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["figures"])
    figures.main()
    assert "| t | 40.0 [30, 50] |" in page.read_text() and "old" not in page.read_text()
    index = (tmp_path / "eval/results/README.md").read_text()
    assert "## What is generated" in index and "[pictures](pictures.md)" in index


@pytest.mark.parametrize(
    ("name", "base", "rest"),
    [("woman cook", "woman", "cook"), ("woman cook", "cook", "woman"), ("cat face", "dog", ""), ("catfish", "cat", ""),
     ("cat with tears", "cat", "with tears"), ("dog of the", "dog", "")],
)  # fmt: skip
def test_rest_of_a_name(name: str, base: str, rest: str) -> None:
    assert rest_of(name, base) == rest


def test_pairs_stay_within_a_group_and_leave_symbols_out() -> None:
    names = [("cat", "animals"), ("cat face", "animals"), ("face", "body"), ("up", "symbols"), ("up arrow", "symbols")]
    rows = [{"captions": [name], "concept": name, "extra": {"group": group}} for name, group in names]
    assert pairs_of(rows) == [{"base": "cat", "words": "face", "target": "cat face", "name": "cat face"}]


def test_couples_never_repeat_and_treat_all_stamps_alike() -> None:
    stamps = [{"id": str(number)} for number in range(40)]
    met = [frozenset((first["id"], second["id"])) for _, first, second in couples(stamps)]
    assert len(met) == len(set(met)) == 40 * 8
    assert all(len(pair) == 2 for pair in met)
    assert {sum(stamp["id"] in pair for pair in met) for stamp in stamps} == {16}


def test_fresh_pairs_and_couples_are_none_of_the_first() -> None:
    names = {"cat": "animals-nature", "cat with tears of joy": "smileys-emotion", "man": "people-body"}
    names |= {"man: beard": "people-body", "man cook": "people-body"}
    rows: list[dict[str, Any]] = [
        {"id": name, "concept": name, "captions": [name], "extra": {"group": group}} for name, group in names.items()
    ]
    first, fresh = pairs_of(rows), fresh_pairs_of(rows)
    assert [pair["target"] for pair in first] == ["man cook"]
    assert [(pair["base"], pair["words"]) for pair in fresh] == [("cat", "with tears of joy"), ("man", "beard")]
    stamps = [{"id": str(number)} for number in range(281)]
    met = {frozenset((one["id"], other["id"])) for _, one, other in couples(stamps)}
    others = [frozenset((one["id"], other["id"])) for _, one, other in couples(stamps[::2], 9)]
    assert len(others) == len(set(others)) == 141 * 8
    assert met.isdisjoint(others)


def test_figures_of_films_are_those_of_the_reports() -> None:
    report = {
        "onsets": {"all, too": {"f1": [0.5, 0.4, 0.6], "chance": [0.1, 0.0, 0.2], "clips": 7}},
        "list": [{"x": 3.14}],
    }
    row = {"title": "{onsets.all, too.clips} clips", "report": "films", "ask": "0.7", "digits": 2}
    row |= {"value": "onsets.all, too.f1", "chance": "onsets.all, too.chance"}
    table = film_figures.films_table([row], {"films": report})
    assert "| [7 clips](eval/results/films.md) | 0.50 [0.40, 0.60] |  | 0.10 | 0.7 |  |" in table
    mark = {"text": "seen before", "of": [{"suite": "films"}]}
    assert "7 clips †1" in film_figures.films_table([row], {"films": report}, [mark])
    assert "| films | not measured" in film_figures.films_table([row], {})
    assert film_figures.value_at(report, ["list", "0", "x"]) == 3.14
    with pytest.raises(SystemExit, match="the report has no 'f2' there"):
        film_figures.value_at(report, "onsets.all, too.f2")


def test_no_count_is_typed_in_a_title_of_films() -> None:
    tables = tomllib.loads((SUITES.parent / "figures.toml").read_text())
    for row in tables["films"]:
        assert not re.search(r"\d", re.sub(r"R@\d+|F1|\{[^}]*\}", "", row["title"])), row["title"]
