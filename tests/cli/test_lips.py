"""`embedspace generate --by lips`: what is read is printed, written or said; what does not fit is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.generate.test_landmarks import marks
from tests.generate.test_lips import face, reader_in
from tests.support.ball_film import write_film
from tests.support.cli_media import Result, Run, make_run


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    reader_in(tmp_path / "reader")
    inner = make_run(capsys, monkeypatch)

    def call(*arguments: object) -> Result:
        return inner("generate", *arguments)

    return call


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the untrained reader find a word in every film: what follows is what is tried here."""
    monkeypatch.setattr("embedspace.generate.lips.reader.read_words", lambda *given: ("bin blue", -3.0))


def test_words_are_printed_written_and_told_as_json(run: Run, tmp_path: Path, spoken: None) -> None:
    film = write_film(tmp_path / "talk.mp4", face, seconds=1.0)
    told = run("--from", film, "--to", "text", "--by", "reader", "--json")
    assert told.code == 0, told.err
    record = json.loads(told.out)
    assert record["text"] == "bin blue" and record["trained_on"] == "a test" and record["path"] is None
    assert record["lines"] == [{"start": 0.0, "end": 1.0, "text": "bin blue"}]
    plain = run("--from", film, "--to", "text", "--by", "reader", "--out", "said.txt")
    assert plain.code == 0 and (tmp_path / "said.txt").read_text().strip() == "bin blue"
    again = run("--from", film, "--to", "text", "--by", "reader", "--out", "said.txt")
    assert again.code != 0 and "--overwrite" in again.err


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs a voice")
def test_words_are_said_by_a_voice(run: Run, tmp_path: Path, spoken: None) -> None:
    film = write_film(tmp_path / "talk.mp4", face, seconds=1.0)
    said = run("--from", film, "--to", "speech", "--by", "reader", "--voice", "espeak:en-us", "--out", "said.wav")
    assert said.code == 0, said.err
    assert "bin blue" in said.out and (tmp_path / "said.wav").stat().st_size > 1000


def test_a_film_that_cannot_be_read_leaves_the_others(run: Run, tmp_path: Path, spoken: None) -> None:
    good = write_film(tmp_path / "good.mp4", face, seconds=1.0)
    empty = write_film(tmp_path / "empty.mp4", lambda t: face(t, at=()), seconds=1.0)
    both = run("--from", empty, "--from", good, "--to", "text", "--by", "reader")
    assert both.code != 0 and both.out == "bin blue\n"
    assert "empty.mp4: no face" in both.err and "1 of 2 films" in both.err
    alone = run("--from", empty, "--to", "text", "--by", "reader")
    assert alone.code != 0 and alone.err.count("\n") == 1 and "no face" in alone.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("talk.mp4", "--to", "image"), "--to text or --to speech, not --to image"),
        (("words", "--to", "text"), "no such file"),
        ((str(Path(__file__)), "--to", "text"), "no film"),
        (("talk.mp4", "--to", "text", "-n", 2), "does not go with --by"),
        (("talk.mp4", "--to", "text", "--guidance", 2), "does not go with --by"),
        (("talk.mp4", "--to", "text", "--by", "nowhere"), "must be lips, or the folder of a reader"),
    ],
)
def test_what_does_not_fit_is_one_line(run: Run, tmp_path: Path, arguments: tuple[object, ...], said: str) -> None:
    write_film(tmp_path / "talk.mp4", face, seconds=0.2)
    by = () if "--by" in arguments else ("--by", "reader")
    result = run("--from", *arguments, *by)
    assert result.code != 0 and said in result.err and result.err.count("\n") == 1, result.err


def test_landmarks_tell_the_mouth_where_skin_does_not(run: Run, tmp_path: Path, spoken: None) -> None:
    film = write_film(tmp_path / "talk.mp4", lambda t: face(t, at=(40, 120)), seconds=1.0)
    two = run("--from", film, "--to", "text", "--by", "reader")
    assert two.code != 0 and "two faces" in two.err
    np.save(tmp_path / "talk.npy", marks(np.arange(25) / 25))
    told = run("--from", film, "--to", "text", "--by", "reader", "--landmarks", "talk.npy", "--json")
    assert told.code == 0, told.err
    assert json.loads(told.out)["landmarks"] == "talk.npy"
    other = write_film(tmp_path / "other.mp4", lambda t: face(t, at=(40, 120)), seconds=0.4)
    both = run("--from", other, "--from", film, "--to", "text", "--by", "reader", "--landmarks", tmp_path)
    assert both.code != 0 and both.out == "bin blue\n"
    assert "no landmarks of other.mp4" in both.err and "1 of 2 films" in both.err


def test_landmarks_that_do_not_fit_are_one_line(run: Run, tmp_path: Path, spoken: None) -> None:
    film = write_film(tmp_path / "talk.mp4", face, seconds=1.0)
    np.save(tmp_path / "short.npy", marks(np.arange(24) / 25))
    np.save(tmp_path / "nobody.npy", np.zeros((25, 68, 2)))
    by = ("--from", film, "--to", "text", "--by", "reader")
    for more, said in (
        ((*by, "--landmarks", "short.npy"), "short.npy: has landmarks of 24 frames"),
        ((*by, "--landmarks", "nobody.npy"), "nobody.npy: the mouth is within the picture (160 x 160) in 0 of 25"),
        ((*by, "--landmarks", "none.npy"), "--landmarks none.npy: no such file or folder"),
        ((*by, "--from", film, "--landmarks", "short.npy"), "is of one film"),
        (("--from", "words", "--to", "image", "--landmarks", "short.npy"), "goes with --by lips"),
        (("--from", film, "--to", "image", "--by", "voice", "--landmarks", "short.npy"), "landmarks"),
    ):
        result = run(*more)
        assert result.code != 0 and said in result.err and result.err.count("\n") == 1, result.err
