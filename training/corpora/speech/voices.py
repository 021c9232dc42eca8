"""Synthetic voices of five engines behind one function, `speak(text, voice, seed)`.

A voice is a name: "espeak:en-us+f3" (accent and variant), "flite:slt", "piper:joe", "kokoro:jf_alpha" or a blend of two
styles, "kokoro:jf_alpha+jm_kumo", "pico:en-GB". espeak-ng and flite are programs (Debian's packages of those names).

Some voices are only for tests, "voices never trained on": an engine, a flite voice, a Kokoro style, an accent of espeak
together with its variant. `HELD_OUT` names them. Figures of these were looked at while choices were made, so `FRESH`
names others that were not: an engine that nothing else uses, and one more accent and variant of espeak.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from embedspace.errors import InputError, MissingExtraError
from training.corpora.fetch import unpacked
from training.corpora.sounds.clips import SPEECH_RATE, decode, trim_silence
from training.corpora.speech.neural_voices import KOKORO_STYLES, speak_kokoro, speak_piper

__all__ = ["FRESH", "HELD_OUT", "foreign_voices", "ipa", "kokoro_voices", "speak", "training_voices"]

HELD_OUT = ("piper:joe", "flite:rms", "kokoro:jf_nezumi", "espeak:en-gb-scotland+f4")
FRESH = ("pico:en-US", "pico:en-GB", "espeak:en-gb-scotland+adam")
FLITE_TRAINING = ("slt", "awb", "kal")
ENGLISH_ACCENTS = ("en-us", "en-gb", "en-gb-x-rp", "en-us-nyc", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029")
# f4 is held out; whispering and singing robots are left out because nobody understands them.
VARIANTS = (
    "f1", "f2", "f3", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "Alicia", "Andrea", "Andy", "Annie",
    "belinda", "benjamin", "boris", "caleb", "david", "ed", "edward", "Gene", "grandma", "grandpa", "john", "linda",
    "max", "michael", "pablo", "paul", "quincy", "rob", "robert", "steph", "steph2", "travis", "Diogo", "Hugo",
    "Jacky", "Lee", "Marco", "Mike", "shelby", "victor", "anika", "aunty",
)  # fmt: skip
FOREIGN_ACCENTS = {
    "fr": ("fr-fr", "fr-be", "fr-ch"),
    "es": ("es", "es-419"),
    "ro": ("ro",),
    "ru": ("ru", "ru-lv"),
    "ca": ("ca",),
    "bg": ("bg",),
    "el": ("el",),
    "be": ("be",),
}
TIMEOUT = 60


def training_voices() -> list[str]:
    """Return the English voices that training may hear; Kokoro's apart, which cost fifty times more."""
    espeak = [f"espeak:{accent}+{variant}" for accent in ENGLISH_ACCENTS for variant in VARIANTS]
    return [*espeak, *(f"flite:{name}" for name in FLITE_TRAINING)]


def kokoro_voices() -> list[str]:
    """Return Kokoro's training styles and their blends by two."""
    held = {name.removeprefix("kokoro:") for name in HELD_OUT}
    styles = [style for style in KOKORO_STYLES if style not in held]
    return [f"kokoro:{'+'.join(pair)}" for size in (1, 2) for pair in itertools.combinations(styles, size)]


def foreign_voices(language: str) -> list[str]:
    """Return the voices of another language.

    Raises:
        InputError: If there are none.
    """
    if language not in FOREIGN_ACCENTS:
        raise InputError(f"no voice speaks {language!r}; known: {' '.join(FOREIGN_ACCENTS)}")
    return [f"espeak:{accent}+{variant}" for accent in FOREIGN_ACCENTS[language] for variant in VARIANTS]


