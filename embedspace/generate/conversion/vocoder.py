"""A vocoder: log-mel frames -> samples. Blocks of convolutions at the rate of frames, then one inverse transform.

    (B, n_mels, T) ──ConvNeXt blocks──▶ magnitude and phase (B, n_fft / 2 + 1, T) ──inverse STFT──▶ (B, T * hop_length)

Source: Siuzdak 2023, "Vocos" (https://arxiv.org/abs/2306.00814), section 3: the head predicts a logarithm of magnitudes
    and an angle, and all upsampling is the inverse transform.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from embedspace.encoders.towers.mel import hann
from embedspace.generate.conversion.blocks import ConvNeXt
from embedspace.generate.spectrogram import SpectrogramConfig

__all__ = ["Vocoder", "VocoderConfig"]

_LOUDEST = 1e2
"""Most that a magnitude may be: early in training an exponential explodes else."""


@dataclass(frozen=True)
class VocoderConfig:
    """Size of a vocoder.

    Attributes:
        channels: Width.
        hidden: Width within a block.
        blocks: How many.
        spectrogram: Of the frames that it takes.
    """

    channels: int = 256
    hidden: int = 512
    blocks: int = 5
    spectrogram: SpectrogramConfig = field(default_factory=SpectrogramConfig)


class Vocoder(nn.Module):
    """Log-mel frames -> samples."""

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        self.config = config
        self.bins = config.spectrogram.n_fft // 2 + 1
        self.body = ConvNeXt(config.spectrogram.n_mels, config.channels, config.hidden, config.blocks)
        self.head = nn.Linear(config.channels, 2 * self.bins)

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Return samples (B, T * hop_length) of log-mel spectrograms (B, n_mels, T) in [-1, 1]."""
        size = self.config.spectrogram
        # a centred transform has one frame more
        x = torch.cat([spectrogram, spectrogram[:, :, -1:]], dim=2)
        logarithm, angle = self.head(self.body(x)).transpose(1, 2).split(self.bins, dim=1)
        transform = torch.polar(logarithm.exp().clamp(max=_LOUDEST), angle)
        length = spectrogram.shape[2] * size.hop_length
        return torch.istft(transform, size.n_fft, size.hop_length, window=hann(size.n_fft).to(x.device), length=length)
