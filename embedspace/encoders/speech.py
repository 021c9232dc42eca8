"""What is said -> the shared space: Whisper's encoder, pooling into the text backbone's space, the text head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedspace.encoders.base import Encoder, load_strict, register_encoder, to_rows
from embedspace.encoders.heads import AttentionPoolHead, TextHead, ensemble_normalize
from embedspace.encoders.speech_features import SpeechFrontEnd
from embedspace.encoders.text import load_text_head
from embedspace.modality import Modality

__all__ = ["SpeechConfig", "SpeechEncoder", "SpeechHeads"]


@dataclass(frozen=True)
class SpeechConfig:
    """What determines the speech encoder besides its weights.

    Attributes:
        backbone: Name of the speech backbone.
        feature_dim: Its width.
        text_dim: Width of the text backbone, which the pooling head predicts.
        hidden_dim: Width of the pooling transformer.
        num_layers: Its layers.
        members: Heads of the ensemble.
        window_seconds: Length of a segment; the hop is the same.
    """

    backbone: str
    feature_dim: int
    text_dim: int
    hidden_dim: int
    num_layers: int
    members: int
    window_seconds: float = 12.0


class SpeechHeads(nn.Module):
    """Sequences -> (B, text_dim) unit rows in the text backbone's space."""

    def __init__(self, config: SpeechConfig) -> None:
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(
            AttentionPoolHead(config.feature_dim, config.text_dim, config.hidden_dim, config.num_layers)
            for _ in range(config.members)
        )

    def forward(self, sequence: Tensor, padding: Tensor | None = None) -> Tensor:
        """Return the members' mean, (B, text_dim) unit rows."""
        return ensemble_normalize([member(sequence, padding) for member in self.members])


class SpeechEncoder(Encoder):
    """Front end, pooling heads and the space's text head."""

    def __init__(self, config: SpeechConfig, heads: SpeechHeads, text_head: TextHead, embed_dim: int) -> None:
        super().__init__()
        self.config = config
        self.embed_dim = embed_dim
        self.front = SpeechFrontEnd(config.backbone)
        self.heads = heads
        self.text_head = text_head

    def prepare(self, media: NDArray[np.float32]) -> Tensor:
        """Turn a window of 16 kHz samples into log-mel frames."""
        return self.front.preprocess(media)

    @torch.inference_mode()
    def encode(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows; one window at a time, so that nothing depends on padding."""
        rows = [self.text_head(self.heads(self.front([x])[0][None])) for x in prepared]
        return to_rows(torch.cat(rows))


@register_encoder(Modality.SPEECH)
def _create(config: dict[str, Any], folder: Path) -> SpeechEncoder:
    config = dict(config)
    text = config.pop("text_head")
    parsed = SpeechConfig(**config)
    heads = SpeechHeads(parsed)
    load_strict(heads, folder / "speech.safetensors")
    return SpeechEncoder(parsed, heads, load_text_head(text, folder), text["embed_dim"])
