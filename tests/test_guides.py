"""The guides under docs run as they stand: their TOML, their commands, their Python."""

from __future__ import annotations

import ast
import json
import re
import shlex
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embedspace import EmbeddingSpace
from embedspace import modality as modalities
from embedspace.cli import main
from embedspace.encoders import registry
from tests.support.serving import running
from tests.support.tiny_towers import write_manifest, write_squares
from tests.support.towers import tiny_clap, tiny_open_clip

DOCS = Path(__file__).resolve().parents[1] / "docs"


def blocks(page: str) -> list[tuple[str, str]]:
    """Return (language, text) of each fenced block."""
    return re.findall(r"```(\w+)\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)


def file_name(text: str) -> str:
    """Return the name that a block's first line gives the file it stands for, "" without one."""
    found = re.match(r"# (\w[\w.-]*\.(?:py|toml))\n", text)
    return found[1] if found else ""


def write_media(folder: Path) -> None:
    folder.mkdir()
    Image.new("RGB", (64, 64), "red").save(folder / "flower.png")
    samples = (8000 * np.sin(np.arange(48_000) / 20)).astype("<i2")
    with wave.open(str(folder / "hum.wav"), "wb") as out:
        out.setparams((1, 2, 48_000, 0, "NONE", ""))
        out.writeframes(samples.tobytes())
    (folder / "note.txt").write_text("a red flower")


def write_pairs(folder: Path) -> None:
    """Write a dozen pictures and their manifest."""
    rows = []
    for number, colour in enumerate(("red", "green", "blue", "white") * 3):
        Image.new("RGB", (32, 32), colour).save(folder / f"{number}.png")
        rows.append({"path": f"{number}.png", "captions": [f"a {colour} square"], "split": "train"})
    (folder / "stamps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_bring_your_own_towers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_open_clip(tmp_path / "my-clip")
    tiny_clap(tmp_path / "my-clap")
    write_media(tmp_path / "media")
    colours, things = "red green blue black white grey pink brown".split(), "flower dog house car tree bird".split()
    lines = [
        f"a {colour} {thing} {place}" for colour in colours for thing in things for place in ("", "outside", "at home")
    ]
    Path("captions.txt").write_text("\n".join(lines))
    write_pairs(tmp_path)
    said = played("bring-your-own-towers.md", capsys)
    assert "siglip2-clap" in said[0]
    assert any("flower.png" in output or "note.txt" in output for output in said)
    assert "True False" in said[-2]  # audio, and no speech
    assert "(1, 8)" in said[-1]


def test_train_on_your_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_open_clip(tmp_path / "my-clip")
    tiny_clap(tmp_path / "my-clap")
    rows = write_squares(tmp_path / "media", 48)
    captions = [f"{row['caption']} {place}" for row in rows for place in map(str, range(20))]
    Path("captions.txt").write_text("\n".join(captions))
    Path("my-space.toml").write_text(
        'anchor = "clap"\n[connect.clip]\nmethod = "blend"\ntexts = ["captions.txt"]\n'
        '[towers.clip]\nmodel = "open_clip:local-dir:my-clip"\nmodalities = ["text", "image"]\n'
        '[towers.clap]\nmodel = "transformers:my-clap"\nmodalities = ["text", "audio"]\n'
    )
    run("embedspace space build my-space.toml --out my-space", capsys)
    run("embedspace index media --catalog my.catalog --space my-space", capsys)
    table = next(text for language, text in blocks("train-on-your-pairs.md") if language == "csv")
    assert table.splitlines()[0].split(",") == list(rows[0])
    write_manifest(Path("pairs.csv"), [{**row, "path": f"media/{row['path']}"} for row in rows])
    said = played("train-on-your-pairs.md", capsys)
    assert "runs/new/space" in said[0]
    assert "start  step 0/40" in said[2]
    assert "correction: image.correction.safetensors" in said[3]
    assert ".png" in said[5]
    before, after, count = said[-1].split()[:3]
    assert (float(after) >= float(before), count) == (True, "40")
    assert "(1, 16)" in said[-1]


def played(page: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Do what a page says in this folder: write its TOML, run its commands and its Python; return what they print."""
    said: list[str] = []
    for language, text in blocks(page):
        if language == "toml":
            Path(file_name(text)).write_text(text)
        elif language == "console":
            said += [run(command, capsys) for command in text.strip().splitlines()]
        elif language == "python":
            exec(compile(text, "guide", "exec", dont_inherit=True), {"__name__": "guide"})
            said.append(capsys.readouterr().out)
    return said


def run(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a line of a guide; return what it prints."""
    assert main(shlex.split(command)[1:]) == 0, (command, capsys.readouterr().err)
    return capsys.readouterr().out


def test_add_a_modality(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(modalities.SUFFIXES, ".npy", "depth")
    written = [(file_name(text), text) for language, text in blocks("add-a-modality.md") if language == "python"]
    for name, text in written:
        Path(name).write_text(text)
    try:
        exec(compile(written[-1][1], "use_depth.py", "exec", dont_inherit=True), {})
    finally:
        modalities._SPECS.pop("depth", None)
        for known in (registry._TYPES, registry._FACTORIES):
            known.pop("depth-guide", None)
        for name in ("media_depth", "encoder_depth"):
            sys.modules.pop(name, None)
    assert "(1, 256)" in capsys.readouterr().out


def test_integrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    write_media(tmp_path / "media")
    Image.new("RGB", (64, 64), "blue").save("media/sky.png")
    run("embedspace index media --catalog media.catalog --quiet", capsys)
    langchain, lance, chroma, llama = (said.splitlines() for said in played("integrations.md", capsys))
    assert langchain[0] == llama[0] == "a red tulip in the garden"
    assert {Path(line.split()[0]).name for line in langchain[1:]} == {"flower.png", "sky.png"}
    (ids,) = ast.literal_eval(chroma[0])
    assert lance[0].startswith("media/") and set(ids) == {"flower", "sky", "note"}


def test_my_folder_tonight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    write_media(tmp_path / "media")
    said = played("tutorial-folder.md", capsys)
    assert "note.txt" in said[1] and "flower.png" in said[3]
    assert "3" in said[-1]


def test_an_http_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    write_media(tmp_path / "media")
    Image.new("RGB", (64, 64), "blue").save("media/sky.png")
    run("embedspace index media --catalog media.catalog --quiet", capsys)
    space = EmbeddingSpace.from_pretrained()
    with running(tmp_path / "media.catalog", space) as server:
        said = []
        for _, text in blocks("tutorial-http.md"):
            here = text.replace("http://127.0.0.1:7997", server.address)
            assert here != text
            exec(compile(here, "guide", "exec", dont_inherit=True), {"__name__": "guide"})
            said += capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in said[:2]} == {"flower.png", "sky.png"} and said[2] == "flower.png"
    assert said[3:] == [f"2 {space.embed_dim}", f"1 {space.embed_dim}"]


def test_every_link_between_pages_leads_somewhere() -> None:
    lost = []
    for page in [*DOCS.glob("*.md"), DOCS.parent / "README.md"]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text("utf-8")):
            if not (page.parent / target).exists():
                lost.append(f"{page.name}: {target}")
    assert lost == []


def test_the_index_names_every_page() -> None:
    index = (DOCS / "index.md").read_text("utf-8")
    assert [page.name for page in DOCS.glob("*.md") if page.name != "index.md" and f"({page.name})" not in index] == []
