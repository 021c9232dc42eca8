"""The tools of an assistant: the official client, over standard input and output of a real process."""

from __future__ import annotations

import base64
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters, stdio_client
from PIL import Image

from embedspace import Catalog, EmbeddingSpace
from embedspace.catalog.ingest.ingest import ingest
from embedspace.cli import main
from embedspace.errors import MissingExtraError, UnknownItemError, UnknownModalityError
from embedspace.integrations.collection import Asked, Collection

pytestmark = [pytest.mark.filterwarnings("default::DeprecationWarning")]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def space() -> EmbeddingSpace:
    return EmbeddingSpace.from_pretrained()


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mcp") / "media"
    folder.mkdir()
    for colour in ("red", "blue"):
        Image.new("RGB", (640, 320), colour).save(folder / f"{colour}.png")
    (folder / "dog.txt").write_text("a dog barks at the postman")
    (folder / "tulip.txt").write_text("a red tulip in the garden")
    return folder


@pytest.fixture(scope="module")
def catalog(space: EmbeddingSpace, media: Path) -> Path:
    path = media.parent / "media.catalog"
    with Catalog.create(
        path,
        embed_dim=space.embed_dim,
        fingerprints=space.fingerprints(),
        calibration_json=space.calibration_json(),
    ) as made:
        ingest(made, [media], space, workers=1)
    return path


@pytest.fixture
def collection(catalog: Path, space: EmbeddingSpace) -> Iterator[Collection]:
    with Catalog.open(catalog, read_only=True) as opened:
        yield Collection(opened, space)


def _facts(result: Any) -> dict[str, Any]:
    assert not result.is_error, result.content
    return json.loads(result.content[0].text)


def test_an_assistant_searches_looks_and_generates(catalog: Path, media: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "embedspace.cli", "mcp", str(catalog), "--out", str(tmp_path / "made")]
    server = StdioServerParameters(command=command[0], args=command[1:], cwd=str(ROOT), env=dict(os.environ))
    told: dict[str, Any] = {}

    async def talk() -> None:
        async with Client(stdio_client(server)) as client:
            told["instructions"] = client.instructions
            told["tools"] = {tool.name: tool for tool in (await client.list_tools()).tools}
            words = {"terms": [{"text": "a flower"}], "to": ["text"], "k": 1}
            told["search"] = await client.call_tool("search", words)
            hit = told["search"].structured_content["hits"][0]
            both = [{"id": hit["id"], "weight": 2}, {"text": "garden", "weight": -0.5}]
            told["both"] = await client.call_tool("search", {"terms": both})
            found = await client.call_tool("search", {"terms": [{"text": "red"}], "to": ["image"]})
            told["pictures"] = found.structured_content["hits"]
            told["look"] = await client.call_tool("look", {"id": told["pictures"][0]["id"]})
            told["nothing"] = await client.call_tool("look", {"id": "../../etc/passwd"})
            told["filter"] = await client.call_tool("search", {**words, "where": "nope = 1"})
            told["neither"] = await client.call_tool("search", {"terms": [{"weight": 1}]})
            wanted = {"terms": [{"text": "a dog"}], "to": "image", "seed": 3, "num_steps": 4}
            told["made"] = await client.call_tool("generate", wanted)
            told["said"] = await client.call_tool("generate", {"terms": [{"text": "a dog"}], "to": "text"})

    anyio.run(talk)
    assert set(told["tools"]) == {"search", "look", "generate"}
    assert told["tools"]["search"].annotations.read_only_hint and told["tools"]["search"].output_schema
    assert "2 text" in told["instructions"] and "2 image" in told["instructions"]
    (hit,) = told["search"].structured_content["hits"]
    assert hit["name"] == "tulip.txt" and hit["text"] == "a red tulip in the garden" and hit["probability"] > 0
    assert json.loads(told["search"].content[0].text)["hits"][0]["id"] == hit["id"]
    assert told["both"].structured_content["hits"][0]["id"] == hit["id"]
    assert {picture["name"] for picture in told["pictures"]} == {"red.png", "blue.png"}
    facts = _facts(told["look"])
    assert facts["uris"] == [str(media / told["pictures"][0]["name"])]
    assert facts["neighbours"]["image"][0]["id"] == told["pictures"][1]["id"]
    shown = Image.open(io.BytesIO(base64.b64decode(told["look"].content[1].data)), formats=["WEBP"])
    assert shown.size == (512, 256) and told["look"].content[1].mime_type == "image/webp"
    for name, message in (
        ("nothing", "no such item in the catalog"),
        ("filter", "unknown field 'nope'"),
        ("neither", "a term has either text or id"),
    ):
        assert told[name].is_error and message in told[name].content[0].text and "\n" not in told[name].content[0].text
    made = _facts(told["made"])
    assert (made["seed"], made["outside"]) == (3, False) and made["nearest_training_items"]
    assert Path(made["file"]).parent == tmp_path / "made"
    assert Path(made["file"]).read_bytes() == base64.b64decode(told["made"].content[1].data)
    with Image.open(made["file"]) as drawn:
        assert drawn.size == (96, 96)
    assert _facts(told["said"])["text"] and Path(_facts(told["said"])["file"]).suffix == ".txt"


