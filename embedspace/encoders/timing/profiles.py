"""What the timing of a window is told from: where its small grey frames change, and the bands of its sound.

Of a frame's change nothing is kept but its profiles: along each axis its strength, its sign and how bright the picture
is. A thing that falls is a slanted line in the rows' profile over time, one that strikes a corner in it.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BANDS", "GRID", "HOPS", "HOP_LENGTH", "SAMPLE_RATE", "SECONDS", "TICKS", "TICKS_PER_SECOND", "bands_of",
    "profiles_of",
]  # fmt: skip

SECONDS, TICKS_PER_SECOND = 4.0, 20
TICKS = round(SECONDS * TICKS_PER_SECOND)
"""Moments of a window."""
GRID = (96, 72)
"""Width and height of the frames, whatever shape the film has."""
SAMPLE_RATE, N_FFT, HOP_LENGTH, BANDS = 16_000, 512, 160, 24
HOPS = round(SECONDS * SAMPLE_RATE) // HOP_LENGTH
_GRAIN = 0.004
"""Of full scale: what changes less than this is made no larger."""
_HUSH = 1e-5
"""Power of a band that is silence."""

Array = NDArray[np.float32]


def profiles_of(frames: NDArray[np.uint8]) -> tuple[Array, Array]:
    """Return the profiles of a window along rows and columns.

    Args:
        frames: (TICKS + 1, 72, 96) grey levels: the frame before the window, then one for each tick.

    Returns:
        (3, 72, TICKS) and (3, 96, TICKS) float32: root mean square of the change since the tick before, its mean, and
        how much brighter than usual it is; each by its size in the window.
    """
    grey = frames.astype(np.float32) / np.float32(255)
    change = grey[1:] - grey[:-1]
    scale = max(float(np.sqrt(np.square(change).mean())), _GRAIN)
    found = []
    for axis in (2, 1):
        strength = np.sqrt(np.square(change).mean(axis=axis)) / scale
        sign = change.mean(axis=axis) / scale
        bright = grey[1:].mean(axis=axis)
        bright = bright - np.median(bright, axis=0)
        bright /= max(float(bright.std()), _GRAIN)
        found.append(np.ascontiguousarray(np.stack([strength, sign, bright]).transpose(0, 2, 1), np.float32))
    return found[0], found[1]


def bands_of(waveform: Array) -> Array:
    """Return how loud the bands of a window's sound are, (BANDS, HOPS) float32: 0 where they are loudest, -1 silent.

    Args:
        waveform: (T,) at 16 kHz in [-1, 1]; silence follows where it is shorter than the window.
    """
    samples = np.zeros(HOPS * HOP_LENGTH + N_FFT, np.float32)
    part = waveform[: HOPS * HOP_LENGTH]
    samples[N_FFT // 2 : N_FFT // 2 + len(part)] = part
    at = np.arange(N_FFT)[None] + HOP_LENGTH * np.arange(HOPS)[:, None]
    window, filters = _front_end()
    powers = np.square(np.abs(np.fft.rfft(samples[at] * window, axis=1))).astype(np.float32) @ filters
    levels = np.log(np.maximum(powers, _HUSH)).T
    top = float(levels.max())
    return np.ascontiguousarray((levels - top) / max(top - math.log(_HUSH), 1.0), np.float32)


@lru_cache(maxsize=1)
def _front_end() -> tuple[Array, Array]:
    """Return the Hann window (N_FFT,) and triangular filters (N_FFT // 2 + 1, BANDS), evenly spaced in mels."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
    hertz = np.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
    mels = 2595 * np.log10(1 + hertz / 700)
    edges = np.linspace(mels[2], mels[-1], BANDS + 2)
    rising = (mels[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mels[:, None]) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0.0, np.minimum(rising, falling))
    filters /= np.maximum(filters.sum(axis=0), 1e-6)
    return window.astype(np.float32), filters.astype(np.float32)
