"""Read and store the clips of the audio and speech corpora: one file a sound, shards of many clips for speech.

A clip's path is either a sound file, or "shard.npy#start:end": samples of an int16 array that is read by memory map, so
that tens of thousands of short clips cost no file each. Either way `read_clip(item)` gives the waveform.
"""

from __future__ import annotations

import functools
import io
import math
import re
from pathlib import Path
from types import TracebackType

import numpy as np
import soundfile
from scipy.signal import resample_poly

from embedspace.errors import EmptyMediaError, MediaError
from training.corpora import manifest
from training.corpora.manifest import Item

__all__ = ["SPEECH_RATE", "ShardWriter", "clip_rate", "decode", "read_clip", "resample", "trim_silence", "write_clip"]

SPEECH_RATE = 16_000
"""Sample rate of every speech clip, in Hz."""
INT16 = 32_767
SHARD_PATH = re.compile(r"^(?P<file>.+\.npy)#(?P<start>\d+):(?P<end>\d+)$")


def resample(waveform: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """Resample a waveform by a polyphase filter.

    Args:
        waveform: (T,) samples.
        source_rate: Its sample rate in Hz.
        target_rate: The wanted sample rate in Hz.

    Returns:
        (T * target_rate / source_rate,) float32.
    """
    if source_rate == target_rate:
        return waveform.astype(np.float32, copy=False)
    divisor = math.gcd(source_rate, target_rate)
    resampled = resample_poly(waveform.astype(np.float64), target_rate // divisor, source_rate // divisor)
    return np.asarray(resampled, np.float32)


def decode(source: Path | bytes, sample_rate: int, max_seconds: float = 10.0) -> np.ndarray:
    """Decode a sound file or its bytes to mono at one sample rate.

    Args:
        source: The file, or what it holds.
        sample_rate: Wanted rate in Hz.
        max_seconds: What is longer is cut.

    Returns:
        (T,) float32 in [-1, 1].

    Raises:
        MediaError: If it is no sound file.
        EmptyMediaError: If it holds no sample.
    """
    name = str(source) if isinstance(source, Path) else f"{len(source)} bytes"
    try:
        with soundfile.SoundFile(source if isinstance(source, Path) else io.BytesIO(source)) as file:
            count = -1 if math.isinf(max_seconds) else math.ceil(max_seconds * file.samplerate)
            samples = file.read(count, dtype="float32", always_2d=True)
            rate = file.samplerate
    except (soundfile.SoundFileError, OSError) as error:
        raise MediaError(f"{name}: not a sound file that libsndfile reads: {error}") from None
    if not len(samples):
        raise EmptyMediaError(f"{name}: the sound holds no sample")
    mono = resample(samples.mean(axis=1), rate, sample_rate)  # (T, channels) -> (T,)
    return np.clip(mono, -1.0, 1.0)


def trim_silence(
    waveform: np.ndarray, sample_rate: int, keep_seconds: float = 0.1, below_peak_db: float = 40.0
) -> np.ndarray:
    """Cut silence at both ends down to `keep_seconds`.

    Args:
        waveform: (T,) in [-1, 1].
        sample_rate: In Hz.
        keep_seconds: What is kept before the first and after the last loud frame, in seconds.
        below_peak_db: Frames of 10 ms this far below the loudest one are silent, in dB.

    Returns:
        (T',) with T' <= T; the waveform itself if it is silent throughout.
    """
    frame = max(1, sample_rate // 100)
    count = len(waveform) // frame
    if not count:
        return waveform
    rms = np.sqrt(np.mean(waveform[: count * frame].reshape(count, frame) ** 2, axis=1))
    loud = np.flatnonzero(rms > rms.max() * 10 ** (-below_peak_db / 20))
    if not len(loud):
        return waveform
    keep = int(keep_seconds * sample_rate)
    return waveform[max(0, loud[0] * frame - keep) : (loud[-1] + 1) * frame + keep]


def _int16(waveform: np.ndarray) -> np.ndarray:
    return np.round(np.clip(waveform, -1.0, 1.0) * INT16).astype(np.int16)


def write_clip(path: Path, waveform: np.ndarray, sample_rate: int) -> None:
    """Write a waveform as a 16-bit file, atomically; the suffix says the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    soundfile.write(partial, _int16(waveform), sample_rate, subtype="PCM_16", format=path.suffix[1:].upper())
    partial.replace(path)


class ShardWriter:
    """Collect clips into one shard, written atomically when the `with` block ends without an error."""

    def __init__(self, path: Path) -> None:
        """Begin a shard.

        Args:
            path: Its .npy file, below the corpora folder.
        """
        self.path = path
        self._parts: list[np.ndarray] = []
        self._length = 0

    def append(self, waveform: np.ndarray) -> str:
        """Add a clip; returns its path relative to the corpora folder."""
        start = self._length
        self._parts.append(_int16(waveform))
        self._length += len(waveform)
        return f"{self.path.relative_to(manifest.CORPORA)}#{start}:{self._length}"

    def __enter__(self) -> ShardWriter:
        """Start collecting."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the shard, unless the block failed."""
        if kind is not None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        samples = np.concatenate(self._parts) if self._parts else np.zeros(0, np.int16)
        with partial.open("wb") as file:
            np.save(file, samples)
        partial.replace(self.path)


@functools.lru_cache(maxsize=256)
def _shard(path: Path) -> np.ndarray:
    samples: np.ndarray = np.load(path, mmap_mode="r")
    return samples


def clip_rate(item: Item) -> int:
    """Return the sample rate that an audio or speech item is stored at, in Hz."""
    return int(item.extra["sample_rate"])


def read_clip(item: Item, sample_rate: int | None = None) -> np.ndarray:
    """Read the waveform of an audio or speech item.

    Args:
        item: An item whose path is a sound file or a part of a shard.
        sample_rate: Wanted rate in Hz; as stored (`clip_rate`) by default.

    Returns:
        (T,) float32 in [-1, 1].

    Raises:
        MediaError: If the file is missing or cannot be decoded.
    """
    rate = clip_rate(item)
    match = SHARD_PATH.match(item.path)
    if match is None:
        return decode(manifest.CORPORA / item.path, sample_rate or rate, max_seconds=math.inf)
    path = manifest.CORPORA / match["file"]
    if not path.exists():
        raise MediaError(f"{path}: the shard of {item.id} is missing; build the corpus again")
    samples = np.asarray(_shard(path)[int(match["start"]) : int(match["end"])], np.float32) / INT16
    return resample(samples, rate, sample_rate or rate)
