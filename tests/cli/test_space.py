"""`embedspace space`, on a space composed of a small random CLIP and CLAP, and on the one that ships."""

from __future__ import annotations

import functools
import http.server
import json
import re
import shutil
import threading
from pathlib import Path
from typing import Any, ClassVar

import huggingface_hub
import numpy as np
import pytest
import soundfile

from embedspace import EmbeddingSpace
from embedspace.cli import main
from embedspace.errors import InputError, WeightsError
from embedspace.evaluate.check import check_space
from embedspace.integrations.hub import pull_space, push_space
from tests.support.towers import noise, tiny_recipe

pytestmark = [
    pytest.mark.filterwarnings("default::DeprecationWarning"),
    pytest.mark.filterwarnings("default::FutureWarning"),
]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was reached")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_recipe(tmp_path_factory.mktemp("composed"))


@pytest.fixture(scope="module")
def built(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "space"
    assert main(["space", "build", str(recipe), "--out", str(out), "--quiet"]) == 0
    return out


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["space", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_list_shows_licences_sizes_and_the_one_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "list")
    assert code == 0
    assert "embedspace index FOLDER --catalog my.catalog --space siglip2-clap --download" in out
    assert "research only" in out and "78.2 (SigLIP 2 B/16" in out
    records = [json.loads(line) for line in run(capsys, "list", "--json")[1].splitlines()]
    assert [record["name"] for record in records] == [
        "clip-clap",
        "clip-h-clap",
        "mobileclip2-clap",
        "pe-av",
        "siglip2-clap",
    ]


def test_build_says_how_well_towers_are_connected(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "build", str(recipe), "--out", str(tmp_path / "new"))
    assert code == 0
    assert "new: text, image, audio, video; 16 dimensions" in out
    assert "connector clap: text to text R@10" in out and "procrustes on 144 texts" in out
    assert "connect clap to clip" in err
    space = EmbeddingSpace.from_pretrained(tmp_path / "new")
    assert space.encode(["a dog"]).shape == (1, 16)
    code, _, err = run(capsys, "build", str(recipe), "--out", str(tmp_path / "new"))
    assert code == 2 and "something is there already" in err


def test_info_of_a_folder_a_file_and_a_preset(recipe: Path, built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads(run(capsys, "info", str(built), "--json")[1])
    assert record["embed_dim"] == 16 and record["probabilities"] is False
    assert record["modalities"]["audio"]["tower"] == "clap"
    assert record["towers"]["clip"]["preprocessing"]["picture"]["resize_mode"] == "squash"
    assert len(record["towers"]["clip"]["digest"]) == 64
    assert record["connectors"]["clap"]["held_out"] > 0
    said = run(capsys, "info", str(built))[1]
    assert "resize_mode: squash" in said and re.search(r"recall_at_10: \d\.\d{1,5}$", said, re.MULTILINE)
    assert "model: sentence-transformers:clap" in run(capsys, "info", str(recipe))[1]
    assert "model: transformers:facebook/pe-av-small" in run(capsys, "info", "pe-av")[1]
    shipped = json.loads(run(capsys, "info", "default", "--json")[1])
    assert shipped["modalities"]["text"]["type"] == "shipped.text" and shipped["probabilities"] is True
    code, _, err = run(capsys, "info", "nope")
    assert code == 2 and "no such folder, and no space of this name; known: default, clip-clap" in err


def test_a_connector_says_how_it_is_centred_and_build_adds_media(
    recipe: Path, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "centred: like texts" in run(capsys, "info", str(built))[1]
    sounds = tmp_path / "sounds" / "deeper"
    sounds.mkdir(parents=True)
    for seed in range(20):
        soundfile.write(sounds / f"{seed}.wav", noise(seed, 0.3), 48_000)
    out = str(tmp_path / "centred")
    code, _, err = run(capsys, "build", str(recipe), "--out", out, "--centre", f"clap={sounds.parent}")
    assert code == 0, err
    assert "centred: by the mean of unlabelled media (20 audio)" in run(capsys, "info", out)[1]
    row, centred = (EmbeddingSpace.from_pretrained(folder).encode_audio(sounds / "0.wav") for folder in (built, out))
    assert np.abs(row - centred).max() > 1e-3
    for given, problem in (("clap", "write a tower and a folder"), ("clip=x", "no connected tower; it has: clap")):
        code, _, err = run(capsys, "build", str(recipe), "--out", str(tmp_path / "no"), "--centre", given)
        assert code == 2 and problem in err and err.count("\n") == 1


def test_check_encodes_samples_of_each_modality(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "check", str(built), "--json")
    record = json.loads(out)
    found = {one["modality"]: one for one in record["modalities"]}
    assert code == 0 and list(found) == ["text", "image", "audio", "video"]
    assert found["text"]["gap"] is None and 0 < found["audio"]["gap"] <= 2
    assert all(one["samples"] == 8 and one["batch_difference"] < 1e-4 for one in found.values())
    code, out, _ = run(capsys, "check", str(built))
    assert code == 0 and out.count(" ok") == 4 and "held-out texts" in out


def test_check_names_the_encoder_that_fails(
    built: Path, tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(built, broken)
    config = json.loads((broken / "config.json").read_text())
    config["towers"]["clap"]["digest"] = "0" * 64
    (broken / "config.json").write_text(json.dumps(config))
    code, out, _ = run(capsys, "check", str(broken), "--json")
    problems = {one["modality"]: one["problem"] for one in json.loads(out)["modalities"]}
    assert code == 1
    assert problems["text"] == "" and "clap" in problems["audio"]


class Doubling:
    """A space whose rows are too long."""

    modalities = ("text",)

    def encode(self, items: list[Any], *, modality: str) -> np.ndarray[Any, Any]:
        return np.full((len(items), 4), 1.0, np.float32)


def test_check_sees_rows_of_the_wrong_length() -> None:
    space: Any = Doubling()
    (found,) = check_space(space)
    assert found.problem == "its rows are not of length 1"


def test_a_preset_asks_before_it_downloads(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "check", "clip-clap")
    assert code == 2
    assert "not on this machine" in err and "--download" in err and err.count("\n") == 1


def test_search_takes_a_space_by_name(recipe: Path, built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vectors = []
    for name in (str(built), str(recipe)):
        assert main(["embed", "a dog", "--json", "--space", name]) == 0
        vectors.append(json.loads(capsys.readouterr().out)["vector"])
    assert vectors[0] == vectors[1] and len(vectors[0]) == 16


def test_pull_copies_what_the_hub_cache_holds(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cached = tmp_path / "hub" / "models--me--mine"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("a" * 40)
    (cached / "refs" / "v1").write_text("b" * 40)
    shutil.copytree(built, cached / "snapshots" / ("a" * 40))
    shutil.copytree(EmbeddingSpace.from_pretrained(None).folder, cached / "snapshots" / ("b" * 40))
    for revision, width in (("v1", 256), ("a" * 40, 16)):
        code, out, _ = run(capsys, "pull", "me/mine", "--out", str(tmp_path / revision), "--revision", revision)
        assert code == 0 and f"{width} dimensions" in out
    code, _, err = run(capsys, "pull", "me/mine", "--out", str(tmp_path / "v2"), "--revision", "v2")
    assert code == 2 and "not on this machine" in err and not (tmp_path / "v2").exists()
    code, out, _ = run(capsys, "pull", "me/mine", "--out", str(tmp_path / "pulled"))
    assert code == 0 and "16 dimensions" in out
    one, other = (EmbeddingSpace.from_pretrained(folder) for folder in (built, tmp_path / "pulled"))
    assert one.fingerprints() == other.fingerprints()
    with pytest.raises(InputError, match="something is there already"):
        pull_space("me/mine", tmp_path / "pulled")
    with pytest.raises(InputError, match=r"not on this machine.*--download"):
        pull_space("me/other", tmp_path / "third")
    (cached / "snapshots" / ("a" * 40) / "config.json").unlink()
    with pytest.raises(WeightsError, match="me/mine: holds no space"):
        pull_space("me/mine", tmp_path / "fourth")
    assert not (tmp_path / "fourth").exists()


def test_push_uploads_nothing_but_a_space(tmp_path: Path, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match="no space there"):
        push_space(tmp_path, "me/mine")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"me/mine: could not be pushed: .*offline") as raised:
        push_space(built, "me/mine")
    assert "\n" not in str(raised.value)


class _Hub(http.server.BaseHTTPRequestHandler):
    """A stand-in for the hub that takes what its own client sends, every file in the commit itself."""

    asked: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append((self.path, body))
        answer: dict[str, Any] = {"url": f"http://{self.headers['Host']}/me/mine"}
        if "/preupload/" in self.path:
            files = json.loads(body)["files"]
            answer = {"files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in files]}
        elif "/commit/" in self.path:
            answer = {"success": True, "commitUrl": f"{answer['url']}/commit/{'c' * 40}", "commitOid": "c" * 40}
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def test_push_sends_every_file_and_names_the_state(
    built: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()  # the client may reach 127.0.0.1, where the stand-in is
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        api = functools.partial(huggingface_hub.HfApi, f"http://127.0.0.1:{server.server_port}", token="t")
        monkeypatch.setattr("huggingface_hub.HfApi", api)
        _Hub.asked.clear()
        code, out, err = run(capsys, "push", str(built), "me/mine", "--tag", "v1")
        server.shutdown()
    assert code == 0, err
    assert out.strip().endswith("c" * 40)
    asked = dict(_Hub.asked)
    assert json.loads(asked["/api/repos/create"])["visibility"] == "private"
    commit = next(body for path, body in _Hub.asked if "/commit/main" in path)
    sent = {row["value"]["path"] for row in map(json.loads, commit.splitlines()) if row["key"] == "file"}
    assert sent == {str(path.relative_to(built)) for path in built.rglob("*") if path.is_file()}
    tagged = next((path, json.loads(body)) for path, body in _Hub.asked if "/tag/" in path)
    assert tagged[0].endswith("c" * 40) and tagged[1]["tag"] == "v1"
