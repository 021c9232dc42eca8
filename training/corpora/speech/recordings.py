"""Find clips that hold the same recording, whatever codec, level, rate or silence lies around it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from training.corpora.sounds.clips import resample

__all__ = ["same_recording", "waveform_correlation"]

COMPARE_RATE = 8_000
FRAME = 400
BANDS = 24
SPECTRAL = 0.6
"""Log-spectrogram correlation from which two clips are worth comparing sample by sample."""
SAME = 0.6
"""Waveform correlation, after emphasis of the treble, from which two clips are one recording: copies reach 0.8 to 1."""


def waveform_correlation(left: np.ndarray, right: np.ndarray) -> float:
    """Return the largest absolute correlation of two waveforms over all shifts, in [0, 1].

    Args:
        left: (T,) samples.
        right: (U,) samples at the same rate.
    """
    size = next_fast_len(len(left) + len(right), real=True)
    product = irfft(rfft(left, size) * np.conj(rfft(right, size)), size)
    norm = np.sqrt(float(left @ left) * float(right @ right))
    return float(np.abs(product).max() / max(norm, 1e-12))


def _spectrogram(waveform: np.ndarray) -> np.ndarray:
    """Return a log-power spectrogram (BANDS, frames) with each band's mean over the loud frames taken away."""
    count = max(1, len(waveform) // FRAME)
    frames = np.resize(waveform, count * FRAME) if len(waveform) < FRAME else waveform[: count * FRAME]
    power = np.abs(np.fft.rfft(frames.reshape(count, FRAME) * np.hanning(FRAME), axis=1)) ** 2
    edges = np.unique(np.geomspace(2, power.shape[1], BANDS + 1).astype(int))
    bands = np.add.reduceat(power, edges[:-1], axis=1).T  # (frames, bins) -> (bands, frames)
    log = np.log10(np.maximum(bands / max(float(bands.max()), 1e-12), 1e-6)) + 6
    loud = log.max(axis=0) > 2
    if loud.sum() > 4:
        log = np.where(loud, log - log[:, loud].mean(axis=1, keepdims=True), 0.0)
    return np.asarray(log, np.float32)


def _candidates(spectrograms: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    size = next_fast_len(2 * max(s.shape[1] for s in spectrograms), real=True)
    spectra = np.stack([rfft(s / max(float(np.linalg.norm(s)), 1e-9), size, axis=1) for s in spectrograms])
    pairs = []
    for index in range(len(spectra) - 1):
        cross = (spectra[index + 1 :] * np.conj(spectra[index])).sum(axis=1)  # (n, bands, bins) -> (n, bins)
        best = irfft(cross, size, axis=1).max(axis=1)
        pairs.extend((index, index + 1 + int(other)) for other in np.flatnonzero(best > SPECTRAL))
    return pairs


def same_recording(waveforms: Sequence[np.ndarray], sample_rate: int) -> list[tuple[int, int]]:
    """Return the pairs (i, j), i < j, of clips that hold the same recording.

    Args:
        waveforms: (T,) each.
        sample_rate: Of all of them, in Hz.
    """
    if len(waveforms) < 2:
        return []
    low = [resample(waveform, sample_rate, COMPARE_RATE) for waveform in waveforms]
    # Two thuds of one pitch correlate whatever made them; their second differences do not.
    sharp = [np.diff(waveform, n=2, prepend=(0.0, 0.0)) for waveform in low]
    pairs = _candidates([_spectrogram(waveform) for waveform in low])
    return [(i, j) for i, j in pairs if waveform_correlation(sharp[i], sharp[j]) > SAME]
