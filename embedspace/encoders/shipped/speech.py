"""What is said -> the shared space, by two ways that meet there.

Whisper's encoder listens once. Its decoder says what it may have heard, in English, and MiniLM embeds that; a trained
projection pools the same frames straight into MiniLM's space. The first knows every word of English, the second how
the captions of a collection sound, in languages that Whisper translates badly. Both pass the text projection; their
mean is the vector.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from embedspace.encoders.base import Encoder, load_module, to_rows
from embedspace.encoders.projections import AttentionPoolProjection, LinearProjection, ensemble_normalize, fuse
from embedspace.encoders.registry import register_encoder
from embedspace.encoders.shipped.speech_features import Heard, SpeechFrontEnd, SpeechInput
from embedspace.encoders.shipped.text_network import load_text_projection
from embedspace.encoders.towers import create_backbone
from embedspace.encoders.towers.minilm import MiniLM
from embedspace.encoders.towers.whisper_decoder import Hypothesis, WhisperDecoder
from embedspace.errors import ConfigError

__all__ = ["Recogniser", "SpeechConfig", "SpeechEncoder", "SpeechProjections", "load_speech_projections", "tidy"]


@dataclass(frozen=True)
class SpeechConfig:
    """What determines the speech encoder besides its weights.

    Attributes:
        backbone: Name of the speech backbone.
        feature_dim: Its width.
        text_dim: Width of the text backbone, which the pooling projection predicts.
        hidden_dim: Width of the pooling transformer.
        num_layers: Its layers.
        members: Projections of the ensemble.
        window_seconds: Length of a segment; the hop is the same.
        decoder: Name of the recogniser's decoder; none if empty.
        text_backbone: Name of the text backbone that reads what was recognised.
        recognised_share: Weight of the recognised text's vector in the sum, 0 to 1; the projection's has the rest.
    """

    backbone: str
    feature_dim: int
    text_dim: int
    hidden_dim: int
    num_layers: int
    members: int
    window_seconds: float = 12.0
    decoder: str = ""
    text_backbone: str = "minilm_l6"
    recognised_share: float = 0.0

    def __post_init__(self) -> None:
        """Refuse windows that the network would cut."""
        longest = SpeechFrontEnd.max_seconds
        if not 0.1 <= self.window_seconds <= longest:
            raise ConfigError(f"window_seconds {self.window_seconds}: a window of speech lasts 0.1 to {longest:g} s")


class SpeechProjections(nn.Module):
    """Sequences -> (B, text_dim) unit rows in the text backbone's space."""

    def __init__(self, config: SpeechConfig) -> None:
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(
            AttentionPoolProjection(config.feature_dim, config.text_dim, config.hidden_dim, config.num_layers)
            for _ in range(config.members)
        )

    def forward(self, sequence: Tensor, padding: Tensor | None = None) -> Tensor:
        """Return the members' mean, (B, text_dim) unit rows."""
        return ensemble_normalize([member(sequence, padding) for member in self.members])


def load_speech_projections(config: Mapping[str, Any], folder: Path) -> SpeechProjections:
    """Make a space's pooling projections, frozen.

    Args:
        config: The speech section of its configuration.
        folder: The space's folder.

    Raises:
        WeightsError: If the file is missing, corrupt or of another shape.
    """
    parsed = SpeechConfig(**{key: value for key, value in config.items() if key != "text_head"})
    path = folder / "speech.safetensors"
    return load_module(lambda: SpeechProjections(parsed), path)


_MARKS = re.compile(r"[^\w\s'-]")


def tidy(text: str) -> str:
    """Return a recognised text in lower case without punctuation and without words or phrases said again at once."""
    out: list[str] = []
    for word in _MARKS.sub(" ", text.lower()).split():
        out.append(word)
        for size in range(1, len(out) // 2 + 1):
            if out[-size:] == out[-2 * size : -size]:
                del out[-size:]
                break
    return " ".join(out)


class Recogniser(nn.Module):
    """Whisper's frames -> the expected text vector: the mean over what may have been said.

    As ConSE (Norouzi et al. 2014) does with class names: a clip that may be "a fox" or "a box" lies between the two.
    """

    def __init__(self, decoder: str, text_backbone: str) -> None:
        super().__init__()
        self.decoder = cast(WhisperDecoder, create_backbone(decoder))
        self.text = cast(MiniLM, create_backbone(text_backbone))

    @torch.inference_mode()
    def forward(self, heard: Heard, seconds: float) -> tuple[Tensor | None, str]:
        """Return the (text_dim,) unit vector, None if nothing was recognised, and the likeliest text, tidied."""
        weights = _merged(self.decoder(heard.frames, seconds))
        if not weights:
            return None, ""
        rows = self.text([self.text.preprocess(text) for text in weights]).normalized
        shares = torch.tensor(list(weights.values()), device=rows.device)
        return F.normalize(shares @ rows, dim=0), next(iter(weights))


def _merged(hypotheses: Sequence[Hypothesis]) -> dict[str, float]:
    """Return text -> share, the likeliest first; texts that differ in case, marks or repetitions are one."""
    if not hypotheses:
        return {}
    top = max(h.score for h in hypotheses)
    shares: dict[str, float] = {}
    for text, _, score in hypotheses:
        if key := tidy(text):
            shares[key] = shares.get(key, 0.0) + float(np.exp(score - top))
    total = sum(shares.values())
    return {key: share / total for key, share in sorted(shares.items(), key=lambda pair: -pair[1])}


class SpeechEncoder(Encoder):
    """Front end, pooling projections, recogniser and the space's text projection."""

    together = 1

    def __init__(
        self, config: SpeechConfig, projections: SpeechProjections, text_projection: LinearProjection, embed_dim: int
    ) -> None:
        super().__init__()
        self.config = config
        self.embed_dim = embed_dim
        self.window_seconds = config.window_seconds
        self.front = SpeechFrontEnd(config.backbone)
        self.sample_rate = self.front.sample_rate
        self.projections = projections
        self.text_projection = text_projection
        self.recogniser = Recogniser(config.decoder, config.text_backbone) if config.decoder else None

    def prepare(self, media: NDArray[np.float32]) -> SpeechInput:
        """Turn a window of 16 kHz samples into log-mel frames."""
        return self.front.preprocess(media)

    def encode(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows."""
        return self.encode_and_transcribe(prepared)[0]

    @torch.inference_mode()
    def encode_and_transcribe(self, prepared: Sequence[SpeechInput]) -> tuple[NDArray[np.float32], list[str]]:
        """Return (N, embed_dim) unit rows and what each window says, in English; "" where nothing is recognised.

        One window at a time, so that nothing depends on padding.
        """
        rows, texts = [], []
        for window in prepared:
            (heard,) = self.front([window])
            row = self.text_projection(self.projections(heard.sequence[None]))
            vector, text = self.recogniser(heard, window.seconds) if self.recogniser else (None, "")
            if vector is not None:
                row = fuse(row, self.text_projection(vector[None]), self.config.recognised_share)
            rows.append(row)
            texts.append(text)
        return to_rows(torch.cat(rows)), texts


@register_encoder("shipped.speech")
def _create(config: dict[str, Any], folder: Path, modality: str) -> SpeechEncoder:
    projections, text = load_speech_projections(config, folder), config["text_head"]
    return SpeechEncoder(projections.config, projections, load_text_projection(text, folder), text["embed_dim"])
