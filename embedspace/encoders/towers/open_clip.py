"""Adapter: any model of open_clip as an image backbone that also encodes text, "open_clip:<model>/<pretrained>".

Source: https://github.com/mlfoundations/open_clip
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from embedspace.encoders.towers.backbone import Backbone, register_backbone
from embedspace.errors import ConfigError, MissingExtraError, WeightsError

__all__ = ["OpenClip"]


class OpenClip(Backbone):
    """One CLIP model; `forward` is its image tower."""

    modality = "image"

    def __init__(self, name: str, model: Any, transform: Any, tokenizer: Any) -> None:  # noqa: ANN401 (the library is optional)
        """Wrap what `open_clip.create_model_and_transforms` and `open_clip.get_tokenizer` return."""
        with torch.inference_mode():
            width = int(model.encode_text(tokenizer(["a"])).shape[1])
        super().__init__(name, width)
        self.model = model
        self._transform = transform
        self._tokenizer = tokenizer
        self.freeze()

    def preprocess(self, rgb: NDArray[np.uint8]) -> torch.Tensor:
        """Apply the model's own resizing, cropping and normalisation: (H, W, 3) -> (3, H, W) float32."""
        pixel_values: torch.Tensor = self._transform(Image.fromarray(rgb))
        return pixel_values

    def preprocess_text(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the model's own (B, context_length) token ids; longer texts are cut."""
        input_ids: torch.Tensor = self._tokenizer(list(texts))
        return input_ids

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return (B, feature_dim) image vectors, unit norm, from (B, 3, H, W)."""
        vectors: torch.Tensor = self.model.encode_image(pixel_values, normalize=True)
        return vectors

    def encode_text(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return (B, feature_dim) text vectors, unit norm, in the same space as the images'."""
        vectors: torch.Tensor = self.model.encode_text(input_ids, normalize=True)
        return vectors


@register_backbone("open_clip:")
def _create(name: str, weights: Path | None) -> OpenClip:
    model_name, _, tag = name.removeprefix("open_clip:").partition("/")
    if not model_name or not (tag or weights):
        raise ConfigError(
            f"backbone {name!r}: write open_clip:<model>/<pretrained>, such as open_clip:ViT-B-32/laion2b_s34b_b79k"
        )
    try:
        import open_clip
    except ImportError as error:
        raise MissingExtraError(
            f"backbone {name!r} needs open_clip ({error}): pip install embedspace[open-clip]"
        ) from error
    tags = open_clip.list_pretrained_tags_by_model(model_name)
    if model_name not in open_clip.list_models():
        raise ConfigError(f"backbone {name!r}: open_clip has no model {model_name!r}; see open_clip.list_models()")
    if weights is None and tag not in tags:
        raise ConfigError(f"backbone {name!r}: {model_name} has no weights {tag!r}; known: {', '.join(tags) or 'none'}")
    if weights is not None and not weights.is_file():
        raise WeightsError(f"{weights}: no weights for backbone {name!r} there")
    try:
        model, _, transform = open_clip.create_model_and_transforms(
            model_name, pretrained=str(weights or tag), precision="fp32", device="cpu"
        )
        tokenizer = open_clip.get_tokenizer(model_name)
    except Exception as error:  # the library raises many kinds: of the network, the hub, torch
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"backbone {name!r}: open_clip could not load {weights or tag}: {reason}") from error
    return OpenClip(name, model, transform, tokenizer)
