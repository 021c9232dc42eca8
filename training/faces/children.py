"""Adults' voices made into children's, in two ways that share nothing: one for training, the other for the test.

A child's voice has a higher pitch than an adult's and a shorter vocal tract, so that its formants lie higher: against a
man's by about a third, against a woman's by about a sixth. No recordings of enough real children are at hand, so pitch
and formants of adults are moved. What a way of moving leaves in the sound would tell children from adults by itself:
adults go the same way with factors near 1, and the test's children are made in another way than the training's.

Source: Verhelst and Roelands 1993 (WSOLA, https://doi.org/10.1109/ICASSP.1993.319366) and the cepstral envelope
(Oppenheim and Schafer 1968) for `by_spectrum`; Moulines and Charpentier 1990 (TD-PSOLA,
https://doi.org/10.1016/0167-6393(90)90021-Z) for `by_grains`; Huber et al. 1999 (https://doi.org/10.1121/1.427150) for
the formants and pitches of children.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.corpora.sounds.clips import SPEECH_RATE, resample

__all__ = ["Move", "adult_move", "by_grains", "by_spectrum", "child_move", "median_pitch"]

Waveform = NDArray[np.float32]
_LOWEST, _HIGHEST = 70.0, 420.0
_FRAME, _HOP = 800, 160
_VOICED = 0.5


@dataclass(frozen=True, slots=True)
class Move:
    """By what pitch and formants are multiplied."""

    pitch: float
    formants: float


def child_move(pitch: float, gender: str, generator: np.random.Generator) -> Move:
    """Draw how an adult's voice becomes a child's of five to ten years.

    Args:
        pitch: Of the adult, in Hz.
        gender: "male" or "female".
        generator: Draws.
    """
    formants = generator.uniform(1.25, 1.4) if gender == "male" else generator.uniform(1.12, 1.24)
    return Move(max(generator.uniform(245.0, 330.0) / pitch, 1.05), float(formants))


def adult_move(generator: np.random.Generator) -> Move:
    """Draw how an adult's voice becomes another adult's of the same gender."""
    return Move(float(generator.uniform(0.88, 1.12)), float(generator.uniform(0.94, 1.06)))


def _pitches(waveform: Waveform) -> NDArray[np.float64]:
    """Return the pitch of each frame in Hz, 0 where nothing is voiced."""
    padded = np.pad(waveform, (_FRAME // 2, _FRAME))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::_HOP]
    frames = (frames - frames.mean(axis=1, keepdims=True)) * np.hanning(_FRAME)
    spectrum = np.abs(np.fft.rfft(frames, 2 * _FRAME)) ** 2
    likeness = np.fft.irfft(spectrum)[:, :_FRAME]
    window = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(_FRAME), 2 * _FRAME)) ** 2)[:_FRAME]
    shortest, longest = int(SPEECH_RATE / _HIGHEST), int(SPEECH_RATE / _LOWEST)
    part = likeness[:, shortest:longest] / (likeness[:, :1] + 1e-9) / (window[shortest:longest] / window[0])
    part = part - 0.0005 * np.arange(shortest, longest)  # of two periods the shorter
    lag = shortest + part.argmax(axis=1)
    loud = likeness[:, 0] > 0.01 * np.quantile(likeness[:, 0], 0.95)
    return np.where((part.max(axis=1) > _VOICED) & loud, SPEECH_RATE / lag, 0.0)


def median_pitch(waveform: Waveform) -> float:
    """Return the median pitch of what is voiced in Hz; 0 where nothing is."""
    found = _pitches(waveform)
    return float(np.median(found[found > 0])) if (found > 0).any() else 0.0


def by_spectrum(waveform: Waveform, move: Move) -> Waveform:
    """Move a voice: played faster, stretched back, and its spectrum's envelope put where it should be.

    Args:
        waveform: (T,) at `SPEECH_RATE`.
        move: By what.
    """
    rate = 200 * round(SPEECH_RATE * move.pitch / 200)  # a ratio of small numbers, whose filter is short
    faster = resample(waveform, rate, SPEECH_RATE)
    return _warped(_stretched(faster, move.pitch), move.pitch / move.formants)


def _stretched(waveform: Waveform, factor: float, window: int = 512, reach: int = 160) -> Waveform:
    """Return (T * factor,) samples of the same pitch: windows are laid where they fit what is there (WSOLA)."""
    step = window // 2
    taper = np.hanning(window + 1)[:-1]
    padded = np.pad(waveform, (reach, window + 2 * reach)).astype(np.float64)
    total = int(len(waveform) * factor)
    out = np.zeros(total + 2 * window)
    last = reach
    for at in range(0, total, step):
        target = reach + min(int(at / factor), len(waveform) - 1)
        if at:
            natural = padded[last + step : last + step + window]
            around = padded[target - reach : target + reach + window]
            target = target - reach + int(np.correlate(around, natural, mode="valid").argmax())
        out[at : at + window] += taper * padded[target : target + window]
        last = min(target, len(padded) - 2 * window - 1)
    return out[:total].astype(np.float32)


def _warped(waveform: Waveform, factor: float, size: int = 1024, keep: int = 30) -> Waveform:
    """Return a waveform whose spectral envelope at f is what it was at f * factor."""
    step = size // 4
    taper = np.hanning(size + 1)[:-1]
    padded = np.pad(waveform, (size, 2 * size))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::step] * taper
    spectrum = np.fft.rfft(frames)
    cepstrum = np.fft.irfft(np.log(np.abs(spectrum) + 1e-5))
    cepstrum[:, keep : size - keep] = 0.0
    envelope = np.fft.rfft(cepstrum).real
    bins = np.arange(envelope.shape[1])
    moved = np.stack([np.interp(bins * factor, bins, row) for row in envelope])
    back = np.fft.irfft(spectrum * np.exp(np.clip(moved - envelope, -6.0, 6.0))) * taper
    out = np.zeros(len(padded) + size)
    for number, frame in enumerate(back):
        out[number * step : number * step + size] += frame
    return (out[size : size + len(waveform)] / 1.5).astype(np.float32)


def by_grains(waveform: Waveform, move: Move) -> Waveform:
    """Move a voice: two periods at a time are squeezed and laid at a new distance.

    Args:
        waveform: (T,) at `SPEECH_RATE`.
        move: By what.
    """
    pitches = _pitches(waveform)
    marks, periods = _marks(waveform, pitches)
    longest = int(SPEECH_RATE / _LOWEST) + 1
    padded = np.pad(waveform, longest).astype(np.float64)
    out = np.zeros(len(waveform) + 4 * longest)
    at = 0.0
    while at < len(waveform):
        nearest = int(np.abs(marks - at).argmin())
        period, voiced = periods[nearest], pitches[min(int(at) // _HOP, len(pitches) - 1)] > 0
        middle = longest + marks[nearest]
        grain = padded[middle - period : middle + period] * np.hanning(2 * period)
        half = max(2, int(period / move.formants))
        grain = np.interp(np.linspace(0, 2 * period - 1, 2 * half), np.arange(2 * period), grain)
        first = int(at) + 2 * longest - half
        out[first : first + 2 * half] += grain
        at += period / move.pitch if voiced else half
    return out[2 * longest : 2 * longest + len(waveform)].astype(np.float32)


def _marks(waveform: Waveform, pitches: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where periods begin, at their peaks, and how long they are; where nothing is voiced, every 5 ms."""
    marks, periods, at = [], [], 0
    while at < len(waveform):
        pitch = pitches[min(at // _HOP, len(pitches) - 1)]
        period = int(SPEECH_RATE / pitch) if pitch > 0 else SPEECH_RATE // 200
        if pitch > 0:
            first = max(0, at - period // 4)
            at = first + int(waveform[first : at + period // 4 + 1].argmax())
        marks.append(at)
        periods.append(period)
        at += period
    return np.array(marks), np.array(periods)
