"""Voices of files, each encoded once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedspace.encoders.voices.encoder import VoiceConfig, VoiceEncoder
from embedspace.files import replacing
from embedspace.generate.faces.maker import VOICE_NUMBERS
from embedspace.media.audio import load_audio

__all__ = ["FileVoices"]

_LONGEST = 60.0
"""Seconds of a recording that are heard."""


class FileVoices:
    """The vectors of recordings; what a file holds is told by its place, size and time of change.

    Args:
        cache: File that they are kept in between runs; None for none.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self._cache = cache
        self._encoder: VoiceEncoder | None = None
        self._known: dict[str, NDArray[np.float32]] = {}
        if cache is not None and cache.exists():
            with np.load(cache) as kept:
                self._known = dict(zip(kept["keys"].tolist(), kept["rows"], strict=True))

    def of(self, path: Path) -> NDArray[np.float32]:
        """Return (256,) the voice of a recording, a unit row.

        Raises:
            MediaError: If it cannot be read, or is silent.
        """
        about = path.stat()
        key = hashlib.sha256(f"{path.resolve()} {about.st_size} {about.st_mtime_ns}".encode()).hexdigest()
        if key not in self._known:
            if self._encoder is None:
                self._encoder = VoiceEncoder(VoiceConfig(VOICE_NUMBERS))
            rate = self._encoder.sample_rate
            waveform = load_audio(path, sample_rate=rate, duration=_LONGEST).waveform
            size = int(self._encoder.window_seconds * rate)
            starts = range(0, max(1, len(waveform) - rate), size)  # a rest of under a second says little
            rows = self._encoder.encode([self._encoder.prepare(waveform[at : at + size]) for at in starts])
            mean = rows.mean(axis=0)
            self._known[key] = mean / max(float(np.linalg.norm(mean)), 1e-12)
        return self._known[key]

    def save(self) -> None:
        """Keep what was encoded."""
        if self._cache is not None and self._known:
            self._cache.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._cache) as partial, partial.open("wb") as file:
                np.savez(file, keys=np.array(list(self._known)), rows=np.stack(list(self._known.values())))
