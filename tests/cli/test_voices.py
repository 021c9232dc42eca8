"""`embedspace generate --to speech --voice ref.wav`: what is said has its notice; what does not fit is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from embedspace.generate.conversion import NOTICE
from embedspace.media.audio import load_audio
from tests.generate.test_conversion import RATE, said, small_converter, tone
from tests.support.cli_media import Result, Run, make_run, picture

pytestmark = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs a voice")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    made = small_converter()
    monkeypatch.setattr("embedspace.generate.conversion.converter.shipped_converter", lambda: made)
    inner = make_run(capsys, monkeypatch)
    text = "the rain falls on the roof of the old house and nobody is there to hear it"
    soundfile.write("ref.wav", said(text, "espeak:en-us+f3"), RATE)
    soundfile.write("talk.wav", said("good morning to all of you", "espeak:en-us"), RATE)
    soundfile.write("music.wav", tone(np.repeat([262.0, 330.0, 392.0, 523.0], RATE)), RATE)

    def call(*arguments: object, voice: str = "ref.wav", to: str = "speech") -> Result:
        return inner("generate", *arguments, "--to", to, "--voice", voice)

    return call


def test_words_and_recordings_are_said_with_a_notice(run: Run, tmp_path: Path) -> None:
    words = run("--from", "good morning", "--out", "said.wav", "--json")
    assert words.code == 0, words.err
    record = json.loads(words.out)
    assert record["text"] == "good morning" and record["voice"] == "ref.wav" and record["notice"] == NOTICE
    assert len(record["voice_sha256"]) == 64 and record["family"] == "voice conversion" and record["said_by"]
    made = load_audio(tmp_path / "said.wav")
    assert made.sample_rate == RATE and made.seconds > 0.4
    talk = run("--from", "talk.wav")
    assert talk.code == 0 and talk.out == "talk.speech.wav  in the voice of ref.wav\n"
    length = load_audio(tmp_path / "talk.wav").seconds
    assert load_audio(tmp_path / "talk.speech.wav").seconds == pytest.approx(length, abs=0.05)
    kept = (tmp_path / "talk.speech.wav").read_bytes()
    assert NOTICE.encode() in kept and str(tmp_path).encode() not in kept


def test_a_source_that_nobody_speaks_in_leaves_the_others(run: Run, tmp_path: Path) -> None:
    both = run("--from", "music.wav", "--from", "talk.wav")
    assert both.code != 0 and both.out == "talk.speech.wav  in the voice of ref.wav\n"
    assert "music.wav: " in both.err and "1 of 2 sources could not be said" in both.err


@pytest.mark.parametrize(
    ("voice", "wrong"),
    [
        ("missing.wav", "missing.wav: no such file; give a recording of somebody who agreed"),
        ("music.wav", "music.wav: "),
        ("short.wav", "s of speech; a reference has at least 3 s"),
        ("notes.txt", "notes.txt: "),
        ("silent.wav", "silent.wav: "),
        (".", ".: a folder"),
    ],
)
def test_a_voice_that_is_none_is_one_line(run: Run, tmp_path: Path, voice: str, wrong: str) -> None:
    soundfile.write("short.wav", load_audio("ref.wav").waveform[: int(1.7 * RATE)], RATE)
    soundfile.write("silent.wav", np.zeros(4 * RATE), RATE)
    Path("notes.txt").write_text("no sound")
    refused = run("--from", "talk.wav", "--from", "good morning", voice=voice)
    assert refused.code != 0 and wrong in refused.error
    assert not list(tmp_path.glob("*.speech.wav"))


def test_what_does_not_go_with_a_recording_is_refused(run: Run, tmp_path: Path) -> None:
    picture(tmp_path / "dog.png")
    for arguments, wrong in (
        (("--from", "dog.png"), "nobody speaks in such a file"),
        (("--from", "good + morning"), "is a composition"),
        (("--from", "nothing.wav"), "nothing.wav: no such file"),
        (("--from", "good morning", "-n", "2"), "n 2: does not go with a recording"),
        (("--from", "good morning", "--morph", "rain"), "morph rain: does not go"),
        (("--from", "good morning", "--out", "ref.wav", "--overwrite"), "ref.wav: is what the sample is made from"),
        (("--from", "?!"), "nothing in '?!' can be said"),
    ):
        refused = run(*arguments)
        assert refused.code != 0 and wrong in refused.error.replace("--", "").replace("=", " "), refused.err
    other = run("--from", "good morning", to="audio")
    assert other.code != 0 and "does not go with --to audio" in other.error


def test_a_voice_that_is_none_costs_no_start(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from embedspace.cli import main\n"
        "assert main(['generate', '--from', 'good morning', '--to', 'speech', '--voice', 'nothere.wav']) == 2\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "no such file" in done.stderr
