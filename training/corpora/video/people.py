"""Mouth shapes timed by a person's recording: espeak says the same words, and the two are warped onto each other."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from training.corpora.video.phonemes import RATE, Spoken, Timed, speak_timed

__all__ = ["timed_by_recording"]

_HOP, _WINDOW, _BANDS = 160, 400, 24


def timed_by_recording(text: str, recording: NDArray[np.float32], voice: str) -> Spoken:
    """Return a recording with the times of its mouth shapes.

    Args:
        text: What the person says, in English.
        recording: (T,) float32 at `RATE`.
        voice: Who says it as well, with known times.
    """
    said = speak_timed(text, voice)
    way = _warped(_features(said.waveform), _features(recording))

    def there(time: float) -> float:
        at = min(int(time * RATE / _HOP), len(way) - 1)
        return float(way[at]) * _HOP / RATE

    shapes = [Timed(one.shape, there(one.start), there(one.end)) for one in said.shapes]
    shapes = [Timed(one.shape, one.start, max(one.end, one.start + 0.01)) for one in shapes]
    return Spoken(recording, shapes)


def _features(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (frames, bands) levels of bands that grow wider upwards, without the recording's own colour."""
    padded = np.pad(wave, (0, max(0, _WINDOW - len(wave))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP] * np.hanning(_WINDOW)
    power = np.square(np.abs(np.fft.rfft(frames, axis=1)))
    edges = np.unique(np.geomspace(3, power.shape[1], _BANDS + 1).astype(int))
    bands = np.stack([power[:, a:b].mean(axis=1) for a, b in itertools.pairwise(edges)], axis=1)
    level = np.log(bands + 1e-6 * float(bands.max()))
    out: NDArray[np.float32] = ((level - level.mean(axis=0)) / (level.std(axis=0) + 1e-6)).astype(np.float32)
    return out


def _warped(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return for each frame of `a` the frame of `b` that it lies on (dynamic time warping, Sakoe and Chiba 1978)."""
    cost = np.sqrt(np.maximum(np.square(a).sum(1)[:, None] + np.square(b).sum(1)[None] - 2 * a @ b.T, 0))
    total = np.full((len(a) + 1, len(b) + 1), np.inf)
    total[0, 0] = 0
    for i in range(len(a)):
        for j in range(len(b)):
            total[i + 1, j + 1] = cost[i, j] + min(total[i, j], total[i, j + 1], total[i + 1, j])
    way = np.zeros(len(a), np.int64)
    i, j = len(a), len(b)
    while i > 0 and j > 0:
        way[i - 1] = j - 1
        steps = (total[i - 1, j - 1], total[i - 1, j], total[i, j - 1])
        best = int(np.argmin(steps))
        i, j = i - (best != 2), j - (best != 1)
    return way
