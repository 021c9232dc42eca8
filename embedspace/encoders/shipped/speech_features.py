"""The fixed speech front end: one window of speech -> what Whisper's encoder hears in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedspace.encoders.towers import create_backbone
from embedspace.encoders.towers.whisper import WhisperEncoder

__all__ = ["Heard", "SpeechFrontEnd", "SpeechInput"]

_TAIL_SECONDS = 0.5
_SPAN_SECONDS = 8.0
"""Whisper was trained on 30 s of sound, most of it silence after short clips. With less than about 6 s of it the last
words blur and the decoder repeats itself; with 8 s in all, short clips come out as well as with 30."""


class SpeechInput(NamedTuple):
    """One window, prepared.

    Attributes:
        frames: (80, F) log-mel frames of the window and the silence after it.
        own: How many of them are the window's, with a short tail; a multiple of 4.
        seconds: Length of the window.
    """

    frames: Tensor
    own: int
    seconds: float


class Heard(NamedTuple):
    """One window, encoded.

    Attributes:
        frames: (F / 2, feature_dim), 50 a second, the silence included: what the decoder attends to.
        sequence: (own / 4, feature_dim), 25 a second, the window's own: what the pooling projection reads.
    """

    frames: Tensor
    sequence: Tensor


class SpeechFrontEnd(nn.Module):
    """Whisper's encoder.

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

    def preprocess(self, waveform: NDArray[np.float32]) -> SpeechInput:
        """Take a (T,) waveform at 16 kHz, level it, and lay it into silence."""
        peak = max(float(np.abs(waveform).max(initial=0.0)), 1e-5)
        own = len(waveform) + int(_TAIL_SECONDS * self.sample_rate)
        span = max(own, int(_SPAN_SECONDS * self.sample_rate))
        padded = np.zeros(span, np.float32)
        padded[: len(waveform)] = waveform * (0.7 / peak)
        frames = self.backbone.preprocess(padded)
        own_frames = max(4, own // 160 // 4 * 4)
        return SpeechInput(frames, own_frames, len(waveform) / self.sample_rate)

    @torch.inference_mode()
    def forward(self, inputs: Sequence[SpeechInput]) -> list[Heard]:
        """Encode windows, whose lengths may differ."""
        lengths = torch.tensor([x.frames.shape[1] for x in inputs])
        batch = torch.zeros(len(inputs), inputs[0].frames.shape[0], int(lengths.max()))
        for row, x in zip(batch, inputs, strict=True):
            row[:, : x.frames.shape[1]] = x.frames
        device = next(self.parameters()).device
        last = self.backbone(batch.to(device), lengths.to(device)).last.float()
        return [
            Heard(row[: n // 2], _halve(row[: x.own // 2]))
            for row, n, x in zip(last, lengths.tolist(), inputs, strict=True)
        ]


def _halve(x: Tensor) -> Tensor:
    return x.view(-1, 2, x.shape[1]).mean(dim=1)  # (T, C) -> (T / 2, C)
