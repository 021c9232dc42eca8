"""Speech, frame by frame: what is said, its melody, loudness, and the envelope of its spectrum.

The envelope of a source, moved so that its band-wise mean and deviation are a reference's, keeps every word and some of
the source's throat. A throat is longer or shorter: bands are stretched by the factor that fits the reference best.

Source: Lee and Rose 1996, "Speaker normalization using efficient frequency warping procedures", section 2, for the
    factor; Toda, Black and Tokuda 2007 (https://doi.org/10.1109/TASL.2007.907344), section III, for mean and deviation.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from embedspace.encoders.towers.mel import slaney_filters
from embedspace.generate.conversion.content import ContentEncoder
from embedspace.generate.conversion.pitch import pitch_of
from embedspace.generate.spectrogram import SpectrogramConfig, to_spectrogram

__all__ = [
    "VoiceFrames",
    "fitting_warp",
    "frames_of",
    "levelled",
    "matched_envelope",
    "nearest_frames",
    "reference_sums",
    "smoothed",
    "warped",
]

PITCH_SCALE = 0.25
"""Of logarithms of pitch, so that they are about 1."""
MIDDLE_PITCH = float(np.log(150.0))
_LEVEL = 0.08
"""Root mean square that speech is brought to."""
_SMOOTH = 20
"""Cosines over the bands that an envelope is made of; harmonics are finer."""
_WARPS = (0.82, 0.86, 0.9, 0.95, 1.0, 1.05, 1.1, 1.16, 1.22)
"""Factors that are tried."""


@dataclass(frozen=True, slots=True, eq=False)
class VoiceFrames:
    """Speech, frame by frame.

    Attributes:
        mel: (T, n_mels) log-mel in [-1, 1].
        content: (T, size).
        pitch: (T,) Hz, 0 where there is none.
        loudness: (T,) about -1 to 1.
    """

    mel: Tensor
    content: Tensor
    pitch: NDArray[np.float32]
    loudness: Tensor

    def __len__(self) -> int:
        """Return how many frames there are."""
        return len(self.mel)

    @property
    def is_loud(self) -> Tensor:
        """(T,) bool: frames at most 40 dB below the loudest."""
        return self.loudness > self.loudness.max() - 1.0

    @property
    def log_pitch(self) -> tuple[float, float]:
        """Mean and standard deviation of the logarithm of the pitch; of somebody's where there is none."""
        voiced = np.log(self.pitch[self.pitch > 0])
        return (float(voiced.mean()), float(voiced.std())) if len(voiced) > 5 else (MIDDLE_PITCH, 0.2)


