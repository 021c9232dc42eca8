from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

from tests.support.cli_media import Run, make_run, media_folder, nan_sound, picture, sound
from tests.support.cli_space import DIM, vector_of


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return make_run(capsys, monkeypatch)


@pytest.fixture
def media(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = media_folder(tmp_path / "media")
    monkeypatch.chdir(folder)
    return folder


def test_embed_writes_rows_in_order_and_their_ids(run: Run, media: Path) -> None:
    result = run("embed", "dog.png", "rain.wav", "some words", "--out", "vectors.npy")
    assert (result.code, result.out, result.err) == (0, "", "3 vectors in vectors.npy\n")
    vectors = np.load("vectors.npy")
    assert (vectors.shape, vectors.dtype) == ((3, DIM), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(vectors[2], vector_of("some words"), atol=1e-6)
    assert json.loads(Path("vectors.json").read_text()) == {
        "ids": ["dog.png", "rain.wav", "some words"],
        "modalities": ["image", "audio", "text"],
    }
    assert sorted(path.name for path in media.glob("*.partial*")) == []


def test_embed_on_a_full_disk_leaves_nothing_behind(run: Run, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(os.listdir())

    def full(file: io.BufferedWriter, _: np.ndarray) -> None:
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    result = run("embed", "dog.png", "--out", "vectors.npy")
    assert result.code == 2 and "No space left on device" in result.error
    assert sorted(os.listdir()) == before


def test_embed_writes_npz_and_jsonl(run: Run, media: Path) -> None:
    assert run("embed", "dog.png", "words", "--out", "v.npz").code == 0
    with np.load("v.npz") as stored:
        assert stored["ids"].tolist() == ["dog.png", "words"]
        assert stored["modalities"].tolist() == ["image", "text"]
        assert stored["vectors"].shape == (2, DIM)
    assert run("embed", "words", "--out", "v.jsonl").code == 0
    (row,) = [json.loads(line) for line in Path("v.jsonl").read_text().splitlines()]
    np.testing.assert_allclose(row["vector"], vector_of("words"), atol=1e-6)


def test_embed_prints_json_lines(run: Run, media: Path) -> None:
    result = run("embed", "speech.wav", "a barking dog", "--json", "--as", "speech")
    rows = [json.loads(line) for line in result.out.splitlines()]
    assert [(row["id"], row["modality"]) for row in rows] == [("speech.wav", "speech"), ("a barking dog", "text")]
    assert rows[0]["vector"] == rows[1]["vector"]


def test_embed_reads_items_from_standard_input(run: Run, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("dog.png\n\nsome words\n"))
    rows = [json.loads(line) for line in run("embed", "-", "--json").out.splitlines()]
    assert [row["id"] for row in rows] == ["dog.png", "some words"]


def test_embed_takes_names_that_are_not_utf8(run: Run, media: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    picture(Path("a.png"), 9).rename(name)
    assert run("embed", name, "--out", "v.npy", "--json").code == 0
    assert json.loads(Path("v.json").read_text())["ids"] == [name]


def test_embed_refuses_input_that_is_no_text(run: Run, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe"), encoding="utf-8"))
    assert "standard input is not utf-8 text" in run("embed", "-", "--json").error


def test_embed_leaves_bad_items_out_and_lists_them(run: Run, media: Path) -> None:
    Path("cut.png").write_bytes(picture(Path("whole.png"), 5).read_bytes()[:200])
    sound(Path("silent.wav"), amplitude=0)
    nan_sound(Path("nan.wav"))
    Path("latin.txt").write_bytes("caf\xe9 au lait".encode("latin-1"))
    bad = ["cut.png", "silent.wav", "nan.wav", "latin.txt", "missing.png"]
    result = run("embed", *bad, "dog.png", "--out", "v.npy", "--batch-size", "4")
    assert result.code == 0
    assert json.loads(Path("v.json").read_text())["ids"] == ["dog.png"]
    lines = result.err.splitlines()
    assert "5 could not be read:" in lines
    for name in bad:
        (line,) = [line for line in lines if f"{name}:" in line]
        assert line.count(name) == 1
    assert "Traceback" not in result.err


def test_embed_fails_when_every_item_is_bad(run: Run, media: Path) -> None:
    result = run("embed", "missing.png", "--out", "v.npy")
    assert result.code == 1
    assert "no such file" in result.err
    assert not Path("v.npy").exists()


@pytest.mark.parametrize(
    ("out", "message"),
    [("v.csv", "unknown suffix '.csv'"), ("nowhere/v.npy", "no folder nowhere"), ("folder.npy", "is a folder")],
)
def test_embed_refuses_an_out_it_cannot_write(run: Run, media: Path, out: str, message: str) -> None:
    Path("folder.npy").mkdir()
    result = run("embed", "words", "--out", out)
    assert result.code == 2
    assert message in result.error


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs a place where not even root can write")
def test_embed_refuses_a_folder_without_permission(run: Run, media: Path) -> None:
    result = run("embed", "words", "--out", "/proc/vectors.npy")
    assert result.code == 2
    assert "cannot be written" in result.error


def test_embed_needs_somewhere_to_put_the_vectors(run: Run, media: Path) -> None:
    result = run("embed", "words")
    assert result.code == 2
    assert "--out vectors.npy" in result.error
