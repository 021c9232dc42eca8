"""When each phoneme of a text is said: espeak-ng tells it in events while it speaks, flite prints it.

A phoneme is told by the name of a mouth shape of `mouths.SHAPES`: phonemes that look alike have one shape.
"""

from __future__ import annotations

import ctypes
import functools
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import InputError, MissingExtraError
from embedspace.media.audio import load_audio

__all__ = ["RATE", "Spoken", "Timed", "shapes_of_ipa", "speak_phonemes", "speak_timed"]

RATE = 16_000
"""Hz of what is spoken."""
_ESPEAK_RETRIEVAL, _PHONEME_EVENTS, _IPA, _UTF8 = 2, 1, 2, 1
_PHONEME, _END = 7, 0

_IPA_SHAPES = {
    "p": "pbm", "b": "pbm", "m": "pbm", "f": "fv", "v": "fv", "θ": "th", "ð": "th", "t": "tdn", "d": "tdn", "n": "tdn",
    "ɾ": "tdn", "ʔ": "kg", "l": "l", "ɫ": "l", "s": "sz", "z": "sz", "ʃ": "sh", "ʒ": "sh", "r": "r", "ɹ": "r",
    "ɻ": "r", "k": "kg", "ɡ": "kg", "g": "kg", "ŋ": "kg", "x": "kg", "h": "h", "w": "w", "ʍ": "w", "j": "y", "i": "ee",
    "ɪ": "ih", "ᵻ": "ih", "ɨ": "ih", "e": "eh", "ɛ": "eh", "æ": "ae", "a": "ae", "ɑ": "ah", "ɒ": "aw", "ɔ": "aw",
    "ʌ": "uh", "ə": "schwa", "ɐ": "schwa", "o": "oh", "ʊ": "uu", "u": "oo", "ʉ": "oo", "ɜ": "er", "ɚ": "er", "ɝ": "er",
}  # fmt: skip
_ARPABET = {
    "p": "p", "b": "b", "m": "m", "f": "f", "v": "v", "th": "θ", "dh": "ð", "t": "t", "d": "d", "n": "n", "l": "l",
    "s": "s", "z": "z", "sh": "ʃ", "zh": "ʒ", "ch": "tʃ", "jh": "dʒ", "r": "r", "k": "k", "g": "g", "ng": "ŋ",
    "hh": "h", "w": "w", "y": "j", "iy": "i", "ih": "ɪ", "eh": "ɛ", "ae": "æ", "aa": "ɑ", "ah": "ʌ", "ax": "ə",
    "ao": "ɔ", "uh": "ʊ", "uw": "u", "er": "ɜ", "ey": "eɪ", "ay": "aɪ", "ow": "oʊ", "aw": "aʊ", "oy": "ɔɪ", "pau": "",
}  # fmt: skip
"""flite's phonemes -> letters of the International Phonetic Alphabet."""


@dataclass(frozen=True, slots=True)
class Timed:
    """A mouth shape and the seconds that it is said from and to."""

    shape: str
    start: float
    end: float


@dataclass(frozen=True, slots=True, eq=False)
class Spoken:
    """What a voice said.

    Attributes:
        waveform: (T,) float32 in [-1, 1] at `RATE`.
        shapes: In the order of time; silence at both ends is left out.
    """

    waveform: NDArray[np.float32]
    shapes: list[Timed]


def shapes_of_ipa(phoneme: str) -> list[str]:
    """Return the mouth shapes of one phoneme: two of a diphthong, one of an affricate, none of a mark or silence."""
    if phoneme in ("tʃ", "dʒ"):
        return ["sh"]
    return [_IPA_SHAPES[letter] for letter in phoneme if letter in _IPA_SHAPES]


def speak_timed(text: str, voice: str, speed: float = 1.0) -> Spoken:
    """Say a text and tell when each of its mouth shapes is made.

    Args:
        text: English.
        voice: "espeak:<voice>" or "flite:<voice>".
        speed: Share of the voice's own speed.

    Raises:
        InputError: If the voice is unknown or says nothing of the text.
        MissingExtraError: If the engine is not installed.
    """
    wave, phonemes = speak_phonemes(text, voice, speed)
    shapes: list[Timed] = []
    for phoneme, start, end in phonemes:
        found = shapes_of_ipa(phoneme)
        for number, shape in enumerate(found):
            step = (end - start) / len(found)
            shapes.append(Timed(shape, start + number * step, start + (number + 1) * step))
    if not shapes:
        raise InputError(f"{voice} says nothing of {text!r}")
    return Spoken(wave, shapes)


