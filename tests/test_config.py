"""The one reader of configurations: what a file may say, and the one clear line that it gets where it may not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from embedspace.config import build, load
from embedspace.errors import ConfigError


@dataclass(frozen=True)
class Part:
    steps: int = 10
    rate: float = 0.5
    sizes: tuple[int, int] = (1, 2)


@dataclass(frozen=True)
class Whole:
    name: str
    needed: str
    loss: Literal["infonce", "siglip"] = "infonce"
    part: Part = field(default_factory=Part)
    maybe: Part | None = None
    many: tuple[Part, ...] = ()
    named: Mapping[str, Part] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    options: dict[str, int | float] = field(default_factory=dict)
    anything: Any = None
    folder: Path = Path()
    on: bool = False


def read(tmp_path: Path, text: str, needed: str = 'needed = "x"\n') -> Whole:
    path = tmp_path / "mine.toml"
    path.write_text(needed + text)
    return load(Whole, path, what="recipe")


def test_a_file_lists_what_differs(tmp_path: Path) -> None:
    assert read(tmp_path, "") == Whole("mine", "x")
    made = read(
        tmp_path,
        'name = "other"\nfolder = "a/b"\non = true\nanything = [1, "b"]\nloss = "siglip"\n'
        "[part]\nsizes = [3, 4]\n[maybe]\nsteps = 3\n[[many]]\n[[many]]\nrate = 2\n"
        "[named.a]\nsteps = 1\n[shares]\nb = 1\n[options]\nc = 2\nd = 0.5\n",
    )
    assert made == Whole(
        "other",
        "x",
        "siglip",
        Part(sizes=(3, 4)),
        Part(3),
        (Part(), Part(rate=2.0)),
        {"a": Part(1)},
        {"b": 1.0},
        {"c": 2, "d": 0.5},
        [1, "b"],
        Path("a/b"),
        True,
    )
    assert isinstance(made.many[1].rate, float)
    assert isinstance(made.options["c"], int)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("speed = 1", "mine.toml: unknown key 'speed'; known: name, needed"),
        ("b = 1\na = 1", "unknown key 'a', 'b'; known"),
        ("[part]\nstep = 1", "mine.toml: part: unknown key 'step'; known: steps, rate, sizes"),
        ("[named.a]\nstep = 1", "mine.toml: named.a: unknown key 'step'"),
        ("[[many]]\n[[many]]\nsteps = 'x'", "mine.toml: many[1].steps: must be a whole number, got 'x'"),
        ("part = 3", "mine.toml: part: must be a table, got 3"),
        ("many = [3]", "mine.toml: many[0]: must be a table, got 3"),
        ("many = 3", "mine.toml: many: must be a list of tables, got 3"),
        ("on = 1", "on: must be true or false, got 1"),
        ("[part]\nsteps = true", "part.steps: must be a whole number, got True"),
        ("[part]\nsteps = 1.5", "part.steps: must be a whole number, got 1.5"),
        ("[part]\nrate = 'fast'", "part.rate: must be a number, got 'fast'"),
        ("[part]\nsizes = [1]", "part.sizes: must be a list of 2, got [1]"),
        ("[part]\nsizes = [1, 'b']", "part.sizes: must be a list of 2, got [1, 'b']"),
        ("[shares]\nb = 'many'", "shares.b: must be a number, got 'many'"),
        ("loss = 'mse'", "loss: must be one of 'infonce', 'siglip', got 'mse'"),
        ("folder = 3", "folder: must be a path, got 3"),
        ("name = [", "mine.toml: not a TOML file: "),
    ],
)
def test_a_wrong_file_gets_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_key_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mine.toml: key 'needed' is missing"):
        read(tmp_path, "", needed="")
    with pytest.raises(ConfigError, match=r"none.toml: no such recipe; look elsewhere"):
        load(Whole, tmp_path / "none.toml", what="recipe", hint="look elsewhere")
    with pytest.raises(ConfigError, match="cannot read the recipe"):
        load(Whole, tmp_path, what="recipe")
    (tmp_path / "latin.toml").write_bytes(b'name = "caf\xe9"')
    with pytest.raises(ConfigError, match="not a TOML file"):
        load(Whole, tmp_path / "latin.toml")


def test_what_the_caller_knows_no_table_may_say() -> None:
    assert build(Part, {"steps": 3}, "here", rate=0.1) == Part(3, 0.1)
    with pytest.raises(ConfigError, match=r"here: unknown key 'rate'; known: steps, sizes"):
        build(Part, {"rate": 3}, "here", rate=0.1)


@dataclass(frozen=True)
class Renamed:
    name: str
    wheels: int = field(default=2, metadata={"was": "rollers"})


def test_a_key_is_read_under_its_earlier_name() -> None:
    assert build(Renamed, {"name": "a", "rollers": 4}, "x.toml") == build(Renamed, {"name": "a", "wheels": 4}, "x.toml")
    with pytest.raises(ConfigError, match=r"x\.toml: 'rollers' is called 'wheels' now; name it once"):
        build(Renamed, {"name": "a", "rollers": 4, "wheels": 3}, "x.toml")
    with pytest.raises(ConfigError, match=r"x\.toml: rollers: must be a whole number|x\.toml: wheels: must be a whole"):
        build(Renamed, {"name": "a", "rollers": "many"}, "x.toml")
