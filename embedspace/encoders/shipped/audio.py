"""Sounds -> the shared space: a tagger and Whisper side by side, the classes' words as a start, some projections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedspace.encoders.base import Encoder, load_module, to_rows
from embedspace.encoders.projections import KernelProjection, MLPProjection, NamedProjections, ensemble_normalize
from embedspace.encoders.registry import register_encoder
from embedspace.encoders.shipped.audio_features import AudioFrontEnd, AudioInput
from embedspace.errors import ConfigError

__all__ = ["AudioConfig", "AudioEncoder", "AudioProjections", "load_audio_projections"]

MAX_SECONDS = 30.0
"""What Whisper's encoder takes at once."""


@dataclass(frozen=True)
class AudioConfig:
    """What determines the audio encoder besides its weights.

    Attributes:
        backbones: The tagger and the speech network.
        feature_dim: Width of the front end's features.
        embed_dim: Width of the shared space.
        hidden_dim: Hidden width of each trained projection.
        members: Trained projections of the ensemble; may be 0 where there is a kernel regression.
        classes: Number of classes of the tagger; rows of the class table.
        temperature: Divides the class scores before their softmax.
        window_seconds: Length of a segment; the hop is the same.
        memory_items: Sounds that the kernel regression keeps; 0 for none. Its keys and tensors in files begin with
            "memory", what it was called before.
        memory_dim: Principal directions that it compares sounds in.
        memory_bandwidth: Bandwidth of its kernel.
        memory_prior: Weight of the classes' words beside what it reads out.
        memory_share: Weight of the kernel regression beside one trained projection.
    """

    backbones: tuple[str, str]
    feature_dim: int
    embed_dim: int
    hidden_dim: int
    members: int
    classes: int
    temperature: float = 1.0
    window_seconds: float = 6.0
    memory_items: int = 0
    memory_dim: int = 0
    memory_bandwidth: float = 2.0
    memory_prior: float = 0.0
    memory_share: float = 1.0

    def __post_init__(self) -> None:
        """Refuse windows that the networks would cut."""
        if not 0.1 <= self.window_seconds <= MAX_SECONDS:
            raise ConfigError(f"window_seconds {self.window_seconds}: a window of sound lasts 0.1 to {MAX_SECONDS:g} s")


class AudioProjections(NamedProjections):
    """Features and class scores -> (B, embed_dim) unit rows, and the router that says whether somebody speaks.

    `classes` holds the vectors of the tagger's class names in the space.
    """

    def __init__(self, config: AudioConfig) -> None:
        super().__init__(config.classes, config.feature_dim, config.embed_dim, config.hidden_dim, config.members)
        self.config = config
        self.memory: KernelProjection | None = None
        if config.memory_items:
            self.memory = KernelProjection(
                config.feature_dim,
                config.embed_dim,
                config.memory_dim,
                config.memory_items,
                bandwidth=config.memory_bandwidth,
                prior_share=config.memory_prior,
            )
        self.router = nn.Linear(config.feature_dim, 1)

    def prior(self, logits: Tensor) -> Tensor:
        """Mix the class names' vectors by the classes' shares (ConSE, Norouzi et al. 2014), (B, embed_dim)."""
        shares = (logits / self.config.temperature).softmax(dim=1)
        return nn.functional.normalize(shares @ self.classes, dim=-1)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """Return (B, embed_dim) unit rows."""
        prior = self.prior(logits)
        return self.mix([member(features, prior) for member in self.members], self.recall(features, prior))

    def recall(self, features: Tensor, prior: Tensor) -> Tensor | None:
        """Return the kernel regression's (B, embed_dim) unit rows; None where there is none."""
        return None if self.memory is None else self.memory(features, prior)

    def mix(self, trained: list[Tensor], recalled: Tensor | None) -> Tensor:
        """Return the (B, embed_dim) unit-norm mean of all unit rows, those of the kernel regression by its share."""
        if recalled is None:
            return ensemble_normalize(trained)
        return nn.functional.normalize(sum(trained, self.config.memory_share * recalled), dim=-1)

    @property
    def standard(self) -> tuple[Tensor, Tensor]:
        """Mean and inverse deviation of the features, (feature_dim,) each, by which the router reads them."""
        first = self.members[0] if len(self.members) else self.memory
        assert isinstance(first, MLPProjection | KernelProjection)
        return first.mean, first.scale

    def speech_probability(self, features: Tensor) -> Tensor:
        """Return the probability that somebody speaks, (B,)."""
        mean, scale = self.standard
        logits: Tensor = self.router((features - mean) * scale)
        return logits[:, 0].sigmoid()


class AudioEncoder(Encoder):
    """Front end, projections and router."""

    together = 2

    def __init__(self, config: AudioConfig, projections: AudioProjections) -> None:
        super().__init__()
        self.config = config
        self.embed_dim = config.embed_dim
        self.window_seconds = config.window_seconds
        self.front = AudioFrontEnd(*config.backbones)
        self.sample_rate = self.front.sample_rate
        self.projections = projections

    def prepare(self, media: NDArray[np.float32]) -> AudioInput:
        """Turn a window (T,) of 16 kHz samples in [-1, 1] into both networks' log-mel frames."""
        return self.front.preprocess(media)

    def encode(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows."""
        return self.encode_and_route(prepared)[0]

    @torch.inference_mode()
    def encode_and_route(self, prepared: Sequence[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (N, embed_dim) unit rows, and the probability of speech in each window, (N,)."""
        features, logits = self.front(prepared)
        return to_rows(self.projections(features, logits)), to_rows(self.projections.speech_probability(features))


def load_audio_projections(config: dict[str, Any], folder: Path) -> AudioProjections:
    """Make a space's projections of sounds, frozen.

    Args:
        config: The audio section of its configuration.
        folder: The space's folder.
    """
    parsed, path = AudioConfig(**{**config, "backbones": tuple(config["backbones"])}), folder / "audio.safetensors"
    return load_module(lambda: AudioProjections(parsed), path)


@register_encoder("shipped.audio")
def _create(config: dict[str, Any], folder: Path, modality: str) -> AudioEncoder:
    projections = load_audio_projections(config, folder)
    return AudioEncoder(projections.config, projections)
