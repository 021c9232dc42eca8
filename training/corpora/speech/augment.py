"""Make a clean synthetic recording sound as if recorded somewhere: speed, room, noise, telephone, level."""

from __future__ import annotations

import numpy as np
from scipy.signal import butter, fftconvolve, resample_poly, sosfilt

__all__ = ["augment", "reverberate", "telephone", "with_noise"]

CLEAN_SHARE = 0.5
PEAK = 0.99


def change_speed(waveform: np.ndarray, speed: float) -> np.ndarray:
    """Play faster (speed > 1) or slower; the pitch follows, as on a tape."""
    return np.asarray(resample_poly(waveform, 100, round(100 * speed)), np.float32)


def reverberate(
    waveform: np.ndarray, sample_rate: int, seconds: float, wet: float, generator: np.random.Generator
) -> np.ndarray:
    """Add the echo of a room: a decaying noise as impulse response.

    Args:
        waveform: (T,) in [-1, 1].
        sample_rate: In Hz.
        seconds: Time in which the echo falls by 60 dB.
        wet: Level of the echo beside the direct sound, 0 to 1.
        generator: Source of the noise.

    Returns:
        (T + seconds * sample_rate - 1,) float32.
    """
    count = max(2, int(seconds * sample_rate))
    decay = 10.0 ** (-3.0 * np.arange(count) / count)
    response = generator.standard_normal(count) * decay
    response *= wet / np.sqrt(np.sum(response**2))
    response[0] += 1.0
    return np.asarray(fftconvolve(waveform, response), np.float32)


def with_noise(waveform: np.ndarray, snr_db: float, colour: float, generator: np.random.Generator) -> np.ndarray:
    """Add noise at a signal-to-noise ratio.

    Args:
        waveform: (T,).
        snr_db: Power of the waveform over that of the noise, in dB.
        colour: Exponent of the noise's spectrum: 0 is white, 1 pink, 2 brown.
        generator: Source of the noise.
    """
    spectrum = np.fft.rfft(generator.standard_normal(len(waveform)))
    spectrum *= np.maximum(np.arange(len(spectrum)), 1.0) ** (-colour / 2)
    noise = np.fft.irfft(spectrum, len(waveform))
    power = float(np.mean(waveform**2)) / max(float(np.mean(noise**2)), 1e-12)
    return np.asarray(waveform + noise * np.sqrt(power / 10 ** (snr_db / 10)), np.float32)


def telephone(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Keep what a telephone keeps: 300 to 3,400 Hz."""
    sections = butter(4, (300, 3_400), btype="bandpass", fs=sample_rate, output="sos")
    return np.asarray(sosfilt(sections, waveform), np.float32)


def augment(waveform: np.ndarray, sample_rate: int, seed: int, *, mild: bool = False) -> tuple[np.ndarray, bool]:
    """Change a recording by chance; half of all seeds leave it clean but for its level.

    Args:
        waveform: (T,) in [-1, 1], without long silence.
        sample_rate: In Hz.
        seed: The same seed gives the same result.
        mild: Speed within 5%, more signal than noise, no telephone: for test sets.

    Returns:
        (T',) float32 in [-1, 1], and whether it was changed.
    """
    generator = np.random.default_rng(seed)
    level = generator.uniform(0.25, PEAK)
    changed = bool(generator.random() >= CLEAN_SHARE)
    if changed:
        spread = 0.05 if mild else 0.12
        waveform = change_speed(waveform, float(generator.uniform(1 - spread, 1 + spread)))
        if generator.random() < 0.6:
            seconds, wet = generator.uniform(0.1, 0.3 if mild else 0.6), generator.uniform(0.1, 0.4 if mild else 0.9)
            waveform = reverberate(waveform, sample_rate, float(seconds), float(wet), generator)
        if generator.random() < 0.15 and not mild:
            waveform = telephone(waveform, sample_rate)
        if generator.random() < 0.7:
            snr = float(generator.uniform(20 if mild else 10, 30))
            waveform = with_noise(waveform, snr, float(generator.uniform(0, 2)), generator)
    peak = max(float(np.abs(waveform).max()), 1e-9)
    return np.asarray(waveform * (level / peak), np.float32), changed
