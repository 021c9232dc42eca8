"""YAMNet: a sound tagger, MobileNet v1 trained on AudioSet's 521 classes, with its log-mel front end.

Batch norm is folded into the convolutions; the classes' names come with the weights.

Source: Plakal and Ellis, YAMNet (https://github.com/tensorflow/models/tree/master/research/audioset/yamnet); Howard et
al. 2017, "MobileNets"; Gemmeke et al. 2017, "Audio Set".
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from embedspace.encoders.towers.backbone import Backbone, register_backbone
from embedspace.encoders.towers.mel import hann, htk_filters
from embedspace.errors import InputError

__all__ = ["Tagged", "YAMNet", "tagger_mel"]

SAMPLE_RATE, WINDOW, N_FFT, HOP_LENGTH, N_MELS = 16_000, 400, 512, 160, 64
LOWEST_HZ, HIGHEST_HZ = 125.0, 7500.0
PATCH, PATCH_HOP = 96, 48  # frames: 0.96 s, half overlapping
_OFFSET = 1e-3
_STEM = 32
_LAYERS = ((1, 16), (2, 8), (1, 8), (2, 4), (1, 4), (2, 2), *[(1, 2)] * 5, (2, 1), (1, 1))
"""Stride of each separable convolution, and the share of the last one's channels that it has; the first is whole."""


class Tagged(NamedTuple):
    """What the network says about a batch of patches.

    Attributes:
        pooled: (B, feature_dim) mean over bands and time: the published embedding. Non-negative.
        logits: (B, classes) scores of the classes before their sigmoid.
    """

    pooled: torch.Tensor
    logits: torch.Tensor


class _Separable(nn.Module):
    """A 3 x 3 convolution of each channel, and one across the channels; each with a bias and a ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, groups=inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu_(self.depthwise(_padded(x, self.depthwise.stride[0])))
        return functional.relu_(self.pointwise(x))


def _padded(x: torch.Tensor, stride: int) -> torch.Tensor:
    """Pad as TensorFlow's "SAME": even sides at stride 2 only after the end."""
    (height, width), before = x.shape[2:], []
    for side in (width, height):
        missing = max((-(-side // stride) - 1) * stride + 3 - side, 0)
        before += [missing // 2, missing - missing // 2]
    return functional.pad(x, before)


class YAMNet(Backbone):
    """Fourteen convolutions and a classifier."""

    modality = "audio"
    sample_rate = SAMPLE_RATE

    def __init__(self, name: str, *, feature_dim: int, classes: list[str]) -> None:
        """Build the layers; weights come from `load`.

        Args:
            name: Name it was made by.
            feature_dim: Channels of the last layer.
            classes: Names of the classes, in order.
        """
        super().__init__(name, feature_dim)
        self.classes = tuple(classes)
        widths = [feature_dim // share for share in (_STEM, *(share for _, share in _LAYERS))]
        self.stem = nn.Conv2d(1, widths[0], 3, 2)
        self.layers = nn.ModuleList(
            _Separable(inputs, outputs, stride)
            for (inputs, outputs), (stride, _) in zip(itertools.pairwise(widths), _LAYERS, strict=True)
        )
        self.classifier = nn.Linear(feature_dim, len(classes))

    def preprocess(self, waveform: NDArray[np.float32] | torch.Tensor) -> torch.Tensor:
        """Turn one clip into overlapping patches of log-mel frames; the last is padded with silence.

        Args:
            waveform: (T,) at 16 kHz in [-1, 1], from 1 sample.

        Returns:
            (patches, 96, 64) float32.

        Raises:
            InputError: If it is empty or not one channel.
        """
        x = torch.as_tensor(waveform, dtype=torch.float32)
        if x.ndim != 1 or len(x) == 0:
            raise InputError(f"sound must be (T,) with at least 1 sample at 16 kHz, got {tuple(x.shape)}: mix it down")
        whole, step = WINDOW + (PATCH - 1) * HOP_LENGTH, PATCH_HOP * HOP_LENGTH
        beyond = max(len(x) - whole, 0)
        frames = tagger_mel(functional.pad(x, (0, max(whole - len(x), -beyond % step))))
        # (frames, bands) -> (patches, bands, frames) -> (patches, frames, bands)
        return frames.unfold(0, PATCH, PATCH_HOP).transpose(1, 2).contiguous()

    def forward(self, input_features: torch.Tensor) -> Tagged:
        """Run the network.

        Args:
            input_features: (B, 96, 64) patches as `preprocess` makes them.
        """
        x = input_features[:, None].contiguous(memory_format=torch.channels_last)
        x = functional.relu_(self.stem(_padded(x, 2)))
        for layer in self.layers:
            x = layer(x)
        pooled = x.float().mean(dim=(2, 3))
        return Tagged(pooled, self.classifier(pooled))


@lru_cache(maxsize=1)
def _front_end() -> tuple[torch.Tensor, torch.Tensor]:
    return hann(WINDOW), htk_filters(SAMPLE_RATE, N_FFT, N_MELS, LOWEST_HZ, HIGHEST_HZ)


def tagger_mel(waveform: torch.Tensor) -> torch.Tensor:
    """Compute the network's log-mel frames: log(magnitude + 0.001), 25 ms every 10 ms.

    Args:
        waveform: (T,) at 16 kHz in [-1, 1], at least 400 samples.

    Returns:
        (frames, 64), the first begins with the first sample.
    """
    window, filters = _front_end()
    spectrum = torch.fft.rfft(waveform.unfold(0, WINDOW, HOP_LENGTH) * window, N_FFT)
    mel: torch.Tensor = spectrum.abs() @ filters.T
    return mel.add_(_OFFSET).log_()


@register_backbone("yamnet")
def _create(name: str, weights: Path | None) -> YAMNet:
    return YAMNet.read(name, weights).channels_last()
