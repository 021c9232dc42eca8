"""Adapter: any text model of sentence-transformers, "sentence-transformers:<model or folder>".

Source: https://sbert.net
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from embedspace.encoders.towers.backbone import Backbone, register_backbone
from embedspace.errors import ConfigError, MissingExtraError, WeightsError

__all__ = ["SentenceTransformers"]


class SentenceTransformers(Backbone):
    """One sentence-transformers model."""

    modality = "text"

    def __init__(self, name: str, model: Any) -> None:  # noqa: ANN401 (the library is optional)
        """Wrap a `SentenceTransformer`."""
        super().__init__(name, int(model.encode(["a"], show_progress_bar=False).shape[1]))
        self.model = model
        self.freeze()

    def preprocess(self, text: str) -> str:
        """Return the text: the library tokenizes whole batches, with the model's own limits, in `forward`."""
        return text

    def forward(self, texts: Sequence[str]) -> torch.Tensor:
        """Return (B, feature_dim) vectors, unit norm. A text longer than the model's limit is cut."""
        vectors: torch.Tensor = self.model.encode(
            list(texts), convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False
        )
        return vectors


@register_backbone("sentence-transformers:")
def _create(name: str, weights: Path | None) -> SentenceTransformers:
    model_name = str(weights or name.removeprefix("sentence-transformers:"))
    if not model_name:
        raise ConfigError(
            f"backbone {name!r}: write sentence-transformers:<model>, such as sentence-transformers:all-mpnet-base-v2"
        )
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtraError(
            f"backbone {name!r} needs sentence-transformers ({error}): pip install embedspace[sentence-transformers]"
        ) from error
    try:
        model = SentenceTransformer(model_name, device="cpu")
    except Exception as error:  # the library raises many kinds: of the network, the hub, torch
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"backbone {name!r}: sentence-transformers could not load {model_name}: {reason}") from error
    return SentenceTransformers(name, model)
