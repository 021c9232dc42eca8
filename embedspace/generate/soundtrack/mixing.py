"""Sounds at their times, with level and place between left and right, over a quiet ground; block by block, bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from embedspace.media.resample import resample_waveform

__all__ = ["PEAK", "RATE", "RMS", "Mix", "Placed", "event_sound", "ground_of", "loudness"]

Wave = NDArray[np.float32]

RATE = 48_000
"""Hz."""
PEAK = 0.89
"""The largest sample, -1 dBFS."""
RMS = 0.1
"""The largest root mean square of a whole film, -20 dBFS, over the stretches of `_GATE` seconds that are not silent."""

_BLOCK = 4 * RATE
_GATE = 0.4
_SILENT = 10 ** (-60 / 20)
_FRAME = RATE // 200
_ATTACK = 0.3
"""Share of a sound's loudest 5 ms from which it is heard to begin."""
_BEFORE = 0.01
"""Seconds before that which are kept."""
_LONGEST = 1.5
_FADE = 0.2
_EVEN = 0.2
"""Root mean square that the beginning of each sound is brought to."""
_GROUND_SECONDS = 12
_WINDOW = 4096
_GROUND = 0.02
"""Root mean square of the ground, about 20 dB below the beginning of a sound."""


@dataclass(frozen=True, slots=True)
class Placed:
    """One sound in the mix.

    Attributes:
        time: Seconds where its onset falls.
        sound: Number of the sound.
        level: 0 to 1.
        pan: -1 left, 1 right.
    """

    time: float
    sound: int
    level: float
    pan: float


@dataclass(slots=True)
class Mix:
    """All of a film's sound.

    Attributes:
        seconds: Length.
        placed: In order of time.
        sounds: (T,) float32 at `RATE` each, with how many samples come before their onset.
        ground: (T, 2) that is repeated without a seam below all; empty: none.
        own: Gives the film's own sound anew at each call, (n, 2) blocks at `RATE`; None: it is not heard.
        gain: What the placed sounds and the ground are multiplied by.
        whole: What all is then multiplied by.
    """

    seconds: float
    placed: Sequence[Placed]
    sounds: Sequence[tuple[Wave, int]]
    ground: Wave = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    own: Callable[[], Iterator[Wave]] | None = None
    gain: float = 1.0
    whole: float = 1.0

    def blocks(self) -> Iterator[Wave]:
        """Yield (n, 2) samples in order, some seconds at a time."""
        if self.own is None:
            yield from (block * np.float32(self.whole) for block in self._made())
            return
        beside = _evenly(self.own())
        for block in self._made():
            heard = next(beside, block[:0])[: len(block)]
            block[: len(heard)] += heard
            yield block * np.float32(self.whole)

    def bounded(self) -> Mix:
        """Set the gains so that what is added reaches one of `PEAK` and `RMS`, and all of it passes neither of them.

        The film's own sound stays as loud as it is, unless that together would pass `PEAK`. Silence stays silent.
        """
        self.gain = self.whole = 1.0
        peak, rms = loudness(self._made())
        if peak > 0:
            self.gain = min(PEAK / peak, RMS / max(rms, 1e-9))
        if self.own is not None:
            peak, _ = loudness(self.blocks())
            self.whole = min(1.0, PEAK / max(peak, 1e-9))
        return self

    def _made(self) -> Iterator[Wave]:
        """Yield what is added to a film, (n, 2) blocks of `_BLOCK` samples."""
        total, following = round(self.seconds * RATE), 0
        heard: list[tuple[int, Placed]] = []
        for first in range(0, total, _BLOCK):
            last = min(first + _BLOCK, total)
            while following < len(self.placed) and self._start(self.placed[following]) < last:
                heard.append((self._start(self.placed[following]), self.placed[following]))
                following += 1
            heard = [(start, one) for start, one in heard if start + len(self.sounds[one.sound][0]) > first]
            block = self._under(first, last)
            for start, one in heard:
                self._add(block, first, start, one)
            yield block * np.float32(self.gain)

    def _start(self, one: Placed) -> int:
        return round(one.time * RATE) - self.sounds[one.sound][1]

    def _under(self, first: int, last: int) -> Wave:
        if not len(self.ground):
            return np.zeros((last - first, 2), np.float32)
        return self.ground[np.arange(first, last) % len(self.ground)]

    def _add(self, block: Wave, first: int, start: int, one: Placed) -> None:
        wave = self.sounds[one.sound][0]
        begin, end = max(start, first), min(start + len(wave), first + len(block))
        if begin >= end:
            return
        angle = (one.pan + 1) * np.pi / 4  # equal power
        sides = np.array([np.cos(angle), np.sin(angle)], np.float32) * np.float32(one.level * np.sqrt(2))
        block[begin - first : end - first] += wave[begin - start : end - start, None] * sides


