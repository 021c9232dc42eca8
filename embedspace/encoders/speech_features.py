"""The fixed speech front end: one window of speech -> the features that the speech head reads, 25 a second."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedspace.encoders.backbones import create_backbone
from embedspace.encoders.backbones.whisper import WhisperEncoder

__all__ = ["SpeechFrontEnd"]

_TAIL_SECONDS = 0.5  # Whisper was trained on clips that end in silence; without it the last word comes out blurred


class SpeechFrontEnd(nn.Module):
    """Whisper's encoder, its frames averaged in pairs.

    Args:
        name: Backbone name.
    """

    sample_rate = 16_000
    max_seconds = 30.0 - _TAIL_SECONDS

    def __init__(self, name: str = "whisper_base") -> None:
        super().__init__()
        backbone = create_backbone(name)
        assert isinstance(backbone, WhisperEncoder)
        self.backbone = backbone
        self.feature_dim = backbone.feature_dim
        self.eval().requires_grad_(False)

    def preprocess(self, waveform: NDArray[np.float32]) -> Tensor:
        """Return (80, frames) log-mel frames of a (T,) waveform at 16 kHz, level-normalised, with a tail of silence."""
        peak = max(float(np.abs(waveform).max(initial=0.0)), 1e-5)
        padded = np.pad(waveform * (0.7 / peak), (0, int(_TAIL_SECONDS * self.sample_rate)))
        frames = self.backbone.preprocess(padded.astype(np.float32))
        return frames[:, : frames.shape[1] // 4 * 4] if frames.shape[1] >= 4 else frames

    @torch.inference_mode()
    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return one (frames / 4, feature_dim) float32 sequence for each of `inputs`; lengths may differ."""
        lengths = torch.tensor([x.shape[1] for x in inputs])
        batch = torch.zeros(len(inputs), inputs[0].shape[0], int(lengths.max()))
        for row, x in zip(batch, inputs, strict=True):
            row[:, : x.shape[1]] = x
        device = next(self.parameters()).device
        last = self.backbone(batch.to(device), lengths.to(device)).last.float()
        return [_halve(last[i, : n // 2]) for i, n in enumerate(lengths.tolist())]


def _halve(x: Tensor) -> Tensor:
    if len(x) % 2:
        x = torch.cat([x, x[-1:]])
    return x.view(-1, 2, x.shape[1]).mean(dim=1)  # (T, C) -> (T / 2, C)
