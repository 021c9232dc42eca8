"""The encoder of Whisper: the speech backbone, with its log-mel front end.

Unlike the original, a clip is not padded to 30 s: positions are cut to its own frames, so 3 s cost a tenth.

Source: Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision, 2022 (https://arxiv.org/abs/2212.04356).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from embedspace.encoders.towers.backbone import Backbone, register_backbone
from embedspace.encoders.towers.layer import TransformerLayer
from embedspace.encoders.towers.mel import hann, slaney_filters
from embedspace.errors import InputError

__all__ = ["SpeechFeatures", "WhisperEncoder", "log_mel"]

SAMPLE_RATE, N_FFT, HOP_LENGTH, N_MELS = 16_000, 400, 160, 80
_STEP = 2 * HOP_LENGTH  # samples an output frame: the second convolution has stride 2
_MAX_SECONDS = 30


class SpeechFeatures(NamedTuple):
    """What the encoder says about a batch of clips.

    Attributes:
        last: (B, T / 2, feature_dim) after the final layer norm; zero where a clip is padded.
        layers: The outputs of the layers asked for, same shape, before any norm.
        mask: (B, T / 2) bool, True on a clip's own frames.
    """

    last: torch.Tensor
    layers: list[torch.Tensor]
    mask: torch.Tensor


class WhisperEncoder(Backbone):
    """Whisper's encoder, of any length up to 30 s."""

    modality = "speech"
    sample_rate = SAMPLE_RATE
    max_seconds = _MAX_SECONDS

    def __init__(self, name: str, *, feature_dim: int, layers: int, heads: int, n_mels: int, positions: int) -> None:
        """Build the layers; weights come from `load`."""
        super().__init__(name, feature_dim)
        self.conv1 = nn.Conv1d(n_mels, feature_dim, 3, padding=1)
        self.conv2 = nn.Conv1d(feature_dim, feature_dim, 3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.empty(positions, feature_dim))
        self.layers = nn.ModuleList([_Layer(feature_dim, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(feature_dim)

    def preprocess(self, waveform: NDArray[np.float32] | torch.Tensor) -> torch.Tensor:
        """Turn one clip into its normalised log-mel frames.

        Args:
            waveform: (T,) at 16 kHz in [-1, 1], 1 sample to 30 s.

        Returns:
            (80, frames) float32; the number of frames is even, 100 a second.

        Raises:
            InputError: If it is empty, not one channel, or longer than 30 s.
        """
        return log_mel(torch.as_tensor(waveform, dtype=torch.float32))

    def forward(
        self, input_features: torch.Tensor, lengths: torch.Tensor | None = None, *, layers: Sequence[int] = ()
    ) -> SpeechFeatures:
        """Encode a batch of clips.

        Args:
            input_features: (B, 80, T) log-mel frames, T even; shorter clips are padded on the right with anything.
            lengths: (B,) each clip's own frames; None if all are T long. Padding does not change a clip's output.
            layers: Which layers' outputs to return besides the last: 0 is the first.

        Raises:
            InputError: If T is more than 30 s.
        """
        frames = input_features.shape[2]
        if frames > 2 * len(self.positions):
            raise InputError(
                f"{frames} frames, at most {2 * len(self.positions)} (30 s): cut the recording into windows"
            )
        if lengths is None:
            lengths = torch.full((len(input_features),), frames, device=input_features.device)
        inside = torch.arange(frames, device=lengths.device) < lengths[:, None]  # (B, T)
        ragged = not bool(inside.all())
        # A convolution must see zeros past a clip's end, as it would if the clip were alone.
        x = input_features * inside[:, None] if ragged else input_features
        x = functional.gelu(self.conv1(x))
        x = functional.gelu(self.conv2(x * inside[:, None] if ragged else x))
        mask = inside[:, ::2]
        # (B, C, T / 2) -> (B, T / 2, C)
        x = x.transpose(1, 2) + self.positions[: x.shape[2]]
        bias = mask[:, None, None, :] if ragged else None
        kept = {}
        for index, layer in enumerate(self.layers):
            x = layer(x, bias)
            if index in layers:
                kept[index] = x * mask[..., None] if ragged else x
        last = self.norm(x)
        return SpeechFeatures(last * mask[..., None] if ragged else last, [kept[index] for index in layers], mask)


class _Layer(TransformerLayer):
    """Pre-norm."""

    def forward(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        x = x + self.attend(self.attention_norm(x), bias)
        return x + self.feed_forward(self.mlp_norm(x))


@lru_cache(maxsize=1)
def _front_end() -> tuple[torch.Tensor, torch.Tensor]:
    return hann(N_FFT), slaney_filters(SAMPLE_RATE, N_FFT, N_MELS)


def log_mel(waveform: torch.Tensor) -> torch.Tensor:
    """Compute Whisper's log-mel frames: log10, at most 8 below the clip's maximum, shifted to about [-1, 1].

    Args:
        waveform: (T,) at 16 kHz in [-1, 1], 1 sample to 30 s; padded with zeros to a whole number of output frames.

    Returns:
        (80, frames), frames even.

    Raises:
        InputError: If the waveform is empty, not one channel, or longer than 30 s.

    Source:
        https://github.com/openai/whisper/blob/main/whisper/audio.py (`log_mel_spectrogram`).
    """
    if waveform.ndim != 1 or not 0 < len(waveform) <= _MAX_SECONDS * SAMPLE_RATE:
        limit = _MAX_SECONDS * SAMPLE_RATE
        raise InputError(
            f"speech must be (T,), 1 to {limit} samples at 16 kHz, got {tuple(waveform.shape)}: "
            "mix it down and cut it into windows"
        )
    # Reflection at the ends needs more samples than half a window.
    steps = max(-(-len(waveform) // _STEP), 1)
    padded = functional.pad(waveform, (0, steps * _STEP - len(waveform)))
    window, filters = _front_end()
    spectrum = torch.stft(
        padded, N_FFT, HOP_LENGTH, window=window, center=True, pad_mode="reflect", return_complex=True
    )
    power = spectrum[:, :-1].abs().square()  # the original drops the last frame
    log = (filters @ power).clamp_(min=1e-10).log10_()
    log = torch.maximum(log, log.max() - 8.0)
    return (log + 4.0) / 4.0


@register_backbone("whisper_base")
def _create(name: str, weights: Path | None) -> WhisperEncoder:
    return WhisperEncoder.read(name, weights)