def speak_phonemes(
    text: str, voice: str, speed: float = 1.0
) -> tuple[NDArray[np.float32], list[tuple[str, float, float]]]:
    """Say a text and tell when each of its phonemes is said.

    Args:
        text: English.
        voice: "espeak:<voice>" or "flite:<voice>".
        speed: Share of the voice's own speed.

    Returns:
        (T,) float32 in [-1, 1] at `RATE`, and (phoneme, start, end) in seconds; a pause is no letter.

    Raises:
        InputError: If the voice is unknown.
        MissingExtraError: If the engine is not installed.
    """
    engine, _, name = voice.partition(":")
    if engine not in ("espeak", "flite"):
        raise InputError(f"{voice}: only espeak and flite tell when phonemes are said")
    return _espeak(text, name, speed) if engine == "espeak" else _flite(text, name, speed)


class _Id(ctypes.Union):
    _fields_: ClassVar = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    """espeak_EVENT of espeak-ng's speak_lib.h."""

    _fields_: ClassVar = [
        ("type", ctypes.c_int), ("unique", ctypes.c_uint), ("text_position", ctypes.c_int), ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int), ("sample", ctypes.c_int), ("user_data", ctypes.c_void_p), ("id", _Id),
    ]  # fmt: skip


class _Espeak:
    """The engine as a library: it holds one voice at a time."""

    def __init__(self) -> None:
        try:
            self.library: Any = ctypes.CDLL("libespeak-ng.so.1")
        except OSError:
            raise MissingExtraError("libespeak-ng is not installed: apt-get install espeak-ng") from None
        self.rate = self.library.espeak_Initialize(_ESPEAK_RETRIEVAL, 0, None, _PHONEME_EVENTS | _IPA)
        self.parts: list[NDArray[np.int16]] = []
        self.events: list[tuple[int, str]] = []
        self.before: tuple[str, float] | None = None
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
        self.callback = kind(self._take)
        self.library.espeak_SetSynthCallback(self.callback)

    def _take(self, samples: Any, count: int, events: Any) -> int:  # noqa: ANN401 - ctypes' pointers
        if count:
            self.parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        number = 0
        while events[number].type != _END:
            if events[number].type == _PHONEME:
                self.events.append((events[number].audio_position, events[number].id.string.decode("utf-8", "ignore")))
            number += 1
        return 0

    def say(self, text: str, name: str, speed: float) -> tuple[NDArray[np.float32], list[tuple[str, float, float]]]:
        """Return the waveform and (phoneme, start, end)."""
        if self.library.espeak_SetVoiceByName(name.encode()) != 0:
            raise InputError(f"espeak:{name}: espeak-ng has no such voice; espeak-ng --voices lists them")
        self.library.espeak_SetParameter(1, max(80, round(175 * speed)), 0)
        coded = text.encode()
        # the first words after a change of voice or speed keep some of the times of those before: they are said again
        for _ in range(1 if (name, speed) == self.before else 4):
            self.parts, self.events = [], []
            self.library.espeak_Synth(coded, len(coded) + 1, 0, 1, 0, _UTF8, None, None)
            self.library.espeak_Synchronize()
        self.before = name, speed
        samples = np.concatenate(self.parts or [np.zeros(0, np.int16)]).astype(np.float32) / np.float32(32_768)
        at = np.arange(int(len(samples) * RATE / self.rate)) * (self.rate / RATE)
        wave = np.interp(at, np.arange(len(samples)), samples).astype(np.float32) if len(samples) else samples
        starts = [start / 1000 for start, _ in self.events]
        ends = [*starts[1:], len(samples) / self.rate]
        return wave, [(name, a, b) for (_, name), a, b in zip(self.events, starts, ends, strict=True)]


@functools.cache
def _engine() -> _Espeak:
    return _Espeak()


def _espeak(text: str, name: str, speed: float) -> tuple[NDArray[np.float32], list[tuple[str, float, float]]]:
    return _engine().say(text, name, speed)


def _flite(text: str, name: str, speed: float) -> tuple[NDArray[np.float32], list[tuple[str, float, float]]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "said.wav"
        stretch = f"duration_stretch={1 / speed:.3f}"
        arguments = ["flite", "-voice", name, "--setf", stretch, "-psdur", "-t", text, "-o", str(path)]
        try:
            done = subprocess.run(arguments, check=True, capture_output=True, timeout=60)
        except FileNotFoundError:
            raise MissingExtraError("flite is not installed; it speaks: apt-get install flite") from None
        except subprocess.CalledProcessError as error:
            raise InputError(f"flite could not say {text!r}: {error.stderr.decode(errors='replace').strip()}") from None
        wave = load_audio(path, sample_rate=RATE).waveform
    pairs = [word.rsplit(":", 1) for word in done.stdout.decode().split()]
    ends = [float(end) for _, end in pairs]
    starts = [0.0, *ends[:-1]]
    named = [_ARPABET.get(name, "") for name, _ in pairs]
    return wave, list(zip(named, starts, ends, strict=True))
