from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from embedspace.errors import InputError, MissingExtraError
from embedspace.generate import Request, generate
from embedspace.generate.speech import voices as module
from embedspace.generate.speech.voices import SAMPLE_RATE, available, speak
from tests.support.cli_space import vector_of
from tests.support.generators import SpaceWithGenerators, write_speech_generator, write_text_generator, write_vocabulary


def _tone(rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, 0.2 * np.sin(np.arange(rate // 2) / 9), rate, format="WAV")
    return file.getvalue()


@pytest.fixture
def flite_only(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A machine with a program called flite and nothing else; returns how it was called."""
    calls: list[list[str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        calls.append(command)
        if command[0] != "flite":
            raise FileNotFoundError(command[0])
        return subprocess.CompletedProcess(command, 0, _tone(), b"")

    monkeypatch.setattr(module.subprocess, "run", run)
    monkeypatch.setattr(module.shutil, "which", lambda name: "/bin/flite" if name == "flite" else None)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)  # an import of it fails
    module._library.cache_clear()
    return calls


def test_speak_takes_the_best_voice_there_is(flite_only: list[list[str]]) -> None:
    assert available() == ["flite:slt"]
    waveform, voice = speak("a barking dog")
    assert voice == "flite:slt"
    assert waveform.dtype == np.float32
    assert len(waveform) == pytest.approx(SAMPLE_RATE / 2, rel=0.01)
    assert 0.5 < np.abs(waveform).max() <= 0.9 + 1e-3
    assert "a barking dog" in flite_only[0]


def test_speak_without_a_voice_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    assert available() == []
    with pytest.raises(MissingExtraError, match=r"embedspace\[speech\]"):
        speak("a dog")


@pytest.mark.parametrize(
    ("voice", "text", "what"),
    [
        ("smell:x", "a dog", "unknown; known: piper:joe"),
        ("flite", "a dog", "unknown; known"),
        ("flite:nobody", "a dog", "flite has slt"),
        ("piper:nobody", "a dog", "voice here is joe"),
        ("flite:slt", " ?! ", "give words"),
    ],
)
def test_speak_refuses(flite_only: list[list[str]], voice: str, text: str, what: str) -> None:
    with pytest.raises(InputError, match=what):
        speak(text, voice)


def test_speak_with_a_voice_that_is_not_there(flite_only: list[list[str]]) -> None:
    with pytest.raises(MissingExtraError, match="espeak-ng is not installed"):
        speak("a dog", "espeak:en-us")


@pytest.mark.slow
def test_the_voice_of_the_extra_speaks() -> None:
    assert available()[0] == "piper:joe"
    short, voice = speak("a dog")
    long, _ = speak("a dog that barks at the moon all night long")
    assert voice == "piper:joe"
    assert 0.3 * SAMPLE_RATE < len(short) < len(long) < 6 * SAMPLE_RATE
    assert 0.3 < float(np.abs(short).max()) <= 0.9 + 1e-3


def test_piper_ids_are_padded_one_by_one() -> None:
    table = {"^": [1], "$": [2], "_": [0], "d": [4], "ɒ": [5]}
    assert module._piper_ids("dɒ!", table) == [1, 0, 4, 0, 5, 0, 2]


def test_speech_head_says_the_caption_and_returns_the_words(tmp_path: Path, flite_only: list[list[str]]) -> None:
    heads = tmp_path / "heads"
    write_text_generator(heads)
    write_speech_generator(heads)
    write_vocabulary(heads)
    space = SpaceWithGenerators(tmp_path)
    caption = generate(space, vector_of("a dog"), to="text")[0][0]
    (spoken,) = generate(space, vector_of("a dog"), to="speech", request=Request(voice="flite:slt"))[0]
    assert spoken.text == caption.text
    assert spoken.modality == "speech"
    assert (spoken.sample_rate, spoken.provenance["voice"]) == (SAMPLE_RATE, "flite:slt")
    assert spoken.provenance["words"] == caption.text
    assert caption.text in flite_only[0]
