"""Recordings that a vocoder or a decoder of voices learns from: spans of shards, and sound files."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import ConfigError
from embedspace.media.audio import load_audio

__all__ = ["Recording", "read_recordings"]

_SPAN = re.compile(r"^(?P<file>.+\.npy)#(?P<start>\d+):(?P<end>\d+)$")
_INT16 = np.float32(32_767)
_RATE = 16_000


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording of a manifest.

    Attributes:
        path: A sound file, or "shard.npy#start:end" of int16 samples at 16 kHz.
        speaker: Who speaks; empty for a sound.
        split: "train", "val" or "test".
        seconds: Its length.
        extra: Whatever else its row says, such as "phonemes".
    """

    path: str
    speaker: str
    split: str
    seconds: float
    extra: dict[str, Any] = field(default_factory=dict)

    def samples(self) -> NDArray[np.float32]:
        """Return (T,) float32 in [-1, 1] at 16 kHz."""
        match = _SPAN.match(self.path)
        if match is None:
            return load_audio(self.path, sample_rate=_RATE).waveform
        span = _shard(match["file"])[int(match["start"]) : int(match["end"])]
        return np.asarray(span, np.float32) / _INT16


@functools.lru_cache(maxsize=256)
def _shard(path: str) -> NDArray[np.int16]:
    samples: NDArray[np.int16] = np.load(path, mmap_mode="r")
    return samples


def read_recordings(corpora: Path, manifests: Sequence[str]) -> list[Recording]:
    """Return the recordings of some manifests.

    Args:
        corpora: Folder that paths in manifests begin at.
        manifests: Files below it.

    Raises:
        ConfigError: If a manifest is missing.
    """
    return [recording for name in manifests for recording in _read(corpora, name)]


def _read(corpora: Path, name: str) -> Iterator[Recording]:
    path = corpora / name
    if not path.exists():
        raise ConfigError(f"{path}: not built; the README of the training folder says how")
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        if row["modality"] not in ("audio", "speech") or row.get("split") == "drop":
            continue
        extra = row.get("extra", {})
        yield Recording(
            f"{corpora}/{row['path']}", row.get("speaker", ""), row.get("split", "train"),
            float(extra.get("seconds", 0.0)), extra,
        )  # fmt: skip