def _evenly(parts: Iterator[Wave]) -> Iterator[Wave]:
    """Yield a stream of (n, 2) in blocks of `_BLOCK` samples; the last one is shorter."""
    held: list[Wave] = []
    count = 0
    for part in parts:
        held.append(part)
        count += len(part)
        while count >= _BLOCK:
            joined = np.concatenate(held)
            yield joined[:_BLOCK]
            held, count = [joined[_BLOCK:]], count - _BLOCK
    if count:
        yield np.concatenate(held)


def loudness(blocks: Iterator[NDArray[np.float32]]) -> tuple[float, float]:
    """Return peak and root mean square of a stream of (n, 2); what is silent for `_GATE` seconds is left out of it."""
    peak, squares, count = 0.0, 0.0, 0
    for block in blocks:
        peak = max(peak, float(np.abs(block).max(initial=0.0)))
        size = round(_GATE * RATE)
        for start in range(0, len(block), size):
            mean = float(np.square(block[start : start + size]).mean())
            if mean > _SILENT**2:
                squares += mean * len(block[start : start + size])
                count += len(block[start : start + size])
    return peak, float(np.sqrt(squares / count)) if count else 0.0


def event_sound(waveform: NDArray[np.float32], sample_rate: int) -> tuple[NDArray[np.float32], int]:
    """Return the beginning of a sound, (T,) at `RATE` and of even level, and its onset's place in samples."""
    wave = resample_waveform(np.asarray(waveform, np.float32), sample_rate, RATE)
    count = len(wave) // _FRAME
    if count == 0 or not float(np.abs(wave).max(initial=0.0)) > 0:
        return np.zeros(1, np.float32), 0
    sizes = np.sqrt(np.square(wave[: count * _FRAME].reshape(count, _FRAME)).mean(axis=1))
    onset = int(np.argmax(sizes >= _ATTACK * sizes.max())) * _FRAME
    before = min(onset, round(_BEFORE * RATE))
    part = wave[onset - before : onset + round(_LONGEST * RATE)].copy()
    rise = np.linspace(0, 1, before, dtype=np.float32) if before else np.ones(0, np.float32)
    part[:before] *= rise
    fade = min(len(part) - before, round(_FADE * RATE))
    part[len(part) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    beginning = float(np.sqrt(np.square(part[before : before + RATE // 4]).mean()))
    part *= np.float32(min(_EVEN / max(beginning, 1e-6), 1.0 / float(np.abs(part).max())))
    return part, before


def ground_of(waveform: NDArray[np.float32], sample_rate: int, seed: int) -> NDArray[np.float32]:
    """Return a ground (T, 2) at `RATE` that sounds like a sound without its events and repeats without a seam.

    Noise with the sound's mean spectrum and drawn phases, so that nothing in it can be taken for an impact.

    Args:
        waveform: (T,) of a sound.
        sample_rate: Hz.
        seed: Of the phases.
    """
    wave = resample_waveform(np.asarray(waveform, np.float32), sample_rate, RATE)
    parts = [wave[start : start + _WINDOW] for start in range(0, max(len(wave) - _WINDOW, 0) + 1, _WINDOW // 2)]
    window = np.hanning(_WINDOW)
    power = np.mean([np.square(np.abs(np.fft.rfft(np.pad(p, (0, _WINDOW - len(p))) * window))) for p in parts], axis=0)
    size = _GROUND_SECONDS * RATE
    places = np.linspace(0, 1, size // 2 + 1)
    colour = np.sqrt(np.interp(places, np.linspace(0, 1, len(power)), power))
    colour[places < 40 / (RATE / 2)] = 0.0
    rng = np.random.default_rng([seed, 1])
    sides = [np.fft.irfft(colour * np.exp(2j * np.pi * rng.random(len(colour))), size) for _ in range(2)]
    ground = np.stack(sides, axis=1).astype(np.float32)
    size_now = float(np.sqrt(np.square(ground).mean()))
    quiet: NDArray[np.float32] = ground * np.float32(_GROUND / size_now) if size_now > 0 else ground[:0]
    return quiet