def _run(program: str, arguments: Sequence[str], text: str) -> bytes:
    try:
        done = subprocess.run(
            [program, *arguments], input=text.encode(), check=True, capture_output=True, timeout=TIMEOUT
        )
    except FileNotFoundError:
        raise MissingExtraError(f"{program} is not installed; it speaks: apt-get install {program}") from None
    except subprocess.CalledProcessError as error:
        raise InputError(f"{program} could not say {text!r}: {error.stderr.decode(errors='replace').strip()}") from None
    return done.stdout


def ipa(text: str, accent: str = "en-us", tie: str = "") -> str:
    """Return a text's phonemes in the International Phonetic Alphabet as espeak-ng gives them.

    Args:
        text: What is said.
        accent: Voice of espeak-ng.
        tie: Character that joins the letters of one phoneme ("t^ʃ"); none by default.
    """
    arguments = ["-q", "--ipa", "-v", accent, *([f"--tie={tie}"] if tie else []), "--stdin"]
    return " ".join(_run("espeak-ng", arguments, text).decode().split())


def _espeak(text: str, name: str, generator: np.random.Generator) -> np.ndarray:
    speed, pitch = generator.integers(125, 186), generator.integers(30, 71)
    arguments = ["-v", name, "-s", str(speed), "-p", str(pitch), "--stdout", "--stdin"]
    return decode(_run("espeak-ng", arguments, text), SPEECH_RATE, max_seconds=30.0)


def _flite(text: str, name: str, generator: np.random.Generator) -> np.ndarray:
    stretch = generator.uniform(0.85, 1.25)
    arguments = ["-voice", name, "--setf", f"duration_stretch={stretch:.2f}", "-t", text, "-o", "/dev/stdout"]
    return decode(_run("flite", arguments, ""), SPEECH_RATE, max_seconds=30.0)


@functools.cache
def _nanotts() -> Any:  # noqa: ANN401 - an extension module
    """Load SVOX Pico from its unpacked package."""
    folder = unpacked("py-nanotts") / "py_nanotts"
    options = {"submodule_search_locations": [str(folder)]}
    spec = importlib.util.spec_from_file_location("py_nanotts", folder / "__init__.py", **options)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["py_nanotts"] = module  # it looks for its own voices by this name
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise MissingExtraError(f"{folder}: cannot be loaded on this machine: {error}") from None
    return module.NanoTTS()


def _pico(text: str, name: str, generator: np.random.Generator) -> np.ndarray:
    samples = _nanotts().speak(text, voice=name, speed=float(generator.uniform(0.85, 1.15)), volume=0.7)
    return np.frombuffer(samples, "<i2").astype(np.float32) / np.float32(32_768)


def speak(text: str, voice: str, seed: int) -> np.ndarray:
    """Say a text.

    Args:
        text: What is said, in the voice's language.
        voice: "engine:name" as this module's docstring describes.
        seed: Chooses speed and pitch within what the engine does well. espeak-ng and flite repeat the samples exactly.

    Returns:
        (T,) float32 in [-1, 1] at `SPEECH_RATE`, with 0.1 s of silence at both ends at most.

    Raises:
        InputError: If the engine is unknown or refuses the text.
        MissingExtraError: If the engine is not installed.
    """
    engine, _, name = voice.partition(":")
    generator = np.random.default_rng(seed)
    if engine == "espeak":
        waveform = _espeak(text, name, generator)
    elif engine == "flite":
        waveform = _flite(text, name, generator)
    elif engine == "piper":
        waveform = speak_piper(ipa(text), float(generator.uniform(0.9, 1.2)))
    elif engine == "pico":
        waveform = _pico(text, name, generator)
    elif engine == "kokoro":
        mix = float(generator.uniform(0.25, 0.75))
        waveform = speak_kokoro(ipa(text, tie="^"), name.split("+"), mix, float(generator.uniform(0.85, 1.15)))
    else:
        raise InputError(f"unknown voice {voice!r}; engines: espeak flite piper kokoro pico")
    return trim_silence(waveform, SPEECH_RATE)
