"""Decode sound to mono waveforms, whole or window by window; resample; cut into windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import EmptyMediaError, MediaTooLargeError
from embedspace.media.resample import Resampler, resample_waveform
from embedspace.media.sound import AudioSource, Sound, open_sound
from embedspace.media.waveform import MIN_SECONDS, SILENCE, check_amount, check_content, mono

__all__ = [
    "MAX_SECONDS",
    "Audio",
    "AudioInfo",
    "AudioSource",
    "Extent",
    "audio_info",
    "iter_audio",
    "load_audio",
    "resample_waveform",
    "windows",
]

MAX_SECONDS = 1800.0
"""What `load_audio` takes into memory by default; `iter_audio` has no limit."""

_KEEP_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Audio:
    """A mono recording in memory.

    Attributes:
        waveform: (T,) float32 in [-1, 1].
        sample_rate: Hz.
    """

    waveform: NDArray[np.float32]
    sample_rate: int

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.waveform) / self.sample_rate


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a recording's header says: rate in Hz, number of channels, duration in seconds (None if it doesn't say)."""

    sample_rate: int
    channels: int
    seconds: float | None


@dataclass(slots=True)
class Extent:
    """How long a recording is, told while it is read.

    Attributes:
        expected: Seconds by its header; None where that doesn't say.
        seconds: Decoded so far; at the end its true duration, silence and the shortest tail included.
    """

    expected: float | None = None
    seconds: float = 0.0


def audio_info(source: AudioSource) -> AudioInfo:
    """Read a recording's header.

    Raises:
        MediaError: If it cannot be opened.
    """
    with open_sound(source) as sound:
        return AudioInfo(sound.sample_rate, sound.channels, sound.seconds)


def load_audio(
    source: AudioSource,
    *,
    sample_rate: int | None = None,
    start: float = 0.0,
    duration: float | None = None,
    max_seconds: float = MAX_SECONDS,
) -> Audio:
    """Decode a recording, or the sound of a video, into memory.

    Args:
        source: A file or the bytes of one.
        sample_rate: Resample to this rate in Hz; None keeps the file's own.
        start: Seconds to skip.
        duration: Seconds to read at most; None for all.
        max_seconds: Refuse to load more than this.

    Returns:
        Channels mixed down to one, samples in [-1, 1].

    Raises:
        MediaTooLargeError: If it is longer than `max_seconds`.
        EmptyMediaError: If it is silent or holds next to no samples.
        MediaError: If it cannot be decoded or holds NaN or infinite samples.
    """
    with open_sound(source, start, duration) as sound:
        if sound.seconds is not None and sound.seconds > max_seconds:
            raise _too_long(sound.name, sound.seconds, max_seconds)
        rate = sample_rate or sound.sample_rate
        parts: list[NDArray[np.float32]] = []
        held = 0
        for part in _mono_stream(sound, rate):
            parts.append(part)
            held += len(part)
            if held > (max_seconds + 1) * rate:  # a header can lie
                raise _too_long(sound.name, held / rate, max_seconds)
        waveform = parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.float32), *parts])
        if start > 0 and len(waveform) == 0:
            raise EmptyMediaError(f"{sound.name}: nothing at {start:g} s; it ends before")
        check_content(waveform, rate, sound.name)
        return Audio(waveform, rate)


