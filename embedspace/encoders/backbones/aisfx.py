"""aiSFX: the sound backbone, a convolutional network trained on labelled sound effects, with its log-mel front end.

Batch norm is folded into the convolutions. The front end reproduces Essentia's, which the network was trained on.

Source: Ma and Lerch, Representation Learning for the Automatic Indexing of Sound Effects Libraries, ISMIR 2022
(https://github.com/alisonbma/aisfx).
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

from embedspace.encoders.backbones.base import Backbone, register_backbone
from embedspace.encoders.backbones.mel import htk_unit_sum_filters
from embedspace.errors import InputError

__all__ = ["SoundFeatures", "SoundNet", "sound_mel"]

SAMPLE_RATE, N_FFT, HOP_LENGTH, N_MELS = 44_100, 2048, 1024, 96
BLOCK, BLOCK_HOP = 100, 50  # frames: 2.3 s, half overlapping
_GAIN = 1e4
_LARGEST = 9.457798957824707  # of all of the training data's log-mel values


class SoundFeatures(NamedTuple):
    """What the network says about a batch of blocks.

    Attributes:
        pooled: (B, feature_dim) mean over the bands, maximum over time: the published embedding. Non-negative.
        mean: (B, feature_dim) mean over the bands and over time.
        logits: One (B, classes) for each of the label sets it was trained on.
    """

    pooled: torch.Tensor
    mean: torch.Tensor
    logits: list[torch.Tensor]


class SoundNet(Backbone):
    """Four pairs of 3 x 3 convolutions, and a classifier for each label set."""

    modality = "audio"
    sample_rate = SAMPLE_RATE

    def __init__(self, name: str, *, feature_dim: int, classes: dict[str, int]) -> None:
        """Build the layers; weights come from `load`.

        Args:
            name: Name it was made by.
            feature_dim: Channels of the last block; each block before has half as many.
            classes: Label set -> number of labels, in order.
        """
        super().__init__(name, feature_dim)
        widths = [1, *(feature_dim >> shift for shift in (3, 3, 2, 2, 1, 1, 0, 0))]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, width, 3, padding=1) for inputs, width in itertools.pairwise(widths)
        )
        half, quarter = feature_dim // 2, feature_dim // 4
        self.label_sets = list(classes)
        self.classifiers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(feature_dim, half), nn.ReLU(), nn.Linear(half, quarter), nn.ReLU(), nn.Linear(quarter, count)
            )
            for count in classes.values()
        )

    def preprocess(self, waveform: NDArray[np.float32] | torch.Tensor) -> torch.Tensor:
        """Turn one clip into overlapping blocks of normalised log-mel frames; the last is padded with silence.

        Args:
            waveform: (T,) at 44.1 kHz in [-1, 1], from 1 sample.

        Returns:
            (blocks, 100, 96) float32, mostly in [0, 1].

        Raises:
            InputError: If it is empty or not one channel.
        """
        frames = sound_mel(torch.as_tensor(waveform, dtype=torch.float32))
        count = max(-(-(len(frames) - BLOCK) // BLOCK_HOP), 0) + 1
        padded = functional.pad(frames, (0, 0, 0, (count - 1) * BLOCK_HOP + BLOCK - len(frames)))
        # (frames, bands) -> (blocks, bands, frames) -> (blocks, frames, bands)
        return padded.unfold(0, BLOCK, BLOCK_HOP).transpose(1, 2).contiguous()

    def forward(self, input_features: torch.Tensor) -> SoundFeatures:
        """Run the network.

        Args:
            input_features: (B, frames, 96) blocks as `preprocess` makes them; at least 8 frames.
        """
        x = input_features[:, None].contiguous(memory_format=torch.channels_last)
        for index, convolution in enumerate(self.convolutions, 1):
            x = functional.relu_(convolution(x))
            if index % 2 == 0 and index < len(self.convolutions):
                x = functional.max_pool2d(x, 2)
        # (B, C, frames / 8, bands / 8) -> (B, C, frames / 8)
        x = x.float().mean(dim=3)
        pooled = x.amax(dim=2)
        logits = [classifier(pooled) for classifier in self.classifiers]
        return SoundFeatures(pooled, x.mean(dim=2), logits)


@lru_cache(maxsize=1)
def _front_end() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.hann_window(N_FFT, periodic=False), htk_unit_sum_filters(SAMPLE_RATE, N_FFT, N_MELS)


def sound_mel(waveform: torch.Tensor) -> torch.Tensor:
    """Compute the network's log-mel frames: log10(1 + 10^4 power), scaled by the training data's largest value.

    Args:
        waveform: (T,) at 44.1 kHz in [-1, 1].

    Returns:
        (frames, 96), 43 frames a second, the first centred on the first sample.

    Raises:
        InputError: If the waveform is empty or not one channel.

    Source:
        Essentia's FrameCutter, Windowing, Spectrum and MelBands as the network's authors set them. Left out: the noise
        at -100 dB that Essentia adds to silent frames, which changes a value by less than 10^-4.
    """
    if waveform.ndim != 1 or len(waveform) == 0:
        raise InputError(
            f"sound must be (T,) with at least 1 sample at 44.1 kHz, got {tuple(waveform.shape)}: mix it down"
        )
    window, filters = _front_end()
    padded = functional.pad(waveform, (0, -len(waveform) % HOP_LENGTH))
    spectrum = torch.stft(
        padded, N_FFT, HOP_LENGTH, window=window, center=True, pad_mode="constant", return_complex=True
    )
    power = spectrum.abs().square()
    # (bands, frames) -> (frames, bands)
    return ((filters @ power).mul_(_GAIN).add_(1.0).log10_() / _LARGEST).T


@register_backbone("aisfx")
def _create(name: str, weights: Path | None) -> SoundNet:
    return SoundNet.read(name, weights).channels_last()
