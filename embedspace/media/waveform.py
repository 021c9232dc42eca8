"""What counts as sound: samples of any shape become one mono waveform, and what holds nothing is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import EmptyMediaError, MediaError

__all__ = ["MIN_SECONDS", "SILENCE", "check_amount", "check_content", "check_waveform", "mono"]

SILENCE = 1e-5
"""A recording whose peak stays under this (-100 dB full scale) holds nothing."""

MIN_SECONDS = 0.002
"""What is shorter holds nothing either."""

_MAX_PEAK = 16.0  # decoders overshoot 1.0 a little; beyond 24 dB the samples were never scaled to [-1, 1]


def check_waveform(waveform: NDArray[np.float32], sample_rate: int, name: str = "<waveform>") -> NDArray[np.float32]:
    """Bring samples that a caller gives to what `load_audio` returns.

    Args:
        waveform: (T,), or (C, T) or (T, C) with fewer channels than samples; floating point in [-1, 1] or integers.
        sample_rate: Hz, for the messages.
        name: What messages call it.

    Returns:
        (T,) float32 in [-1, 1].

    Raises:
        EmptyMediaError: If it is silent or holds next to no samples.
        MediaError: If it is no waveform, or holds NaN or infinite samples.
    """
    samples: NDArray[Any] = np.asarray(waveform)
    if samples.ndim not in (1, 2) or samples.dtype.kind not in "fiu":
        raise MediaError(f"{name}: array of shape {samples.shape} and type {samples.dtype}; give (T,) or (C, T)")
    if samples.dtype.kind == "u":
        samples = (samples.astype(np.float64) / (np.iinfo(samples.dtype).max / 2) - 1.0).astype(np.float32)
    elif samples.dtype.kind == "i":
        samples = (samples / -float(np.iinfo(samples.dtype).min)).astype(np.float32)
    if samples.ndim == 2 and samples.shape[0] < samples.shape[1]:
        samples = samples.T  # (C, T) -> (T, C)
    columns = samples.reshape(len(samples), -1) if samples.size else np.zeros((0, 1))
    block = columns.astype(np.float32, copy=False)
    mixed = mono(block, name, 0.0)
    check_content(mixed, sample_rate, name)
    return mixed


def mono(block: NDArray[np.float32], name: str, at: float) -> NDArray[np.float32]:
    """Mix channels down to one, and refuse samples that are no sound.

    Args:
        block: (T, C) float32.
        name: What messages call the recording.
        at: Seconds where the block begins, for the messages.

    Returns:
        (T,) float32; the first channel where the channels cancel each other.

    Raises:
        MediaError: If it holds NaN or infinite samples, or such as were never scaled to [-1, 1].
    """
    peak = max(float(block.max(initial=0.0)), -float(block.min(initial=0.0)))
    if not np.isfinite(peak):
        raise MediaError(f"{name}: NaN or infinite samples after {at:.1f} s; repair or re-export the recording")
    if peak > _MAX_PEAK:
        raise MediaError(f"{name}: samples reach {peak:.4g} where full scale is 1; divide by the peak and save again")
    if block.shape[1] == 1:
        return block[:, 0]
    channels = block.shape[1]
    mixed: NDArray[np.float32] = block @ np.full(channels, 1.0 / channels, np.float32)  # `mean` takes 40 times as long
    if channels * float(np.vdot(mixed, mixed)) < 1e-4 * float(np.vdot(block, block)):
        return np.ascontiguousarray(block[:, 0])  # channels in opposite phase cancel: take one
    return mixed


def check_content(waveform: NDArray[np.float32], rate: int, name: str) -> None:
    """Refuse a waveform (T,) that is silent or holds next to no samples, as `check_amount` does."""
    peak = max(float(waveform.max(initial=0.0)), -float(waveform.min(initial=0.0)))
    check_amount(len(waveform), rate, peak, name)


def check_amount(num_samples: int, rate: int, peak: float, name: str) -> None:
    """Refuse a recording that is silent or holds next to no samples.

    Args:
        num_samples: Its length.
        rate: Hz.
        peak: Largest absolute sample.
        name: What messages call it.

    Raises:
        EmptyMediaError: If it is so.
    """
    if num_samples < MIN_SECONDS * rate:
        length = f"only {1000 * num_samples / rate:.2g} ms of sound" if num_samples else "no samples"
        raise EmptyMediaError(
            f"{name}: {length} in it, at least {1000 * MIN_SECONDS:g} ms are needed; record it again or remove it"
        )
    if peak < SILENCE:
        seconds = num_samples / rate
        raise EmptyMediaError(f"{name}: silent ({seconds:.1f} s, peak {peak:.1g}); record it again or remove it")
