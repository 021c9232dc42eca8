"""Mel filterbanks, from their formulas."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["hann", "htk_filters", "slaney_filters"]

_LINEAR_STEP = 200.0 / 3.0  # Hz a mel below the break
_BREAK_HZ, _BREAK_MEL = 1000.0, 15.0
_LOG_STEP = math.log(6.4) / 27.0


def hann(size: int) -> torch.Tensor:
    """Return the periodic Hann window, (size,)."""
    return torch.hann_window(size, periodic=True)


def slaney_filters(sample_rate: int, n_fft: int, n_mels: int) -> torch.Tensor:
    """Return triangular filters on Slaney's mel scale, each of unit area in Hz, from 0 to half the sample rate.

    Args:
        sample_rate: In Hz.
        n_fft: Size of the transform.
        n_mels: Number of filters.

    Returns:
        (n_mels, n_fft // 2 + 1).

    Source:
        Slaney, Auditory Toolbox, 1998; the same as librosa's `filters.mel` with its defaults.
    """
    edges = _slaney_to_hz(np.linspace(0.0, _hz_to_slaney(sample_rate / 2), n_mels + 2))
    weights = _triangles(np.linspace(0.0, sample_rate / 2, n_fft // 2 + 1), edges)
    weights *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return torch.from_numpy(weights.astype(np.float32))


def htk_filters(sample_rate: int, n_fft: int, n_mels: int, lowest: float, highest: float) -> torch.Tensor:
    """Return filters triangular on the HTK mel scale, of height 1, between two frequencies; the first bin has no part.

    Args:
        sample_rate: In Hz.
        n_fft: Size of the transform.
        n_mels: Number of filters.
        lowest: Where the first begins, in Hz.
        highest: Where the last ends, in Hz.

    Returns:
        (n_mels, n_fft // 2 + 1).

    Source:
        TensorFlow's `tf.signal.linear_to_mel_weight_matrix`.
    """
    bins = _hz_to_htk(np.linspace(0.0, sample_rate / 2, n_fft // 2 + 1))
    first, last = _hz_to_htk(np.array([lowest, highest])).tolist()
    edges = np.linspace(first, last, n_mels + 2)
    weights = _triangles(bins, edges)
    weights[:, 0] = 0.0
    return torch.from_numpy(weights.astype(np.float32))


def _hz_to_htk(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(2595.0 * np.log10(1.0 + hertz / 700.0))


def _triangles(bins: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Triangles of height 1 over edges[i : i + 3], linear in the unit of both: (len(edges) - 2, len(bins))."""
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0.0, np.minimum(rising, falling))


def _hz_to_slaney(hertz: float) -> float:
    if hertz < _BREAK_HZ:
        return hertz / _LINEAR_STEP
    return _BREAK_MEL + math.log(hertz / _BREAK_HZ) / _LOG_STEP


def _slaney_to_hz(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    log = _BREAK_HZ * np.exp(_LOG_STEP * (mels - _BREAK_MEL))
    return np.where(mels < _BREAK_MEL, mels * _LINEAR_STEP, log)
