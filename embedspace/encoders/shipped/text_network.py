"""The text encoder as a network of torch: for many texts at once, and on other devices than the processor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedspace.encoders.base import Encoder, load_module, to_rows
from embedspace.encoders.projections import LinearProjection
from embedspace.encoders.towers import create_backbone

__all__ = ["TextNetwork", "load_text_network", "load_text_projection"]


def load_text_projection(config: dict[str, Any], folder: Path) -> LinearProjection:
    """Make the space's text projection; audio, image and speech start from it, too.

    Args:
        config: `feature_dim`, `embed_dim`, `hidden_dim`.
        folder: The space's folder.
    """
    sizes, path = (config["feature_dim"], config["embed_dim"], config["hidden_dim"]), folder / "text.safetensors"
    return load_module(lambda: LinearProjection(*sizes), path)


class TextNetwork(Encoder):
    """A text backbone, such as MiniLM-L6, and the text projection."""

    def __init__(self, projection: LinearProjection, backbone: str, embed_dim: int) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.backbone = create_backbone(backbone)
        self.projection = projection

    def prepare(self, media: str) -> Any:  # noqa: ANN401
        """Split a text into word pieces."""
        return self.backbone.preprocess(media)  # type: ignore[operator]

    def unknown(self, text: str) -> list[str]:
        """Return the parts of a text that the backbone's vocabulary lacks; none where it cannot say."""
        lacking = getattr(self.backbone, "unknown", None)
        return list(lacking(text)) if callable(lacking) else []

    def words_of(self, text: str) -> list[list[str]]:
        """Return the pieces that the backbone splits each word into; nothing where it cannot say."""
        split = getattr(self.backbone, "words_of", None)
        return [] if split is None else split(text)

    @torch.inference_mode()
    def encode(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows.

        Args:
            prepared: What `prepare` returned, one entry per text, as tensors or as arrays.
        """
        windows = [[torch.as_tensor(window) for window in text] for text in prepared]
        return to_rows(self.projection(self.backbone(windows).normalized))


def load_text_network(config: dict[str, Any], folder: Path) -> TextNetwork:
    """Make the text encoder of a section of the space's configuration."""
    return TextNetwork(load_text_projection(config["head"], folder), config["backbone"], config["head"]["embed_dim"])
