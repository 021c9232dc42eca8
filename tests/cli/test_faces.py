"""`embedspace generate --by voice`: faces for recordings in which somebody speaks; what does not fit is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embedspace.space import EmbeddingSpace
from tests.generate.test_faces import maker_in
from tests.support.cli_media import Result, Run, make_run, picture, sound

DATA = Path(__file__).resolve().parents[1] / "data"
SPEECH, DOG = DATA / "penguin.ogg", DATA / "page" / "dog.ogg"


@pytest.fixture(scope="module")
def space() -> EmbeddingSpace:
    return EmbeddingSpace.from_pretrained()


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, space: EmbeddingSpace
) -> Run:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "maker").mkdir()
    maker_in(tmp_path / "maker")
    inner = make_run(capsys, monkeypatch)

    def call(*arguments: object) -> Result:
        return inner("generate", *arguments, space=space)

    return call


def test_faces_are_written_with_where_they_come_from(run: Run, tmp_path: Path) -> None:
    made = run("--from", SPEECH, "--to", "image", "--by", "maker", "-n", 2, "--seed", 3, "--out", "who.png", "--json")
    assert made.code == 0, made.err
    first, second = (json.loads(line) for line in made.out.splitlines())
    assert [first["seed"], second["seed"]] == [3, 4] and first["by"] == "voice" and first["trained_on"] == "a test"
    assert [Path(one["path"]).name for one in (first, second)] == ["who-1.png", "who-2.png"]
    with Image.open(tmp_path / "who-1.png") as one, Image.open(tmp_path / "who-2.png") as other:
        assert one.size == (96, 96) and (np.asarray(one) != np.asarray(other)).any()
    larger = run("--from", SPEECH, "--to", "image", "--by", "maker", "--size", 128)
    assert larger.code == 0 and larger.out.strip() == "penguin.image.png"
    with Image.open(tmp_path / "penguin.image.png") as one:
        assert one.size == (128, 128)
    again = run("--from", SPEECH, "--to", "image", "--by", "maker")
    assert again.code != 0 and "--overwrite" in again.error


def test_who_does_not_speak_has_no_face_and_others_have(run: Run, tmp_path: Path) -> None:
    alone = run("--from", DOG, "--to", "image", "--by", "maker", "--out", "a.png")
    assert alone.code != 0 and "dog.ogg: nobody is heard to speak" in alone.error
    assert not (tmp_path / "a.png").exists()
    silent = run("--from", sound(tmp_path / "silence.wav", amplitude=0.0), "--to", "image", "--by", "maker")
    assert silent.code != 0 and "silent" in silent.error
    both = run("--from", DOG, "--from", SPEECH, "--to", "image", "--by", "maker", "--out", "b.png")
    assert both.code != 0 and both.out.strip() == "b-2.png"
    assert "dog.ogg: nobody is heard" in both.err and "1 of 2 recordings" in both.err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--to", "text", "--by", "voice"), "--by voice makes faces from voices: --to image, not --to text"),
        (
            ("--to", "image", "--by", "lips"),
            "--by lips reads words from films: --to text or --to speech, not --to image",
        ),
        (("--to", "image", "--by", "nowhere"), "--by nowhere: must be voice, or a folder"),
        (("--to", "image", "--by", "maker", "--guidance", 3), "--guidance 3.0: does not go with --by maker"),
        (("--to", "image", "--by", "maker", "--sheet", "a.png"), "--sheet a.png: does not go with --by maker"),
        (("--to", "image", "--by", "maker", "--size", 3), "--size"),
    ],
)
def test_what_does_not_fit_is_refused(run: Run, given: tuple[object, ...], message: str) -> None:
    refused = run("--from", SPEECH, *given)
    assert refused.code != 0 and message in refused.error


def test_what_is_no_recording_is_refused(run: Run, tmp_path: Path) -> None:
    still = run("--from", picture(tmp_path / "photo.png"), "--to", "image", "--by", "maker")
    assert still.code != 0 and "photo.png: no recording" in still.error
    words = run("--from", "a woman", "--to", "image", "--by", "maker")
    assert words.code != 0 and "no such file" in words.error
