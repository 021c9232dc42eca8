"""Content, pitch and the nearest frames of a reference -> log-mel frames in the reference's voice.

Each frame of the source has the mean of the frames of the reference whose content is nearest (kNN-VC). Alone that
knows nothing of its neighbours in time, and nothing of what the reference never says; so a small network draws the
frames, and is given the mean beside the content, the pitch that is wanted, loudness, and what the reference sounds like
on the whole.

Source: Baas, van Niekerk and Kamper 2023, "Voice Conversion With Just Nearest Neighbors"
    (https://arxiv.org/abs/2305.18975), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from embedspace.generate.conversion.blocks import ConvNeXt
from embedspace.generate.conversion.content import ContentEncoder
from embedspace.generate.conversion.pitch import harmonics, pitch_of
from embedspace.generate.spectrogram import SpectrogramConfig, to_spectrogram

__all__ = ["DecoderConfig", "VoiceDecoder", "VoiceFrames", "frames_of", "nearest_frames", "reference_sums"]

_LEVEL = 0.08
"""Root mean square that speech is brought to."""
_PITCH_SCALE = 0.25
"""Of logarithms of pitch, so that they are about 1."""


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
        return len(self.mel)

    @property
    def is_voiced(self) -> Tensor:
        """(T,) bool."""
        return torch.from_numpy(self.pitch > 0)

    @property
    def log_pitch(self) -> tuple[float, float]:
        """Mean and standard deviation of the logarithm of the pitch of voiced frames; of nobody's where there are none."""
        voiced = np.log(self.pitch[self.pitch > 0])
        return (float(voiced.mean()), float(voiced.std())) if len(voiced) > 5 else (float(np.log(150.0)), 0.2)


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
    """Return the mean (T, n_mels) of the reference's nearest frames by content (T, size), and their mean cosine (T, 1)."""
    cosines = F.normalize(content, dim=1) @ F.normalize(reference.content, dim=1).T
    best, at = cosines.topk(min(count, len(reference)), dim=1)
    return reference.mel[at].mean(dim=1), best.mean(dim=1, keepdim=True)


def reference_sums(reference: VoiceFrames) -> Tensor:
    """Return (2 * n_mels + 1,): mean and deviation of the reference's loud frames, and the logarithm of its pitch."""
    loud = reference.mel[reference.loudness > reference.loudness.max() - 1.0]
    mean, _ = reference.log_pitch
    pitch = torch.tensor([(mean - float(np.log(150.0))) / _PITCH_SCALE])
    return torch.cat([loud.mean(dim=0), loud.std(dim=0, unbiased=False) * 3, pitch])


class VoiceDecoder(nn.Module):
    """Frames of what is wanted -> log-mel frames."""

    def __init__(self, config: DecoderConfig, spectrogram: SpectrogramConfig) -> None:
        super().__init__()
        self.config, self.spectrogram = config, spectrogram
        mels = spectrogram.n_mels
        self.body = ConvNeXt(config.content + 2 * mels + 4, config.channels, config.hidden, config.blocks)
        self.whole = nn.Linear(2 * mels + 1, config.channels)
        self.head = nn.Linear(config.channels, mels)
        nn.init.zeros_(self.head.weight)  # a new network says the mean of the nearest frames
        nn.init.zeros_(self.head.bias)

    def inputs(
        self, content: Tensor, pitch: NDArray[np.float32], loudness: Tensor, reference: VoiceFrames
    ) -> Tensor:
        """Return (inputs, T) of frames' content (T, size), wanted pitch (T,) in Hz and loudness (T,)."""
        near, cosine = nearest_frames(content, reference, self.config.neighbours)
        voiced = torch.from_numpy((pitch > 0).astype(np.float32))[:, None]
        logarithm = torch.from_numpy(np.log(np.maximum(pitch, 1.0)).astype(np.float32))[:, None]
        height = (logarithm - float(np.log(150.0))) / _PITCH_SCALE * voiced
        rows = [content * 0.3, near, harmonics(pitch, self.spectrogram).T, voiced, height, loudness[:, None], cosine]
        return torch.cat(rows, dim=1).T

    def forward(self, inputs: Tensor, whole: Tensor) -> Tensor:
        """Return log-mel frames (B, n_mels, T) of inputs (B, inputs, T) and sums of references (B, 2 * n_mels + 1)."""
        mels, size = self.spectrogram.n_mels, self.config.content
        near = inputs[:, size : size + mels]
        out: Tensor = self.head(self.body(inputs, self.whole(whole))).transpose(1, 2)
        return near + out


