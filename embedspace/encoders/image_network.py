"""A network tuned straight into the shared space, beside the heads on frozen features.

Heads build on what ImageNet taught; a network tuned on the drawings themselves errs elsewhere, so that the mean of both
vectors is better than either.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from embedspace.encoders.backbones import create_backbone
from embedspace.encoders.backbones.efficientnet_lite import EfficientNetBody, EfficientNetLite, to_pixel_values
from embedspace.encoders.base import load_strict

__all__ = ["NETWORK_FILE", "TunedNetwork", "load_network"]

NETWORK_FILE = "image_network.safetensors"
"""Its file in a space's folder."""

_CHUNK = 4  # as for the frozen ones: what outgrows the cache is slower


class TunedNetwork(nn.Module):
    """An EfficientNet-Lite but for its classifier, and a linear map of the pooled features into the shared space.

    Args:
        network: Its layers are taken as they are.
        embed_dim: Width of the shared space.
        image_size: Side of the square that a picture is fitted into.
    """

    def __init__(self, network: EfficientNetLite, embed_dim: int, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.body = EfficientNetBody(network)
        self.project = nn.Linear(network.feature_dim, embed_dim)

    def preprocess(self, rgb: NDArray[np.uint8] | Image.Image) -> Tensor:
        """Fit (H, W, 3) pixels or an RGB image into a white square: (3, side, side) float32, about [-1, 1]."""
        return to_pixel_values(rgb, self.image_size)

    def forward(self, pixel_values: Tensor, dropout: float = 0.0) -> Tensor:
        """Map (B, 3, H, W) as `preprocess` makes them to (B, embed_dim) unit rows.

        Args:
            pixel_values: A batch; other sizes work.
            dropout: On the pooled features, in training.
        """
        pooled = nn.functional.dropout(self.body(pixel_values), dropout, self.training)
        return nn.functional.normalize(self.project(pooled), dim=-1)

    @torch.inference_mode()
    def encode(self, pixel_values: Tensor) -> Tensor:
        """Return `forward` of any number of pictures, a few at once."""
        return torch.cat([self(chunk) for chunk in torch.split(pixel_values, _CHUNK)])


def load_network(backbone: str, embed_dim: int, image_size: int, folder: Path) -> TunedNetwork:
    """Make a tuned network of a backbone's shape with the weights in a folder.

    Raises:
        WeightsError: If the file is missing, corrupt or of another shape.
    """
    shape = create_backbone(backbone)
    assert isinstance(shape, EfficientNetLite)
    network = copy.deepcopy(TunedNetwork(shape, embed_dim, image_size)).to("meta")
    load_strict(network, folder / NETWORK_FILE)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
