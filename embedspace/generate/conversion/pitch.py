"""The pitch of a voice, frame by frame, and what voiced frames of a pitch look like.

Source: McLeod and Wyvill 2005, "A smarter way to find pitch", section 4: the normalised square difference function; a
    path through its peaks is found by dynamic programming (Talkin 1995, RAPT, section 4).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedspace.generate.spectrogram import SpectrogramConfig, to_spectrogram

__all__ = ["harmonics", "pitch_of"]

_LOWEST, _HIGHEST = 60.0, 400.0
_WINDOW = 1024
_CANDIDATES = 5
_LEAP = 0.6
"""Cost of an octave from one frame to the next."""
_VOICED = 0.5
"""Least normalised correlation of a voiced frame."""
_BLOCK = 1024
"""Frames that are looked at together."""
_STEPS = 160
"""Pitches that `harmonics` tells apart."""


def pitch_of(waveform: NDArray[np.float32], config: SpectrogramConfig) -> NDArray[np.float32]:
    """Return the pitch in Hz of each frame, 0 where nobody sings or speaks with voice.

    Args:
        waveform: (T,) in [-1, 1].
        config: Whose frames.

    Returns:
        (T // hop_length,) float32.
    """
    count = len(waveform) // config.hop_length
    if not count:
        return np.zeros(0, np.float32)
    padded = np.pad(waveform, (_WINDOW // 2, _WINDOW + config.hop_length)).astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[:: config.hop_length][:count]
    parts = [_peaks(windows[first : first + _BLOCK], config) for first in range(0, count, _BLOCK)]
    lags, scores = (np.concatenate(both) for both in zip(*parts, strict=True))
    power = np.array(
        [np.mean(np.square(part)) for part in np.array_split(waveform[: count * config.hop_length], count)]
    )
    loud = power > 1e-4 * max(float(power.max()), 1e-9)
    path = _path(lags, scores)
    at = np.arange(count)
    voiced = (scores[at, path] > _VOICED) & loud
    return np.where(voiced, config.sample_rate / np.maximum(lags[at, path], 1.0), 0.0).astype(np.float32)


def _peaks(windows: NDArray[np.float64], config: SpectrogramConfig) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lags (frames, candidates) of the highest peaks of the correlation of windows, and their heights."""
    spectrum = np.fft.rfft(windows, 2 * _WINDOW)
    correlation = np.fft.irfft(np.square(np.abs(spectrum)))[:, :_WINDOW]
    squares = np.cumsum(np.square(windows), axis=1)
    total = squares[:, -1:]
    last = int(config.sample_rate / _LOWEST) + 2
    first = int(config.sample_rate / _HIGHEST)
    lags = np.arange(first, last)
    # energy of the first N - lag samples and of the last N - lag ones
    both = squares[:, _WINDOW - 1 - lags] + total - squares[:, lags - 1]
    height = 2 * correlation[:, lags] / np.maximum(both, 1e-9)
    inner = height[:, 1:-1]
    is_peak = (inner >= height[:, :-2]) & (inner > height[:, 2:])
    peaks = np.where(is_peak, inner, -1.0)
    best = np.argsort(-peaks, axis=1)[:, :_CANDIDATES]
    scores = np.take_along_axis(peaks, best, axis=1)
    return lags[1:-1][best].astype(np.float64), scores


def _path(lags: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the candidate of each frame on the path of high peaks and small leaps; short lags come first."""
    octaves = np.log2(lags)
    local = scores - 0.02 * (octaves - np.log2(16_000 / _HIGHEST))
    total, back = local[0], np.zeros(scores.shape, np.int64)
    for k in range(1, len(scores)):
        hops = total[None] - _LEAP * np.abs(octaves[k][:, None] - octaves[k - 1][None])
        back[k] = hops.argmax(axis=1)
        total = local[k] + hops.max(axis=1)
    path = np.zeros(len(scores), np.int64)
    path[-1] = int(total.argmax())
    for k in range(len(scores) - 1, 0, -1):
        path[k - 1] = back[k, path[k]]
    return path


@lru_cache(maxsize=2)
def _table(config: SpectrogramConfig) -> Tensor:
    """Return (steps, n_mels): how a row of equal harmonics looks in frames, without its mean."""
    pitches = torch.logspace(np.log10(_LOWEST), np.log10(_HIGHEST), _STEPS, dtype=torch.float64)
    time = torch.arange(4 * config.n_fft, dtype=torch.float64) / config.sample_rate
    rows = []
    for pitch in pitches:
        orders = torch.arange(1, int(config.sample_rate / 2 / pitch) + 1, dtype=torch.float64)
        wave = torch.cos(2 * torch.pi * pitch * orders[:, None] * time).sum(dim=0)
        frames = to_spectrogram((wave * 0.01).float()[None], config)[0]
        rows.append(frames[:, frames.shape[1] // 2])
    table = torch.stack(rows)
    return table - table.mean(dim=1, keepdim=True)


def harmonics(pitch: NDArray[np.float32], config: SpectrogramConfig) -> Tensor:
    """Return (n_mels, T) how harmonics of a pitch (T,) look in frames; zeros where it is 0."""
    low, high = np.log(_LOWEST), np.log(_HIGHEST)
    at = (np.log(np.maximum(pitch, 1.0)) - low) / (high - low) * (_STEPS - 1)
    rows = _table(config)[torch.from_numpy(np.clip(np.round(at), 0, _STEPS - 1).astype(np.int64))]
    return (rows * torch.from_numpy((pitch > 0).astype(np.float32))[:, None]).T
