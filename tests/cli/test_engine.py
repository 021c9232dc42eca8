"""An engine on the command line: push, search, verify and snapshot, with Qdrant Edge."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedspace.catalog import Catalog
from tests.support.cli_media import Run, make_run, media_folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return make_run(capsys, monkeypatch)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> Iterator[str]:
    """Media indexed as ./c, pushed to what is returned."""
    monkeypatch.chdir(tmp_path)
    assert run("index", media_folder(tmp_path / "media"), "--catalog", "c", "--quiet").code == 0
    run("catalog", "add", "c", "a red door", "--meta", "year=2020")
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        address = f"qdrant:{folder}/e"
        pushed = run("catalog", "push", "c", "--to", address)
        assert (pushed.code, pushed.out.split(",")[0]) == (0, f"8 segments in {address}")
        yield address


def test_engine_is_searched_like_its_catalog(run: Run, engine: str, tmp_path: Path) -> None:
    for options in ([], ["--where", "year >= 2020"], ["--where", "uri like '%dog%'"], ["--to", "image"]):
        asked = ["a red door", "-k", "4", "--json", *options]
        assert run("search", engine, *asked).out == run("search", "c", *asked).out != ""
    note = "filter: uri like '%dog%': not asked of the engine, SQLite answers it ("
    assert note in run("search", engine, "x", "--where", "uri like '%dog%'").err
    assert "filter: the engine compares all of it" in run("search", engine, "x", "--where", "year = 1", "--explain").err
    assert run("catalog", "verify", "c", "--remote", engine).out.endswith("compared with c: all agree\n")
    assert json.loads(run("catalog", "push", "c", "--to", engine, "--json").out)["written"] == 0
    run("catalog", "remove", "c", "--where", "year = 2020")
    assert "the catalog has changed since it was pushed" in run("search", engine, "a red door", "-k", "1").err
    found = run("catalog", "verify", "c", "--remote", engine)
    assert found.code == 1 and "they do not agree" in found.out and "not in the catalog" in found.out
    assert run("catalog", "push", "c", "--to", engine, "--all").code == 0
    assert json.loads(run("catalog", "verify", "c", "--remote", engine, "--json", "--vectors", "0").out)["ok"]
    assert run("catalog", "snapshot", engine, tmp_path / "s.tar.gz").out.startswith(f"{engine}: ")
    Path("c").rename("d")
    moved = run("search", engine, "x")
    assert moved.code == 2 and moved.err.count("\n") == 1 and "name its folder with catalog (--catalog)" in moved.err
    assert run("search", engine, "x", "--catalog", "d").code == 0
    assert "only where an engine is searched" in run("search", "d", "x", "--catalog", "d").err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["search", "qdrant:http://127.0.0.1:9/media", "x"], "cannot be reached"),
        (
            ["search", "qdrant:nothing", "x"],
            "nothing is there; run: embedspace catalog push CATALOG --to qdrant:nothing",
        ),
        (["catalog", "push", "c", "--to", "http://127.0.0.1:6333/media"], "no engine; write qdrant:http://"),
        (["catalog", "push", "nothing", "--to", "qdrant:e"], "no catalog here"),
        (["catalog", "verify", "c", "--remote", "qdrant:http://127.0.0.1:9/media"], "is the server running?"),
        (["catalog", "snapshot", "qdrant:nothing", "s.tar.gz"], "nothing is there"),
    ],
)
def test_mistake_is_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Catalog.create("c", embed_dim=4, fingerprints={}).close()
    result = run(*arguments)
    assert result.code == 2 and result.out == "" and result.err.count("\n") == 1 and said in result.err
    assert not Path("e").exists() and not Path("nothing").exists() and not Path("s.tar.gz").exists()
