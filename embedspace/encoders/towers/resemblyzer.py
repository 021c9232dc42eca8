"""Resemblyzer's voice encoder: who speaks. Three LSTM layers over mel frames, trained to tell many voices apart.

A stretch of speech is cut into partial utterances of 1.6 s that overlap by half; each has a row, and their mean is the
stretch's. Rows are not negative. They mean nothing but a voice: what is said, and the space, have no part in them.

Source: Wan et al. 2018, "Generalized End-to-End Loss for Speaker Verification" (https://arxiv.org/abs/1710.10467);
    Resemblyzer (https://github.com/resemble-ai/Resemblyzer).
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from embedspace.encoders.towers.backbone import Backbone, register_backbone
from embedspace.encoders.towers.mel import hann, slaney_filters
from embedspace.errors import InputError

__all__ = ["HOP_LENGTH", "PARTIAL_FRAMES", "Resemblyzer", "partial_starts", "voice_mel"]

SAMPLE_RATE, N_FFT, HOP_LENGTH, N_MELS = 16_000, 400, 160, 40
PARTIAL_FRAMES = 160
"""Of a partial utterance: 1.6 s."""
_STEP_FRAMES = 77
_COVERED = 0.75
"""A last partial of which less than this is sound is left out, unless it is the only one."""
_LEVEL = 10.0 ** (-30.0 / 20.0)
"""Sound that is quieter than this, root mean square, is made so loud: the frames are no logarithms."""


class Resemblyzer(Backbone):
    """Three LSTM layers, and one linear layer behind the last state."""

    modality = "voice"
    sample_rate = SAMPLE_RATE

    def __init__(self, name: str, *, feature_dim: int, hidden_dim: int, layers: int) -> None:
        """Build the layers; weights come from `load`.

        Args:
            name: Name it was made by.
            feature_dim: Width of a row.
            hidden_dim: Of each LSTM layer.
            layers: How many.
        """
        super().__init__(name, feature_dim)
        self.lstm = nn.LSTM(N_MELS, hidden_dim, layers, batch_first=True)
        self.linear = nn.Linear(hidden_dim, feature_dim)

    def preprocess(self, waveform: NDArray[np.float32] | torch.Tensor) -> torch.Tensor:
        """Turn one stretch of speech into its partial utterances; the last is padded with silence.

        Args:
            waveform: (T,) at 16 kHz in [-1, 1], from 1 sample.

        Returns:
            (partials, 160, 40) float32.

        Raises:
            InputError: If it is empty or not one channel.
        """
        x = torch.as_tensor(waveform, dtype=torch.float32)
        if x.ndim != 1 or len(x) == 0:
            raise InputError(f"speech must be (T,) with at least 1 sample at 16 kHz, got {tuple(x.shape)}: mix it down")
        starts = partial_starts(len(x))
        frames = voice_mel(functional.pad(louder(x), (0, max((starts[-1] + PARTIAL_FRAMES) * HOP_LENGTH - len(x), 0))))
        return torch.stack([frames[first : first + PARTIAL_FRAMES] for first in starts])

    def forward(self, partials: torch.Tensor) -> torch.Tensor:
        """Run the network.

        Args:
            partials: (B, 160, 40) as `preprocess` makes them.

        Returns:
            (B, feature_dim) unit rows without negative entries.
        """
        _, (hidden, _) = self.lstm(partials)
        return functional.normalize(functional.relu(self.linear(hidden[-1])), dim=1)


def louder(waveform: torch.Tensor) -> torch.Tensor:
    """Return quiet sound at the level that the network knows; louder sound as it is."""
    level = float(waveform.square().mean().sqrt())
    return waveform * (_LEVEL / level) if 0.0 < level < _LEVEL else waveform


def partial_starts(samples: int) -> list[int]:
    """Return the frames with which the partial utterances of so many samples begin; at least one."""
    frames = math.ceil((samples + 1) / HOP_LENGTH)
    starts = list(range(0, max(1, frames - PARTIAL_FRAMES + _STEP_FRAMES + 1), _STEP_FRAMES))
    covered = (samples - starts[-1] * HOP_LENGTH) / (PARTIAL_FRAMES * HOP_LENGTH)
    return starts[:-1] if covered < _COVERED and len(starts) > 1 else starts


@lru_cache(maxsize=1)
def _front_end() -> tuple[torch.Tensor, torch.Tensor]:
    return hann(N_FFT), slaney_filters(SAMPLE_RATE, N_FFT, N_MELS)


def voice_mel(waveform: torch.Tensor) -> torch.Tensor:
    """Compute the network's mel frames: powers, no logarithm, 25 ms every 10 ms.

    Args:
        waveform: (T,) at 16 kHz in [-1, 1].

    Returns:
        (T // 160 + 1, 40), the middle of the first is the first sample.
    """
    window, filters = _front_end()
    frames = functional.pad(waveform, (N_FFT // 2, N_FFT // 2)).unfold(0, N_FFT, HOP_LENGTH)
    powers = torch.fft.rfft(frames * window).abs().square()
    mel: torch.Tensor = powers @ filters.T
    return mel


@register_backbone("resemblyzer")
def _create(name: str, weights: Path | None) -> Resemblyzer:
    return Resemblyzer.read(name, weights)
