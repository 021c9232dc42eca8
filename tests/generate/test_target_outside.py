"""A target that another package registers is offered, explained, checked and made at every door."""

from __future__ import annotations

import base64
import functools
import importlib
import io
import json
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import soundfile
from mcp.server.mcpserver.exceptions import ToolError

from embedspace import Catalog
from embedspace.cli import app, main
from embedspace.errors import ArgumentError
from embedspace.generate import Request, Sample
from embedspace.integrations.collection import Collection
from embedspace.integrations.mcp import server
from tests.support.generators import SpaceWithGenerators
from tests.support.outside.bell import Bell, registered_bell, write_bell
from tests.support.serving import Running, ServeSpace, filled_catalog, running


class BellSpace(SpaceWithGenerators, ServeSpace):
    """A space that a server takes, with generators in its folder."""

    is_composed = False


@pytest.fixture(autouse=True)
def _bell() -> Iterator[None]:
    with registered_bell():
        yield


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    write_bell(tmp_path)
    media = tmp_path / "media"
    media.mkdir()
    (media / "dog.txt").write_text("a dog")
    return filled_catalog(tmp_path / "media.catalog", media)


def test_the_command_line_offers_what_was_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_bell(tmp_path)
    space = SpaceWithGenerators(tmp_path)
    importlib.import_module("embedspace.cli.shared")
    monkeypatch.setattr("embedspace.cli.shared.space.load_space", lambda *given: space)
    monkeypatch.setattr(app, "_command", functools.cache(app._command.__wrapped__))  # options are read once per process
    for package, name in (("embedspace.cli", "generate"), ("embedspace.cli.shared", "generate_options")):
        monkeypatch.setattr(sys.modules[package], name, importlib.import_module(f"{package}.{name}"))
        monkeypatch.delitem(sys.modules, f"{package}.{name}")  # as in a new process, where the plug-in comes first

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["generate", *arguments])
        return code, *capsys.readouterr()

    code, out, _ = run("--help")
    said = " ".join(out.split())
    assert code == 0 and "<image|audio|text|speech|bell>" in said
    assert "Bells: hertz of the strike note." in said and "Sounds and bells: length." in said
    asked = ("--from", "a dog", "--to", "bell", "--pitch", "330", "--seconds", "0.5", "--force")
    code, out, err = run(*asked)
    assert (code, out.strip()) == (0, "a-dog.bell.wav"), err
    with soundfile.SoundFile(str(tmp_path / "a-dog.bell.wav")) as file:
        about = json.loads(file.comment.partition("embedspace: ")[2])
    assert (about["to"], about["pitch"], about["seconds"]) == ("bell", 330.0, 0.5)
    assert run("--from", "a dog", "--to", "bell", "--size", "32")[::2] == (
        2, "embedspace: --size 32: does not go with --to bell, which takes: --seconds, --pitch\n",
    )  # fmt: skip
    assert run("--from", "a dog", "--to", "bell", "--pitch", "5", "--force")[::2] == (
        2, "embedspace: --pitch 5: must be 20 to 4000\n",
    )  # fmt: skip
    ring = Bell.generate

    def tire(self: Bell, vectors: Any, sigma: Any, request: Request) -> list[list[Sample]]:
        if request.seed > 1:
            raise ArgumentError("seconds", "9: do not fit into the memory")
        return ring(self, vectors, sigma, request)

    monkeypatch.setattr(Bell, "generate", tire)
    monkeypatch.setattr(Bell, "batch", 1)
    code, out, err = run("--from", "a dog", "--to", "bell", "-n", "4", "--out", "many.wav", "--force")
    assert (code, out.split()) == (2, ["many-1.wav", "many-2.wav"]) and (tmp_path / "many-2.wav").is_file()
    assert err == "embedspace: --seconds 9: do not fit into the memory; 2 of 4 samples are finished and kept\n"
    code, _, err = run("--from", "a dog", "--to", "smell")
    assert code == 2 and "'smell' is not one of 'image', 'audio', 'text', 'speech', 'bell'" in err


