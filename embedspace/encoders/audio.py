"""Sounds -> the shared space: a tagger and Whisper side by side, the classes' words as a start, some heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedspace.encoders.audio_features import AudioFrontEnd, AudioInput
from embedspace.encoders.base import Encoder, load_strict, register_encoder, to_rows
from embedspace.encoders.heads import MLPHead, ensemble_normalize
from embedspace.media.resample import resample_waveform
from embedspace.modality import Modality

__all__ = ["AudioConfig", "AudioEncoder", "AudioHeads"]


@dataclass(frozen=True)
class AudioConfig:
    """What determines the audio encoder besides its weights.

    Attributes:
        backbones: The sound network and the speech network.
        feature_dim: Width of the front end's features.
        embed_dim: Width of the shared space.
        hidden_dim: Of each head.
        members: Heads of the ensemble.
        label_sets: Sizes of the tagger's label sets that carry names; together the rows of the class table.
        temperature: Divides the class scores before their softmax.
        window_seconds: Length of a segment; the hop is the same.
    """

    backbones: tuple[str, str]
    feature_dim: int
    embed_dim: int
    hidden_dim: int
    members: int
    label_sets: tuple[int, ...]
    temperature: float = 1.0
    window_seconds: float = 6.0


class AudioHeads(nn.Module):
    """Features and class scores -> (B, embed_dim) unit rows, and the router that says whether somebody speaks.

    `classes` holds the vectors of the tagger's class names in the space.
    """

    classes: Tensor

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("classes", torch.zeros(sum(config.label_sets), config.embed_dim))
        self.members = nn.ModuleList(
            MLPHead(config.feature_dim, config.embed_dim, config.hidden_dim, with_prior=True)
            for _ in range(config.members)
        )
        self.router = nn.Linear(config.feature_dim, 1)

    def prior(self, logits: Tensor) -> Tensor:
        """Mix the class names' vectors by the mean of the label sets' probabilities (ConSE), (B, embed_dim)."""
        used = logits[:, : sum(self.config.label_sets)]
        parts = torch.split(used, list(self.config.label_sets), dim=1)
        shares = [(part / self.config.temperature).softmax(dim=1) for part in parts]
        return nn.functional.normalize(torch.cat(shares, dim=1) @ self.classes, dim=-1)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """Return (B, embed_dim) unit rows."""
        prior = self.prior(logits)
        return ensemble_normalize([member(features, prior) for member in self.members])

    def speech_probability(self, features: Tensor) -> Tensor:
        """Return the probability that somebody speaks, (B,)."""
        first = self.members[0]
        assert isinstance(first, MLPHead)
        logits: Tensor = self.router((features - first.mean) * first.scale)
        return logits[:, 0].sigmoid()


class AudioEncoder(Encoder):
    """Front end, heads and router."""

    def __init__(self, config: AudioConfig, heads: AudioHeads) -> None:
        super().__init__()
        self.config = config
        self.embed_dim = config.embed_dim
        self.front = AudioFrontEnd(*config.backbones)
        self.heads = heads

    def prepare(self, media: NDArray[np.float32]) -> AudioInput:
        """Turn a window of 44.1 kHz samples into both networks' log-mel frames."""
        return self.front.preprocess(media, resample_waveform(media, *self.front.sample_rates))

    def encode(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows."""
        return self.encode_and_route(prepared)[0]

    @torch.inference_mode()
    def encode_and_route(self, prepared: Sequence[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return unit rows, and the probability of speech in each window, (N,)."""
        features, logits = self.front(prepared)
        return to_rows(self.heads(features, logits)), to_rows(self.heads.speech_probability(features))


@register_encoder(Modality.AUDIO)
def _create(config: dict[str, Any], folder: Path) -> AudioEncoder:
    parsed = AudioConfig(
        **{**config, "backbones": tuple(config["backbones"]), "label_sets": tuple(config["label_sets"])}
    )
    heads = AudioHeads(parsed)
    load_strict(heads, folder / "audio.safetensors")
    return AudioEncoder(parsed, heads)
