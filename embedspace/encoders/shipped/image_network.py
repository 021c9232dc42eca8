"""Networks tuned straight into the shared space, beside the projections of frozen features.

Projections build on what ImageNet taught; networks tuned on the drawings themselves err elsewhere, and each its own
way, so that the mean of all vectors is better than any.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from embedspace.encoders.base import load_strict
from embedspace.encoders.projections import ensemble_normalize
from embedspace.encoders.towers import create_backbone
from embedspace.encoders.towers.efficientnet_lite import EfficientNetBody, EfficientNetLite, to_pixel_values

__all__ = ["NETWORK_FILE", "TunedNetwork", "TunedNetworks", "load_network", "load_networks"]

NETWORK_FILE = "image_network.safetensors"
"""Their file in a space's folder; that of one in the folder of the run that tuned it."""

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
        return self.placed(nn.functional.dropout(self.body(pixel_values), dropout, self.training))

    def placed(self, pooled: Tensor) -> Tensor:
        """Map (B, feature_dim) pooled features to (B, embed_dim) unit rows."""
        return nn.functional.normalize(self.project(pooled), dim=-1)

    @torch.inference_mode()
    def encode(self, pixel_values: Tensor) -> Tensor:
        """Map (N, 3, H, W) pixel values to (N, embed_dim) unit rows as `forward` does, a few pictures at once."""
        return torch.cat([self(chunk) for chunk in torch.split(pixel_values, _CHUNK)])


class TunedNetworks(nn.Module):
    """Some tuned networks that read pictures of one size: their mean.

    Args:
        members: At least one.
    """

    def __init__(self, members: Iterable[TunedNetwork]) -> None:
        super().__init__()
        found = list(members)
        self.members = nn.ModuleList(found)
        self.image_size = found[0].image_size

    def preprocess(self, rgb: NDArray[np.uint8] | Image.Image) -> Tensor:
        """Return what every member reads, (3, side, side) as `TunedNetwork.preprocess`."""
        return to_pixel_values(rgb, self.image_size)

    @property
    def _networks(self) -> list[TunedNetwork]:
        return [member for member in self.members if isinstance(member, TunedNetwork)]

    @torch.inference_mode()
    def encode(self, pixel_values: Tensor, bodies: Sequence[Callable[[Tensor], Tensor]] | None = None) -> Tensor:
        """Return the (B, embed_dim) unit-norm mean of the members' unit rows.

        Args:
            pixel_values: (B, 3, side, side) as `preprocess` makes them.
            bodies: What runs in place of each member's body, computing the same.
        """
        if bodies is None:
            return ensemble_normalize([member.encode(pixel_values) for member in self._networks])
        pairs = zip(self._networks, bodies, strict=True)
        return ensemble_normalize([member.placed(body(pixel_values)) for member, body in pairs])


def _shaped(backbone: str, embed_dim: int, image_size: int) -> TunedNetwork:
    shape = create_backbone(backbone)
    assert isinstance(shape, EfficientNetLite)
    return copy.deepcopy(TunedNetwork(shape, embed_dim, image_size)).to("meta")


def load_network(backbone: str, embed_dim: int, image_size: int, folder: Path) -> TunedNetwork:
    """Make a tuned network of a backbone's shape with the weights of a run.

    Raises:
        WeightsError: If the file is missing, corrupt or of another shape.
    """
    network = _shaped(backbone, embed_dim, image_size)
    load_strict(network, folder / NETWORK_FILE)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def load_networks(backbones: Sequence[str], embed_dim: int, image_size: int, folder: Path) -> TunedNetworks:
    """Make the tuned networks of a space; arguments and errors as `load_network`."""
    networks = TunedNetworks(_shaped(backbone, embed_dim, image_size) for backbone in backbones)
    load_strict(networks, folder / NETWORK_FILE)
    return networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