def test_words_never_become_a_path(
    collection: Collection, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = str(media / "red.png")
    found = collection.search([Asked(text=name)])["hits"]
    monkeypatch.chdir(tmp_path)
    assert collection.search([Asked(text=name)])["hits"] == found
    expected = collection.space.similarity(collection.space.encode_text(name), collection.space.encode_image(name))
    scores = {hit["name"]: hit["score"] for hit in found}
    assert scores["red.png"] == pytest.approx(float(expected[0, 0]), abs=2e-3)
    assert collection.search([Asked(text="\ud800 a dog"), Asked(text="- \0 + 2:dog")])["hits"]
    with pytest.raises(UnknownItemError, match="no such item"):
        collection.search([Asked(id=name)])
    with pytest.raises(UnknownItemError, match="no such item"):
        collection.look(name)


def test_an_item_is_taken_only_as_what_it_holds(collection: Collection) -> None:
    hit = collection.search([Asked(text="red")], to=["image"])["hits"][0]
    assert collection.search([Asked(id=hit["id"], modality="image")], to=["image"])["hits"][0]["id"] == hit["id"]
    with pytest.raises(UnknownModalityError, match=f"{hit['name']}: holds image, not speech"):
        collection.search([Asked(id=hit["id"], modality="speech")])


def test_a_file_that_changed_or_leads_out_is_not_shown(space: EmbeddingSpace, tmp_path: Path) -> None:
    folder, outside = tmp_path / "media", tmp_path / "outside.png"
    folder.mkdir()
    Image.new("RGB", (40, 40), "red").save(folder / "a.png")
    Image.new("RGB", (40, 40), "blue").save(outside)
    made = Catalog.create(tmp_path / "c", embed_dim=space.embed_dim, fingerprints=space.fingerprints())
    with made as catalog:
        ingest(catalog, [folder], space, workers=1)
        collection = Collection(catalog, space)
        (hit,) = collection.search([Asked(text="red")])["hits"]
        assert collection.look(hit["id"])[1] is not None
        facts = (folder / "a.png").stat()
        (folder / "a.png").unlink()
        assert collection.look(hit["id"])[0]["picture"] == "the file is no longer there"
        (folder / "a.png").symlink_to(outside)
        os.utime(outside, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        about, picture = collection.look(hit["id"])
        assert picture is None and about["picture"] == "this item's path leads out of what was indexed"
        (folder / "a.png").unlink()
        Image.new("RGB", (50, 50), "red").save(folder / "a.png")
        assert collection.look(hit["id"])[0]["picture"] == "the file changed since it was indexed"


def test_no_good_match_is_said(collection: Collection) -> None:
    found = collection.search([Asked(text="a red tulip in the garden")], to=["text"])
    assert found["good_match"] is True
    assert collection.search([Asked(text="quarterly tax return of a bank")])["good_match"] is False
    assert collection.search([Asked(text="a dog")], min_probability=1.0) == {
        "hits": [],
        "good_match": False,
        "notes": [],
    }


def test_mistakes_are_one_line(
    catalog: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["mcp", str(tmp_path / "none.catalog")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.delitem(sys.modules, "embedspace.integrations.mcp", raising=False)
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    assert main(["mcp", str(catalog)]) == 2
    assert "pip install 'embedspace[mcp]'" in capsys.readouterr().err
    with pytest.raises(MissingExtraError):
        import embedspace.integrations.mcp  # noqa: F401
