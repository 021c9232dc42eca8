"""A value passes few rooms of the package: those that `docs/architecture.md` draws, and no other."""

from __future__ import annotations

import gc
import re
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

import embedspace
from embedspace.cli.app import application

ROOT = Path(__file__).resolve().parents[2]
GROUND = {"__init__", "config", "errors", "files", "modality", "plugins", "segment", "stages"}
"""Names, records, files and a clock that every room may use; none of them makes a value into another."""


def rooms_of(arguments: Sequence[str]) -> set[str]:
    """Return the rooms whose functions a command calls, in whatever thread."""
    inside, seen = f"{Path(embedspace.__file__).parent}/", set[str]()
    verbs = application()  # their options are read before a value goes anywhere

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(inside) and not code.co_name.startswith("<"):
            first = frame.f_back and frame.f_back.f_code.co_name == "<module>"  # a module that is being imported
            if not first:
                seen.add(code.co_filename.removeprefix(inside).partition("/")[0].removesuffix(".py"))

    listeners, gc.callbacks[:] = list(gc.callbacks), []  # a server of another test listens to the collector
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        result = CliRunner().invoke(verbs, list(arguments), catch_exceptions=False)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        gc.callbacks[:] = listeners
    assert result.exit_code == 0, result.output
    return seen - GROUND


def drawn(title: str) -> set[str]:
    """Return the rooms that the page lists below one drawing."""
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    section = page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    line = re.search(r"^\w+ rooms: (.+?)\.$", section, re.MULTILINE | re.DOTALL)
    assert line, title
    return set(re.sub(r"\([^)]*\)", "", line[1]).replace("\n", " ").replace(" ", "").split(","))


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory, tiny_space_folder: Path) -> tuple[Path, set[str]]:
    """A catalog of one picture, and the rooms that indexing it passed."""
    folder = tmp_path_factory.mktemp("rooms")
    Image.new("RGB", (64, 64), (200, 30, 30)).save(folder / "red.png")
    made = folder / "made.catalog"
    return made, rooms_of(["index", str(folder), "--catalog", str(made), "--space", str(tiny_space_folder)])


def test_a_text_query_passes_six_rooms(catalog: tuple[Path, set[str]], tiny_space_folder: Path) -> None:
    passed = rooms_of(["search", str(catalog[0]), "a red flower", "--space", str(tiny_space_folder)])
    assert passed == drawn("One query")
    assert len(passed) <= 6


def test_a_file_passes_few_rooms(catalog: tuple[Path, set[str]]) -> None:
    assert catalog[1] == drawn("One file")
    assert len(catalog[1]) <= 8


def test_a_picture_that_is_generated_passes_eight_rooms(tmp_path: Path) -> None:
    made = tmp_path / "made.png"
    passed = rooms_of(["generate", "--from", "a red flower", "--to", "image", "--out", str(made), "--steps", "2"])
    assert made.is_file()
    assert passed == drawn("One picture that is generated")
    assert len(passed) <= 8
