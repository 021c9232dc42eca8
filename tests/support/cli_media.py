"""How the command line's tests call it, and the small media they feed it."""

from __future__ import annotations

import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embedspace.cli import main
from tests.support.cli_space import CliSpace


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line a mistake ends in."""
        assert "Traceback" not in self.err + self.out
        (line,) = self.err.splitlines()
        assert line.startswith("embedspace: ")
        return line


Run = Callable[..., Result]


def make_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs the command line in this process with a space that needs no model."""

    def run(*arguments: object, space: CliSpace | None = None) -> Result:
        monkeypatch.setattr("embedspace.cli.shared.space.load_space", lambda *_: space or CliSpace())
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


def picture(path: Path, seed: int = 0) -> Path:
    """Write a small picture of its own."""
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(path)
    return path


def sound(path: Path, *, frequency: float = 440.0, amplitude: float = 0.5) -> Path:
    """Write a third of a second of a tone, or of silence."""
    waveform = amplitude * np.sin(2 * np.pi * frequency * np.arange(5333) / 16000)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((waveform * 32767).astype("<i2").tobytes())
    return path


def nan_sound(path: Path) -> Path:
    """Write a recording whose samples are not numbers."""
    import soundfile

    soundfile.write(path, np.full(16000, np.nan, np.float32), 16000, subtype="FLOAT")
    return path


def media_folder(folder: Path) -> Path:
    """Fill a folder with two pictures, two sounds (one of them speech) and two texts."""
    folder.mkdir()
    picture(folder / "dog.png", 1)
    picture(folder / "cat.png", 2)
    sound(folder / "rain.wav")
    sound(folder / "speech.wav", frequency=660)
    (folder / "speech.words").write_text("a barking dog")
    (folder / "a.txt").write_text("a barking dog")
    (folder / "b.txt").write_text("tall grass")
    return folder
