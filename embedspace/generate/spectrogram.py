"""Between waveforms and the spectrograms that the generator of sounds draws, and back without a learnt vocoder.

Source: Griffin and Lim 1984, algorithm of section III; Perraudin et al. 2013 ("A fast Griffin-Lim algorithm"),
algorithm 2, for the momentum; Slaney 1998 for the mel scale; Lee and Seung 2000 ("Algorithms for non-negative matrix
factorization"), equation 4, for magnitudes from mel filters.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from embedspace.encoders.towers.mel import hann, slaney_filters
from embedspace.errors import ConfigError

__all__ = ["LEVEL", "SpectrogramConfig", "griffin_lim", "to_spectrogram", "to_waveform"]

_FLOOR, _TOP = -1.7, 2.5
"""Decades of mel magnitude that the range [-1, 1] spans; quieter is silence."""
_MOST = {"sample_rate": 400_000, "n_mels": 1024, "n_fft": 1 << 16, "hop_length": 1 << 13, "frames": 1 << 14}
_SILENT = 0.4
"""Decades above the lower end that still sound like silence: networks that draw spectrograms do not draw it exactly."""
LEVEL = 0.5
"""Peak that every clip is brought to: how loud a recording is says nothing about what it is of."""
_AREA = 100.0  # Slaney's filters have unit area in Hz: their outputs are about so much smaller than magnitudes


@dataclass(frozen=True, slots=True)
class SpectrogramConfig:
    """Size of a log-mel spectrogram.

    Attributes:
        sample_rate: Hz.
        n_mels: Filters.
        n_fft: Size of the transform.
        hop_length: Samples a frame.
        frames: Frames of one item; a multiple of 8.
    """

    sample_rate: int = 16_000
    n_mels: int = 64
    n_fft: int = 800
    hop_length: int = 256
    frames: int = 256

    def __post_init__(self) -> None:
        """Refuse sizes that no spectrogram has: they are allocated at every use."""
        for name, limit in _MOST.items():
            if not 1 <= getattr(self, name) <= limit:
                raise ConfigError(f"spectrogram: {name} {getattr(self, name)}: must be 1 to {limit:,}")

    @property
    def samples(self) -> int:
        """Samples of one item."""
        return self.frames * self.hop_length


@lru_cache(maxsize=4)
def _filters(sample_rate: int, n_fft: int, n_mels: int) -> tuple[Tensor, Tensor]:
    """Return the filters (n_mels, bins) and their pseudo-inverse (bins, n_mels)."""
    filters = slaney_filters(sample_rate, n_fft, n_mels) * _AREA
    return filters, torch.linalg.pinv(filters)


def to_spectrogram(waveform: Tensor, config: SpectrogramConfig) -> Tensor:
    """Return log-mel spectrograms (B, n_mels, T / hop_length) in [-1, 1] of waveforms (B, T) in [-1, 1]."""
    magnitude = _stft(waveform, config).abs()[:, :, : waveform.shape[1] // config.hop_length]
    filters, _ = _filters(config.sample_rate, config.n_fft, config.n_mels)
    decades = torch.log10((filters @ magnitude).clamp(min=10.0**_FLOOR))
    return ((decades - _FLOOR) / (_TOP - _FLOOR) * 2 - 1).clamp(-1, 1)


def to_waveform(
    spectrogram: Tensor, config: SpectrogramConfig, generator: torch.Generator | None = None, num_steps: int = 32
) -> Tensor:
    """Return waveforms (B, T * hop_length) in [-1, 1] of log-mel spectrograms (B, n_mels, T).

    Args:
        spectrogram: In [-1, 1].
        config: As it was made with.
        generator: Source of the first phases.
        num_steps: Iterations of Griffin-Lim.
    """
    decades = (spectrogram.clamp(-1, 1) + 1) / 2 * (_TOP - _FLOOR) + _FLOOR
    mel = 10.0**decades * (decades > _FLOOR + _SILENT)
    magnitude = _magnitude(mel, config)
    waveform = griffin_lim(magnitude, config, generator, num_steps)
    peak = waveform.abs().amax(dim=1, keepdim=True)
    return waveform / peak.clamp(min=1.0)


def _magnitude(mel: Tensor, config: SpectrogramConfig, num_steps: int = 40) -> Tensor:
    """Return magnitudes (B, bins, T), none negative, whose mel magnitudes are about (B, n_mels, T)."""
    filters, inverse = _filters(config.sample_rate, config.n_fft, config.n_mels)
    magnitude = (inverse @ mel).clamp(min=1e-8)
    wanted = filters.T @ mel
    for _ in range(num_steps):
        magnitude = magnitude * wanted / (filters.T @ (filters @ magnitude)).clamp(min=1e-12)
    return magnitude


def griffin_lim(
    magnitude: Tensor,
    config: SpectrogramConfig,
    generator: torch.Generator | None = None,
    num_steps: int = 32,
    momentum: float = 0.99,
) -> Tensor:
    """Return waveforms (B, T * hop_length) whose transform has about the magnitudes (B, bins, T)."""
    length = magnitude.shape[2] * config.hop_length
    magnitude = torch.cat([magnitude, magnitude[:, :, -1:]], dim=2)  # a centred transform has one frame more
    phase = torch.rand(magnitude.shape, generator=generator) * 2 * torch.pi
    estimate = torch.polar(magnitude, phase)
    before = torch.zeros_like(estimate)
    for _ in range(num_steps):
        consistent = _stft(_istft(estimate, config, length), config)
        moved = consistent + momentum * (consistent - before)
        before = consistent
        estimate = magnitude * moved / moved.abs().clamp(min=1e-8)
    return _istft(estimate, config, length)


def _stft(waveform: Tensor, config: SpectrogramConfig) -> Tensor:
    return torch.stft(waveform, config.n_fft, config.hop_length, window=hann(config.n_fft), return_complex=True)


def _istft(transform: Tensor, config: SpectrogramConfig, length: int) -> Tensor:
    return torch.istft(transform, config.n_fft, config.hop_length, window=hann(config.n_fft), length=length)