def _events(served: Running, address: str) -> list[tuple[str, dict[str, Any]]]:
    lines = served.client.get(address).text.split("\n")
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    contents = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    return list(zip(names, contents, strict=True))


def test_http_offers_what_was_registered(catalog: Path, tmp_path: Path) -> None:
    with running(catalog, BellSpace(tmp_path)) as served:
        schema = served.client.get("/openapi.json").json()["components"]["schemas"]["GenerateRequest"]
        assert schema["properties"]["to"]["enum"] == ["image", "audio", "text", "speech", "bell"]
        (number, _) = schema["properties"]["pitch"]["anyOf"]
        assert (number["minimum"], number["maximum"], number["type"]) == (20, 4000, "number")
        assert number["description"] == "Bells: hertz of the strike note."
        about = served.client.get("/api/catalog").json()
        assert about["generates"] == ["bell"]  # the folder holds no other generator
        (target,) = about["targets"]
        assert (target["name"], target["content"]) == ("bell", "audio")
        assert target["options"][1] == {
            "key": "pitch", "type": "float", "least": 20, "most": 4000, "help": "hertz of the strike note",
                "choices": [], "file": False,
        }  # fmt: skip
        asked = {"terms": [{"text": "a dog"}], "to": "bell", "pitch": 330, "seconds": None, "count": 2}
        begun = served.client.post("/api/generate", json=asked)
        assert begun.status_code == 202, begun.text
        results = [content for name, content in _events(served, begun.json()["events"]) if name == "result"]
        assert [one["seed"] for one in results] == [0, 1]
        with soundfile.SoundFile(io.BytesIO(served.client.get(results[0]["url"]).content)) as file:
            assert json.loads(file.comment.partition("embedspace: ")[2])["pitch"] == 330.0
        for change, param, message in (
            ({"pitch": 5}, "pitch", "greater than or equal to 20"),
            ({"pitch": "high"}, "pitch", "valid number"),
            ({"size": 32}, "size", "bell does not take it; it takes: seconds, pitch"),
            ({"to": "image"}, "to", "'image' cannot be made here; known: bell"),
        ):
            answer = served.client.post("/api/generate", json={**asked, **change})
            error = answer.json()["error"]
            assert (answer.status_code, error["param"]) == (400, param) and message in error["message"]


def test_an_assistant_is_offered_what_was_registered(catalog: Path, tmp_path: Path) -> None:
    with Catalog.open(catalog, read_only=True) as opened:
        made = server(Collection(opened, BellSpace(tmp_path)))  # type: ignore[arg-type]
        (tool,) = [tool for tool in anyio.run(made.list_tools) if tool.name == "generate"]
        assert tool.input_schema["properties"]["to"]["enum"] == ["bell"]
        assert tool.input_schema["properties"]["pitch"]["anyOf"][0]["maximum"] == 4000
        assert "size" not in tool.input_schema["properties"]
        assert tool.description is not None and tool.description.startswith("Make bells from words")
        asked = {"terms": [{"text": "a dog"}], "to": "bell", "pitch": 330.0, "force": True}
        facts, sound = anyio.run(made.call_tool, "generate", asked).content
        assert json.loads(facts.text)["to"] == "bell"
        with wave.open(io.BytesIO(base64.b64decode(sound.data))) as file:
            assert (file.getframerate(), file.getnframes()) == (8000, 4000)
        with pytest.raises(ToolError, match="to 'image': this space makes bell"):
            anyio.run(made.call_tool, "generate", {**asked, "to": "image"})


def test_an_assistant_is_offered_nothing_where_nothing_can_be_made(catalog: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    (empty / "heads").mkdir(parents=True)
    with Catalog.open(catalog, read_only=True) as opened:
        made = server(Collection(opened, BellSpace(empty)))  # type: ignore[arg-type]
        assert {tool.name for tool in anyio.run(made.list_tools)} == {"search", "look"}
