from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from embedspace.errors import ConfigError
from embedspace.train.loop import FitProgress
from tests.support.cli_media import Run, make_run
from tests.support.tiny_towers import write_recipe

SUITE = """
name = "tiny"
speed = 3
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    return make_run(capsys, monkeypatch)


def _replace_training(monkeypatch: pytest.MonkeyPatch, align: Any) -> None:
    module = ModuleType("embedspace.train.generators.run")
    module.train_generator = align  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_eval_refuses_a_missing_suite(run: Run) -> None:
    result = run("eval", "retrieval", "nothing.toml")
    assert result.code == 2
    assert "nothing.toml: no such suite" in result.error


def test_eval_refuses_a_wrong_suite(run: Run) -> None:
    Path("suite.toml").write_text(SUITE)
    result = run("eval", "retrieval", "suite.toml")
    assert result.code == 2
    assert "speed" in result.error
    Path("suite.toml").write_text("name = [")
    result = run("eval", "retrieval", "suite.toml")
    assert result.code == 2
    assert "suite.toml" in result.error


def test_eval_prints_the_table_or_the_record(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    def evaluate_retrieval(suite: Path, space: Any, out: Path | None, callback: Any) -> dict[str, Any]:
        calls.append((suite, space.embed_dim, out))
        callback("image", 1, 2)
        return {"suite": "tiny", "results": []}

    monkeypatch.setattr("embedspace.evaluate.report.evaluate_retrieval", evaluate_retrieval)
    monkeypatch.setattr("embedspace.evaluate.report.markdown", lambda entry: f"# {entry['suite']}")
    Path("suite.toml").write_text(SUITE)
    assert run("eval", "retrieval", "suite.toml", "--out", "results").out == "# tiny\n"
    assert json.loads(run("eval", "retrieval", "suite.toml", "--json").out) == {"suite": "tiny", "results": []}
    assert calls == [(Path("suite.toml"), 64, Path("results")), (Path("suite.toml"), 64, None)]


def test_train_passes_on_what_it_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Path, dict[str, Any]]] = []

    def align(recipe: Path, **options: Any) -> None:
        options.pop("callback")(FitProgress("image", 250, 1500, 12.4, {"loss": 1.23456, "recall_at_10": 0.5}))
        calls.append((recipe, options))

    _replace_training(monkeypatch, align)
    Path("recipe.toml").write_text("seed = 1\n")
    told = ("--minutes", "2", "--out", "weights", "--resume", "--seed", "3", "--family", "vae")
    result = run("train", "generator", "recipe.toml", *told)
    assert result.code == 0
    assert result.out == "image  step 250/1500  12 s  loss 1.235  recall_at_10 0.5\nNone\n"
    assert calls == [
        (
            Path("recipe.toml"),
            {
                "minutes": 2.0,
                "out": Path("weights"),
                "resume": True,
                "seed": 3,
                "families": ("vae",),
                "videos": None,
                "landmarks": None,
                "pairs": None,
                "folders": None,
            },
        ),
    ]


def test_train_refuses_a_bad_recipe(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nothing.toml: no such recipe" in run("train", "head", "nothing.toml").error

    def align(recipe: Path, **_: Any) -> None:
        raise ConfigError(f"{recipe}: unknown key speed")

    _replace_training(monkeypatch, align)
    Path("recipe.toml").write_text("speed = 1\n")
    result = run("train", "head", "recipe.toml")
    assert (result.code, result.error) == (2, "embedspace: recipe.toml: unknown key speed")


def test_train_interrupted_says_how_to_go_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def align(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    _replace_training(monkeypatch, align)
    Path("recipe.toml").write_text("")
    result = run("train", "head", "recipe.toml")
    assert result.code == 130
    assert "--resume" in result.error


def test_train_align_makes_a_space_of_anyones_towers(run: Run, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, {"steps = 60": "steps = 4", "evaluate_every = 30": "evaluate_every = 4"})
    with (tmp_path / "squares.csv").open("a") as file:
        file.write("none.png,a thing,train\n")
    result = run("train", "align", recipe, "--out", "made", "--seed", "3")
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[-1] == str(Path("made/space"))
    assert any(line.startswith("align  step 4/4") and "recall_at_10" in line for line in lines)
    assert result.err.startswith("skipped: ")
    assert "none.png: no such file" in result.err
    assert json.loads(Path("made/space/recipe.json").read_text())["seed"] == 3
    assert "go on with --resume" in run("train", "align", recipe, "--out", "short", "--minutes", "0").out
    assert "nothing.toml: no such recipe" in run("train", "align", "nothing.toml").error


def test_a_generator_is_trained_under_its_old_name_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    _replace_training(monkeypatch, lambda recipe, **options: f"head of {recipe}")
    Path("recipe.toml").write_text("")
    assert run("train", "generator", "recipe.toml").out == run("train", "head", "recipe.toml").out
    assert "generator" in run("train", "--help").out
    assert "head " not in run("train", "--help").out