def iter_audio(
    source: AudioSource,
    sample_rate: int,
    window_seconds: float,
    hop_seconds: float,
    *,
    skip_silent: bool = True,
    extent: Extent | None = None,
) -> Iterator[tuple[float, float, NDArray[np.float32]]]:
    """Decode a recording of any length window by window, in constant memory.

    Args:
        source: A file or the bytes of one.
        sample_rate: Rate of the windows in Hz.
        window_seconds: Length of a window.
        hop_seconds: From the start of one window to that of the next, at most `window_seconds`.
        skip_silent: Leave out windows whose peak is under `SILENCE`.
        extent: Told the duration.

    Yields:
        (start, end, waveform): seconds, and (T,) float32 in [-1, 1] with T as `windows` cuts it.

    Raises:
        EmptyMediaError: If all of it is silent or it holds next to no samples.
        MediaError: If it cannot be decoded or holds NaN or infinite samples.
    """
    window, hop = _window_samples(sample_rate, window_seconds, hop_seconds)
    peak, total = 0.0, 0
    extent = extent or Extent()
    with open_sound(source) as sound:
        extent.expected = sound.seconds
        for first, waveform in _cut(_counted(_mono_stream(sound, sample_rate), sample_rate, extent), window, hop):
            here = float(np.abs(waveform).max(initial=0.0))
            peak, total = max(peak, here), first + len(waveform)
            if here < SILENCE and skip_silent:
                continue
            if total < MIN_SECONDS * sample_rate:
                break
            yield first / sample_rate, total / sample_rate, waveform
        check_amount(total, sample_rate, peak, sound.name)


def windows(num_samples: int, sample_rate: int, window_seconds: float, hop_seconds: float) -> list[tuple[int, int]]:
    """Cut a recording into windows.

    Args:
        num_samples: Its length.
        sample_rate: Hz.
        window_seconds: Length of a window.
        hop_seconds: From the start of one window to that of the next, at most `window_seconds`.

    Returns:
        (first, one past the last) sample of each window. A last partial window is kept if it holds at least 10% of a
        window that no earlier window holds, or if it is the only one. No samples give no windows.

    Raises:
        ValueError: If the window or the hop is not positive, or the hop is longer than the window.
    """
    window, hop = _window_samples(sample_rate, window_seconds, hop_seconds)
    if num_samples <= window:
        return [(0, num_samples)] if num_samples > 0 else []
    full = (num_samples - window) // hop + 1
    spans = [(index * hop, index * hop + window) for index in range(full)]
    if num_samples - spans[-1][1] >= _KEEP_SHARE * window:
        spans.append((full * hop, num_samples))
    return spans


def _mono_stream(sound: Sound, rate: int) -> Iterator[NDArray[np.float32]]:
    resampler = Resampler(sound.sample_rate, rate)
    read = 0
    for block in sound.blocks:
        mixed = mono(block, sound.name, read / sound.sample_rate)
        read += len(block)
        ready = resampler.push(mixed)
        if len(ready):
            yield _clip(ready)
    rest = resampler.flush()
    if len(rest):
        yield _clip(rest)


def _counted(stream: Iterator[NDArray[np.float32]], sample_rate: int, extent: Extent) -> Iterator[NDArray[np.float32]]:
    samples = 0
    for part in stream:
        samples += len(part)
        extent.seconds = samples / sample_rate
        yield part


def _clip(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(waveform, -1.0, 1.0)


def _cut(stream: Iterator[NDArray[np.float32]], window: int, hop: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield (first sample, waveform) as `windows` says, holding little more than one window."""
    buffer = np.zeros(0, np.float32)
    first = 0
    for part in stream:
        buffer = np.concatenate([buffer, part])
        while len(buffer) >= window:
            yield first, buffer[:window].copy()
            buffer = buffer[hop:]
            first += hop
    fresh = len(buffer) - (window - hop if first else 0)  # what the last full window did not hold
    if len(buffer) and (first == 0 or fresh >= _KEEP_SHARE * window):
        yield first, buffer


def _window_samples(sample_rate: int, window_seconds: float, hop_seconds: float) -> tuple[int, int]:
    window, hop = round(window_seconds * sample_rate), round(hop_seconds * sample_rate)
    if not 0 < hop <= window:
        raise ValueError(f"window {window_seconds} s and hop {hop_seconds} s: need 0 < hop <= window")
    return window, hop


def _too_long(name: str, seconds: float, limit: float) -> MediaTooLargeError:
    return MediaTooLargeError(
        f"{name}: {seconds:.0f} s of sound, at most {limit:.0f} s are loaded at once; give a start and a duration"
    )
