"""`make weights`: the stages that rebuild what ships, in order, resumable, and true to the files that they name."""

from __future__ import annotations

import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from embedspace.errors import ConfigError, EmbedspaceError
from training import weights
from training.weights import Stage

ROOT = Path(__file__).resolve().parents[2]


def stages(folder: Path) -> list[Stage]:
    """Three stages: each writes its name, the last needs the others' files."""
    write = "import pathlib,sys; path = pathlib.Path(sys.argv[1]); path.write_text(path.name)"
    lines = [f"python -c {shlex.quote(write)} {shlex.quote(str(folder / name))}" for name in ("first", "second")]
    copy = "copy " + shlex.join(str(folder / name) for name in ("first", "sec*", "out"))
    return [Stage("one", "a", 1, (lines[0],)), Stage("two", "b", 2, (lines[1],)), Stage("three", "c", 3, (copy,))]


def test_stages_run_in_order_and_are_not_run_again(tmp_path: Path) -> None:
    told: list[str] = []
    every, done = stages(tmp_path), tmp_path / "done"
    weights.run_stages(weights.chosen_stages(every, None, None, done), done, told.append)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["first", "second"]
    assert [line.split(":")[0] for line in told if line.startswith("==")] == [
        name for name in ("== one", "== two", "== three") for _ in range(2)
    ]
    assert all("minutes" in line for line in told if line.startswith("=="))
    assert weights.chosen_stages(every, None, None, done) == []
    changed = [every[0], Stage("two", "b", 2, (*every[1].run, every[1].run[0])), every[2]]
    assert [stage.name for stage in weights.chosen_stages(changed, None, None, done)] == ["two"]


def test_a_stage_that_fails_stops_the_run_which_then_goes_on_there(tmp_path: Path) -> None:
    every, done = stages(tmp_path), tmp_path / "done"
    broken = [every[0], Stage("two", "b", 2, ("python -c 'raise SystemExit(3)'",)), every[2]]
    with pytest.raises(EmbedspaceError, match=r"stage two: .* ended with 3; mend it and run again"):
        weights.run_stages(broken, done, lambda line: None)
    assert not (tmp_path / "out").exists()
    assert [stage.name for stage in weights.chosen_stages(every, None, None, done)] == ["two", "three"]
    with pytest.raises(EmbedspaceError, match="no such file"):
        weights.run_stages(every[2:], done, lambda line: None)


def test_some_stages_are_chosen_by_name(tmp_path: Path) -> None:
    every = stages(tmp_path)
    assert [s.name for s in weights.chosen_stages(every, "two", None, tmp_path)] == ["two", "three"]
    assert [s.name for s in weights.chosen_stages(every, None, ["three", "one"], tmp_path)] == ["one", "three"]
    with pytest.raises(ConfigError, match="unknown stage 'four'; known: one two three"):
        weights.chosen_stages(every, "four", None, tmp_path)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ('name = "a"\nwhat = "b"\nminutes = 1', "'run'"),
        ('name = "a"\nwhat = "b"\nminutes = 1\nrun = []\nhours = 2', "hours"),
        ('name = "a"\nwhat = "b"\nminutes = 1\nrun = ["rm -r x"]', "begin with python, embedspace or copy"),
    ],
)
def test_a_wrong_list_is_refused(tmp_path: Path, body: str, what: str) -> None:
    path = tmp_path / "weights.toml"
    path.write_text(f"[[stages]]\n{body}\n")
    with pytest.raises(ConfigError, match=what):
        weights.load_stages(path)


def test_every_command_names_what_exists() -> None:
    for stage in weights.load_stages():
        assert stage.minutes > 0
        for line in stage.run:
            words = shlex.split(line)
            if words[0] == "python":
                assert words[1] == "-m" and importlib.util.find_spec(words[2]) is not None, line
            if words[0] == "copy":
                assert words[-1].startswith("embedspace/weights/") and (ROOT / words[-1]).is_dir(), line
            for word in words:
                if word.endswith(".toml"):
                    assert (ROOT / word).is_file(), line


def test_every_generator_and_every_trained_section_is_rebuilt() -> None:
    lines = [line for stage in weights.load_stages() for line in stage.run]
    for folder in (ROOT / "embedspace/weights/heads").iterdir():
        if folder.is_dir():
            made = f"build/runs/generators/{folder.name}/generator/*"
            assert f"copy {made} embedspace/weights/heads/{folder.name}" in lines
    assert sum(line.endswith("embedspace/weights/default") and line.startswith("copy") for line in lines) == 3


def test_the_page_names_every_stage_with_its_minutes() -> None:
    page = (ROOT / "training/README.md").read_text("utf-8")
    rows = [f"| `{stage.name}` | {stage.what} | {stage.minutes:g} |" for stage in weights.load_stages()]
    assert "\n".join(rows) in page


def test_the_command_lists_and_says_what_it_would_run(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "training.weights", "--done", str(tmp_path), *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    names = [stage.name for stage in weights.load_stages()]
    listed = run("--list").stdout.splitlines()
    assert [line.split()[0] for line in listed] == [*names, "all"] and all(" min " in line for line in listed)
    told = run("--dry-run", "--from", "judges").stdout
    assert "python -m training.judges.sounds" in told and "== measure" in told and "== corpora" not in told
    wrong = run("--only", "nothing")
    assert wrong.returncode == 1 and wrong.stderr.startswith("unknown stage 'nothing'; known: backbones")
    assert not any(tmp_path.iterdir())
