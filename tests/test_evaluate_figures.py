"""The tables of figures follow from the results alone."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from embedspace.evaluate import load_suite
from embedspace.evaluate.media_suite import load_media_suite
from eval import figures
from eval.composed_pairs import pairs_of, rest_of
from eval.composed_scenes import couples

SUITES = Path(__file__).parents[1] / "eval/suites"


def report(**changes: Any) -> dict[str, Any]:
    metrics = {"recall_at_1": [0.4, 0.35, 0.45], "recall_at_10": [0.75, 0.7, 0.8], "medr": [3.0, 2.0, 4.0]}
    result = {"query": "image", "gallery": "text", "label": "", "gallery_size": 281, "metrics": metrics}
    base = {"suite": "stamps", "description": "d", "commit": "c" * 40, "date": "2026-01-01", "split_hash": "s" * 64}
    return base | {"weights": {"image": "w" * 64}, "results": [result], "gains": {}} | changes


def test_figure_row_quotes_value_and_interval() -> None:
    row = {"title": "image → text", "suite": "stamps", "query": "image", "gallery": "text", "ask": "40 / 75"}
    expected = "| image → text | 281 | 40.0 [35, 45] | 75.0 [70, 80] | 3 | 40 / 75 |  |"
    assert figures.figure_row(row, {"stamps": report()}) == expected


def test_figure_row_says_what_was_not_measured() -> None:
    row = {"title": "t", "suite": "stamps", "query": "text", "gallery": "image"}
    assert "not measured" in figures.figure_row(row, {"stamps": report()})
    assert "not measured" in figures.figure_row(row, {})


def test_main_rewrites_and_checks_the_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "eval/results").mkdir(parents=True)
    (tmp_path / "eval/results/stamps.json").write_text(json.dumps(report()))
    (tmp_path / "eval/results/bench.json").write_text("[1]")
    (tmp_path / "eval/figures.toml").write_text('[[rows]]\ntitle="t"\nsuite="stamps"\nquery="image"\ngallery="text"\n')
    readme = tmp_path / "README.md"
    readme.write_text("no table")
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["figures"])
    with pytest.raises(SystemExit, match="figures:start"):
        figures.main()
    readme.write_text(f"before\n{figures.START}\nold\n{figures.END}\nafter\n")
    figures.main()
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| t | 281 | 40.0 [35, 45] |" in text
    assert "old" not in text
    assert "[stamps](stamps.md)" in (tmp_path / "eval/results/README.md").read_text()
    monkeypatch.setattr("sys.argv", ["figures", "--check"])
    figures.main()
    readme.write_text(text.replace("40.0", "99.0"))
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
    assert "| t | 40.0 [30, 50] | 80.0 [70, 90] |  | ≥ 35 |  |" in table
    assert "| t | not measured |" in figures.made_table([row], {})


def test_rows_of_what_is_made_name_groups_and_sources_that_the_suites_have() -> None:
    rows = tomllib.loads((SUITES.parent / "figures.toml").read_text())["made"]
    for row in rows:
        if row["list"] != "rows":
            continue
        suite = load_media_suite(SUITES / f"{row['suite']}.toml")
        groups = {group.name: group for group in suite.groups}
        for where in (row[key] for key in ("where", "real", "wrong") if key in row):
            assert where["group"] in groups
            assert where.get("source", "text") in groups[where["group"]].sources
            assert where.get("family", "flow") in suite.families


def test_main_also_writes_what_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "eval/results").mkdir(parents=True)
    (tmp_path / "eval/results/pictures.json").write_text(json.dumps(made_report()))
    tables = 'rows = []\n[[made]]\ntitle="t"\nsuite="pictures"\nlist="rows"\nmetric="top_1"\nwhere={family="vae"}\n'
    (tmp_path / "eval/figures.toml").write_text(tables)
    readme = tmp_path / "README.md"
    readme.write_text(f"{figures.START}\n{figures.END}\n{figures.MADE_START}\nold\n{figures.MADE_END}\n")
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["figures"])
    figures.main()
    assert "| t | 40.0 [30, 50] |" in readme.read_text() and "old" not in readme.read_text()
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
