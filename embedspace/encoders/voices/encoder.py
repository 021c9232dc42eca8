"""Who speaks: a frozen network that tells voices apart, in a space of its own within the width of the shared one.

Its rows are as wide as the space's, zeros behind the network's own numbers, so that cosines are the network's and
whatever stores and searches vectors needs to know nothing of it. They are compared with one another alone
(`ModalitySpec.apart`).
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
from embedspace.encoders.contract import Turn
from embedspace.encoders.registry import register_encoder
from embedspace.encoders.towers import create_backbone
from embedspace.encoders.towers.resemblyzer import HOP_LENGTH, PARTIAL_FRAMES, SAMPLE_RATE, Resemblyzer, partial_starts
from embedspace.encoders.voices.turns import join_turns
from embedspace.errors import ConfigError
from embedspace.segment import Segment

__all__ = ["VoiceConfig", "VoiceEncoder", "VoiceInput"]

_SILENT = 10.0 ** (-40.0 / 20.0)
"""A partial utterance whose level is below this share of the loudest one's says nothing of who speaks."""
_BATCH = 64
_LEVEL = 10.0 ** (-30.0 / 20.0)
"""Root mean square that every stretch is brought to. The published code makes loud ones no quieter: the same person
then has another vector where they were recorded louder."""


@dataclass(frozen=True, slots=True, eq=False)
class VoiceInput:
    """A stretch of speech, prepared.

    Attributes:
        partials: (P, 160, 40) float32, those in which something is heard; at least one.
        spans: (P, 2) seconds: what each stands for, from the middle between it and the one before to that after it.
    """

    partials: torch.Tensor
    spans: NDArray[np.float64]

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""
        return self.partials.nbytes


@dataclass(frozen=True)
class VoiceConfig:
    """How voices are told apart.

    Attributes:
        embed_dim: Width of the space; the network's rows fit into it.
        backbone: The network.
        window_seconds: Longest stretch that is prepared at once.
        likeness: Mean cosine from which two groups of partial utterances are one speaker.
        shortest: A speaker who says less than so many seconds of a recording is taken for another.
    """

    embed_dim: int
    backbone: str = "resemblyzer"
    window_seconds: float = 12.0
    likeness: float = 0.6
    shortest: float = 1.2

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for name, value, low, high in (
            ("window_seconds", self.window_seconds, 1.6, 60.0),
            ("likeness", self.likeness, 0.0, 1.0),
            ("shortest", self.shortest, 0.0, 60.0),
        ):
            if not low <= value <= high:
                raise ConfigError(f"{name} {value}: must be {low:g} to {high:g}")


class VoiceEncoder(Encoder):
    """Speech in, one row per turn out."""

    sample_rate = SAMPLE_RATE

    def __init__(self, config: VoiceConfig) -> None:
        """Load the network.

        Raises:
            ConfigError: If its rows are wider than the space.
            WeightsError: If its weights are missing or damaged.
        """
        super().__init__()
        network = create_backbone(config.backbone)
        if not isinstance(network, Resemblyzer):
            raise ConfigError(f"backbone {config.backbone!r} tells no voices apart; take 'resemblyzer'")
        if config.embed_dim < network.feature_dim:
            raise ConfigError(
                f"embed_dim {config.embed_dim}: a voice has {network.feature_dim} numbers, more than a row of the space"
            )
        self.config, self.network = config, network
        self.embed_dim, self.window_seconds = config.embed_dim, config.window_seconds

    def prepare(self, media: Any) -> VoiceInput:  # noqa: ANN401
        """Cut a stretch of speech, (T,) at 16 kHz in [-1, 1], into partial utterances."""
        waveform = np.asarray(media, np.float32)
        level = float(np.sqrt(np.mean(np.square(waveform), dtype=np.float64))) if len(waveform) else 0.0
        waveform = waveform * np.float32(_LEVEL / max(level, 1e-9))
        partials = self.network.preprocess(waveform)
        starts = np.array(partial_starts(len(waveform)))
        heard = _heard(waveform, starts)
        seconds = len(waveform) / SAMPLE_RATE
        middles = (starts + PARTIAL_FRAMES / 2) * HOP_LENGTH / SAMPLE_RATE
        edges = np.array([0.0, *(middles[1:] + middles[:-1]) / 2, seconds])
        return VoiceInput(partials[torch.from_numpy(heard)], np.stack([edges[:-1], edges[1:]], axis=1)[heard])

    def encode(self, prepared: Sequence[VoiceInput]) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows: of each stretch the mean."""
        means = np.stack([rows.mean(axis=0) for rows in self._rows(prepared)])
        unit: NDArray[np.float32] = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
        return unit

    def encode_turns(self, prepared: Sequence[VoiceInput]) -> list[list[Turn]]:
        """Return for each stretch its partial utterances, each with its seconds."""
        return [
            [Turn(float(start), float(end), row) for (start, end), row in zip(one.spans, rows, strict=True)]
            for one, rows in zip(prepared, self._rows(prepared), strict=True)
        ]

    def join_turns(self, segments: Sequence[Segment]) -> list[Segment]:
        """Return the turns of an item's speakers, made of its partial utterances."""
        return join_turns(segments, self.config.likeness, self.config.shortest)

    def _rows(self, prepared: Sequence[VoiceInput]) -> list[NDArray[np.float32]]:
        """Return each stretch's (P, embed_dim) rows."""
        device = next(self.network.parameters()).device
        partials = torch.cat([one.partials for one in prepared])
        with torch.inference_mode():
            found = torch.cat([self.network(part.to(device)).cpu() for part in torch.split(partials, _BATCH)]).numpy()
        rows = np.zeros((len(found), self.embed_dim), np.float32)
        rows[:, : found.shape[1]] = found
        ends = np.cumsum([len(one.partials) for one in prepared]).tolist()
        return [rows[last - len(one.partials) : last] for last, one in zip(ends, prepared, strict=True)]


def _heard(waveform: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return in which partial utterances something is to be heard; at least in the loudest."""
    powers = np.array(
        [
            np.mean(np.square(waveform[first * HOP_LENGTH : (first + PARTIAL_FRAMES) * HOP_LENGTH]), dtype=np.float64)
            for first in starts
        ]
    )
    heard: NDArray[np.bool_] = powers >= powers.max() * _SILENT**2
    return heard


@register_encoder("voice")
def _create(config: dict[str, Any], folder: Path, modality: str) -> VoiceEncoder:
    del folder, modality
    return VoiceEncoder(VoiceConfig(**config))
