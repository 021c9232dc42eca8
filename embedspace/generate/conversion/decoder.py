"""Content, pitch and the nearest frames of a reference -> log-mel frames in the reference's voice.

Each frame of the source has the mean of the frames of the reference whose content is nearest (kNN-VC). Alone that
knows nothing of its neighbours in time, and nothing of what the reference never says. The source's own envelope, moved
to the reference's mean and deviation, keeps the words and some of the source's voice. So a small network draws the
frames, and is given both beside the content, the pitch that is wanted, loudness, and what the reference sounds like on
the whole. In training the envelope is that of another throat, so that the nearest frames are worth listening to.

Source: Baas, van Niekerk and Kamper 2023, "Voice Conversion With Just Nearest Neighbors"
    (https://arxiv.org/abs/2305.18975), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedspace.generate.conversion.blocks import ConvNeXt
from embedspace.generate.conversion.frames import MIDDLE_PITCH, PITCH_SCALE, VoiceFrames, nearest_frames
from embedspace.generate.conversion.pitch import harmonics
from embedspace.generate.spectrogram import SpectrogramConfig

__all__ = ["DecoderConfig", "VoiceDecoder"]


@dataclass(frozen=True)
class DecoderConfig:
    """Size of a decoder.

    Attributes:
        content: Numbers of a frame's content.
        channels: Width.
        hidden: Width within a block.
        blocks: How many.
        neighbours: Frames of the reference whose mean a frame is given.
    """

    content: int = 40
    channels: int = 192
    hidden: int = 448
    blocks: int = 5
    neighbours: int = 4


class VoiceDecoder(nn.Module):
    """Frames of what is wanted -> log-mel frames."""

    def __init__(self, config: DecoderConfig, spectrogram: SpectrogramConfig) -> None:
        super().__init__()
        self.config, self.spectrogram = config, spectrogram
        mels = spectrogram.n_mels
        self.body = ConvNeXt(config.content + 3 * mels + 4, config.channels, config.hidden, config.blocks)
        self.whole = nn.Linear(2 * mels + 1, config.channels)
        self.head = nn.Linear(config.channels, mels)
        nn.init.zeros_(self.head.weight)  # a new network says the envelope
        nn.init.zeros_(self.head.bias)

    def inputs(
        self, content: Tensor, pitch: NDArray[np.float32], loudness: Tensor, envelope: Tensor, reference: VoiceFrames
    ) -> Tensor:
        """Return (inputs, T) for the network.

        Args:
            content: (T, size).
            pitch: (T,) Hz that are wanted, 0 for no voice.
            loudness: (T,).
            envelope: (T, n_mels) of what is said, with the reference's mean and deviation.
            reference: Whose nearest frames are taken.
        """
        near, cosine = nearest_frames(content, reference, self.config.neighbours)
        voiced = torch.from_numpy((pitch > 0).astype(np.float32))[:, None]
        logarithm = torch.from_numpy(np.log(np.maximum(pitch, 1.0)).astype(np.float32))[:, None]
        height = (logarithm - MIDDLE_PITCH) / PITCH_SCALE * voiced
        comb = harmonics(pitch, self.spectrogram).T
        return torch.cat([envelope, near, comb, content * 0.3, voiced, height, loudness[:, None], cosine], dim=1).T

    def forward(self, inputs: Tensor, whole: Tensor) -> Tensor:
        """Return log-mel frames (B, n_mels, T) of inputs (B, inputs, T) and sums of references (B, 2 * n_mels + 1)."""
        out: Tensor = self.head(self.body(inputs, self.whole(whole))).transpose(1, 2)
        return inputs[:, : self.spectrogram.n_mels] + out