def levelled(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return speech at one level, judged by its loud half."""
    frames = np.square(waveform[: len(waveform) // 256 * 256].reshape(-1, 256)).mean(axis=1)
    loud = np.sort(frames)[len(frames) // 2 :]
    level = float(np.sqrt(loud.mean())) if len(loud) else 0.0
    return waveform * np.float32(_LEVEL / max(level, 1e-5))


def frames_of(
    waveform: NDArray[np.float32], encoder: ContentEncoder, config: SpectrogramConfig, heard: Tensor | None = None
) -> VoiceFrames:
    """Return the frames of speech (T,) at 16 kHz.

    Args:
        waveform: In [-1, 1], at any level.
        encoder: Of content.
        config: Of the spectrogram.
        heard: (frames, size) content, where it is known already.
    """
    samples = levelled(waveform)
    count = len(samples) // config.hop_length
    mel = to_spectrogram(torch.from_numpy(samples)[None], config)[0].T[:count]
    power = np.square(samples[: count * config.hop_length].reshape(count, -1)).mean(axis=1)
    loudness = torch.from_numpy(np.clip(np.log10(power + 1e-8) / 2 + 1.6, -1.5, 1.5).astype(np.float32))
    content = encoder(waveform, count) if heard is None else heard
    return VoiceFrames(mel, content, pitch_of(samples, config), loudness)


def nearest_frames(content: Tensor, reference: VoiceFrames, count: int) -> tuple[Tensor, Tensor]:
    """Return the mean (T, n_mels) of the reference's nearest frames by content (T, size), and their cosine (T, 1)."""
    cosines = F.normalize(content, dim=1) @ F.normalize(reference.content, dim=1).T
    best, at = cosines.topk(min(count, len(reference)), dim=1)
    return reference.mel[at].mean(dim=1), best.mean(dim=1, keepdim=True)


def reference_sums(reference: VoiceFrames) -> Tensor:
    """Return (2 * n_mels + 1,): mean and deviation of the reference's loud frames, and the logarithm of its pitch."""
    loud = reference.mel[reference.is_loud]
    mean, _ = reference.log_pitch
    pitch = torch.tensor([(mean - MIDDLE_PITCH) / PITCH_SCALE])
    return torch.cat([loud.mean(dim=0), loud.std(dim=0, unbiased=False) * 3, pitch])


# ---- envelopes


@functools.cache
def _smoothing(bands: int) -> Tensor:
    """Return (bands, bands): what keeps the slow cosines over the bands."""
    at = np.arange(bands)
    rows = np.sqrt(2 / bands) * np.cos(np.pi * (at[None] + 0.5) * at[:_SMOOTH, None] / bands)
    rows[0] /= np.sqrt(2)
    return torch.from_numpy((rows.T @ rows).astype(np.float32))


@functools.cache
def _middles() -> NDArray[np.float64]:
    """Return the middle of each mel filter in bins."""
    size = SpectrogramConfig()
    filters = slaney_filters(size.sample_rate, size.n_fft, size.n_mels).numpy().astype(np.float64)
    return np.asarray((filters * np.arange(filters.shape[1])).sum(axis=1) / filters.sum(axis=1))


def smoothed(mel: Tensor) -> Tensor:
    """Return the envelopes (T, n_mels) of frames (T, n_mels), without harmonics."""
    return mel @ _smoothing(mel.shape[1])


def _moved(mel: Tensor, warp: float) -> Tensor:
    if warp == 1.0:
        return mel
    middles = _middles()
    at = np.interp(middles / warp, middles, np.arange(len(middles)))
    low = np.clip(np.floor(at).astype(np.int64), 0, len(middles) - 2)
    share = torch.from_numpy((at - low).astype(np.float32))
    return mel[:, low] * (1 - share) + mel[:, low + 1] * share


def warped(frames: VoiceFrames, warp: float) -> VoiceFrames:
    """Return frames of somebody with a throat and a pitch `warp` times as high: bands are moved."""
    mel = _moved(frames.mel, warp)
    return VoiceFrames(mel, frames.content, frames.pitch * np.float32(warp), frames.loudness)


def matched_envelope(source: VoiceFrames, reference: VoiceFrames, warp: float) -> Tensor:
    """Return (T, n_mels): the source's envelope, its bands moved, with mean and deviation of the reference's.

    Args:
        source: All frames of a recording: what they are on the whole is taken out.
        reference: Whose mean and deviation.
        warp: How much higher its bands are moved.
    """
    own, other = smoothed(_moved(source.mel, warp)), smoothed(reference.mel)[reference.is_loud]
    loud = own[source.is_loud]
    scale = other.std(dim=0, unbiased=False) / loud.std(dim=0, unbiased=False).clamp(min=0.02)
    return ((own - loud.mean(dim=0)) * scale.clamp(0.4, 2.5) + other.mean(dim=0)).clamp(-1.3, 1.3)


def fitting_warp(source: VoiceFrames, reference: VoiceFrames, near: Tensor) -> float:
    """Return the factor whose matched envelope is nearest to the mean of the nearest frames (T, n_mels)."""
    wanted = smoothed(near)[source.is_loud]
    away = [float((matched_envelope(source, reference, warp)[source.is_loud] - wanted).abs().mean()) for warp in _WARPS]
    return _WARPS[int(np.argmin(away))]
