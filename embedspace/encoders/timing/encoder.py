"""When something strikes: the encoders of what is seen ("motion") and of what is heard ("onset"), one network each.

Their rows are as wide as the space's, zeros behind the network's own numbers; those of the one are compared with those
of the other alone (`ModalitySpec.apart`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedspace.encoders.base import Encoder
from embedspace.encoders.registry import register_encoder
from embedspace.encoders.timing.network import TimingNetwork
from embedspace.encoders.timing.profiles import SAMPLE_RATE, SECONDS, bands_of, profiles_of
from embedspace.encoders.towers import create_backbone
from embedspace.errors import ConfigError
from embedspace.modality import Modality

__all__ = ["TimingConfig", "TimingEncoder"]

_BATCH = 32


@dataclass(frozen=True)
class TimingConfig:
    """Which networks write the timing of windows.

    Attributes:
        embed_dim: Width of the space; the network's rows fit into it.
        backbone: The networks.
    """

    embed_dim: int
    backbone: str = "timing"


class TimingEncoder(Encoder):
    """Windows of four seconds in, one row each out."""

    sample_rate, window_seconds = SAMPLE_RATE, SECONDS

    def __init__(self, config: TimingConfig, modality: str) -> None:
        """Load the networks.

        Args:
            config: Which.
            modality: "motion": `prepare` takes (TICKS + 1, 72, 96) grey levels; "onset": a (T,) waveform at 16 kHz.

        Raises:
            ConfigError: If the network's rows are wider than the space, or it is another's.
            WeightsError: If its weights are missing or damaged.
        """
        super().__init__()
        network = create_backbone(config.backbone)
        if not isinstance(network, TimingNetwork):
            raise ConfigError(f"backbone {config.backbone!r} writes no timing; take 'timing'")
        if config.embed_dim < network.feature_dim:
            raise ConfigError(
                f"embed_dim {config.embed_dim}: timing has {network.feature_dim} numbers, more than a row of the space"
            )
        self.config, self.network, self.embed_dim = config, network, config.embed_dim
        self.sees = modality == Modality.MOTION

    def prepare(self, media: Any) -> tuple[torch.Tensor, ...]:  # noqa: ANN401
        """Return what the network reads of a window: its profiles, or its bands."""
        found = profiles_of(media) if self.sees else (bands_of(np.asarray(media, np.float32)),)
        return tuple(torch.from_numpy(part) for part in found)

    def encode(self, prepared: Sequence[tuple[torch.Tensor, ...]]) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows."""
        device = next(self.network.parameters()).device
        run = self.network.see if self.sees else self.network.hear
        rows = np.zeros((len(prepared), self.embed_dim), np.float32)
        with torch.inference_mode():
            for first in range(0, len(prepared), _BATCH):
                part = prepared[first : first + _BATCH]
                found = run(*(torch.stack(list(own)).to(device) for own in zip(*part, strict=True)))
                rows[first : first + len(part), : found.shape[1]] = found.cpu().numpy()
        return rows


@register_encoder("timing")
def _create(config: dict[str, Any], folder: Path, modality: str) -> TimingEncoder:
    del folder
    return TimingEncoder(TimingConfig(**config), modality)
