"""`embedspace generate --from film.mp4 --to audio`: films are given sound, and what does not fit is refused first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.ball_film import HITS, ball, write_film
from tests.support.cli_media import Result, Run, make_run
from tests.support.generators import SpaceWithGenerators, write_latent_generator, write_vocabulary


class _Space(SpaceWithGenerators):
    def encode_image(self, images: Sequence[Any]) -> NDArray[np.float32]:
        """Return vectors of what texts of their mean levels would have."""
        return self.encode_text([str(round(float(np.asarray(image).mean()), -1)) for image in images])


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    heads = tmp_path / "space" / "heads"
    write_latent_generator(heads, "audio")
    write_vocabulary(heads, threshold=0.9)
    space = _Space(tmp_path / "space")
    monkeypatch.chdir(tmp_path)
    inner = make_run(capsys, monkeypatch)

    def call(*arguments: object) -> Result:
        return inner("generate", *arguments, space=space)

    return call


def test_a_film_is_written_with_sounds_and_said(run: Run, tmp_path: Path) -> None:
    film = write_film(tmp_path / "silent.mp4", ball)
    result = run("--from", film, "--to", "audio", "--out", "scored.mp4", "-n", 2, "--seed", 3, "--json")
    assert result.code == 0, result.err
    records = [json.loads(line) for line in result.out.splitlines()]
    assert [record["path"] for record in records] == ["scored-1.mp4", "scored-2.mp4"]
    assert [record["seed"] for record in records] == [3, 4]
    assert [event["time"] for event in records[0]["events"]] == pytest.approx(HITS, abs=0.07)
    with av.open("scored-1.mp4") as opened:
        assert len(opened.streams.video) == len(opened.streams.audio) == 1


def test_a_sound_that_a_film_has_is_kept_and_it_is_said(run: Run, tmp_path: Path) -> None:
    film = write_film(tmp_path / "loud.mp4", ball, sound=0.2)
    result = run("--from", film, "--to", "audio", "--out", "scored.wav")
    assert result.code == 0 and "--film-sound replace" in result.err and "3 events" in result.out
    quiet = run("--from", film, "--to", "audio", "--out", "alone.wav", "--film-sound", "replace")
    assert quiet.code == 0 and quiet.err == ""


def test_what_does_not_fit_is_one_line(run: Run, tmp_path: Path) -> None:
    film = write_film(tmp_path / "silent.mp4", ball, seconds=1.0)
    for arguments, part in (
        (("--from", "rain", "--sounds", "gallery"), "goes with films alone"),
        (("--from", film, "--steps", 3), "add --sounds made"),
        (("--from", film, "--film-sound", "louder"), "must be mix or replace"),
        (("--from", film, "--sounds", "nothing-there"), "must be gallery, made or the folder"),
        (("--from", film, "--from", "rain"), "no film, beside films"),
        (("--from", film, "--out", "a.txt"), "cannot be written; use"),
        (("--from", film, "--out", film), "is what the sample is made from"),
        (("--from", film, "--sheet", "s.png"), "do not go with films"),
    ):
        result = run(*arguments, "--to", "audio")
        assert result.code != 0 and part in result.err and len(result.err.splitlines()) == 1, result.err
    assert {path.name for path in tmp_path.iterdir()} == {"silent.mp4", "space"}
