"""The fixed image front end: one picture -> the feature vector that the projections read.

`[lite0 pooled | lite0 middle | lite2 pooled | lite2 middle | colour | lite0's tuned tail]`, and beside it the ImageNet
class scores for ConSE (Norouzi et al. 2014).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from embedspace.encoders.base import load_strict
from embedspace.encoders.towers import create_backbone
from embedspace.encoders.towers.efficientnet_lite import EfficientNetLite, EfficientNetTail, ImageFeatures
from embedspace.media.pixels import cropped

__all__ = ["ImageFrontEnd", "colour_statistics", "crop_to_content"]

_CHUNK = 4  # larger batches of these depthwise convolutions are slower on a CPU
_GRID = 3


def crop_to_content(image: Image.Image) -> NDArray[np.uint8]:
    """Return `cropped` as (H, W, 3) uint8."""
    return np.asarray(cropped(image))


def colour_statistics(pixel_values: Tensor) -> Tensor:
    """Return mean and deviation of each colour in a 3 x 3 grid, (B, 54), from (B, 3, H, W) normalised pixels."""
    side = pixel_values.shape[-1] // _GRID * _GRID
    x = pixel_values[..., :side, :side]
    mean = nn.functional.adaptive_avg_pool2d(x, _GRID)
    square = nn.functional.adaptive_avg_pool2d(x * x, _GRID)
    return torch.cat([mean.flatten(1), (square - mean * mean).clamp(min=0).sqrt().flatten(1)], dim=1)


class ImageFrontEnd(nn.Module):
    """Some EfficientNets side by side, frozen.

    Args:
        names: Backbone names.
        tuned: Safetensors of the first backbone's tuned tail; its pooled features come last.
    """

    def __init__(
        self, names: Sequence[str] = ("efficientnet_lite0", "efficientnet_lite2"), tuned: Path | None = None
    ) -> None:
        super().__init__()
        backbones = [create_backbone(name) for name in names]
        assert all(isinstance(b, EfficientNetLite) for b in backbones)
        self.backbones = nn.ModuleList(backbones)
        self.tail: EfficientNetTail | None = None
        if tuned is not None:
            with torch.device("meta"):
                first = backbones[0]
                assert isinstance(first, EfficientNetLite)
                self.tail = copy.deepcopy(EfficientNetTail(first)).to("meta")
            load_strict(self.tail, tuned)
            self.tail.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.eval().requires_grad_(False)

    @property
    def feature_dim(self) -> int:
        """Width of the features."""
        nets = [net for net in self.backbones if isinstance(net, EfficientNetLite)]
        width = sum(net.feature_dim + sum(net.middle_dims) for net in nets) + 2 * 3 * _GRID**2
        return width + (nets[0].feature_dim if self.tail is not None else 0)

    def preprocess(self, rgb: NDArray[np.uint8] | Image.Image) -> list[Tensor]:
        """Return one (3, H, W) float16 tensor a backbone: 8-bit pixels over 128 are exact in it, queues stay small.

        Args:
            rgb: As `crop_to_content` or `cropped` returns it.
        """
        return [backbone.preprocess(rgb).half() for backbone in self.backbones]  # type: ignore[operator]

    @torch.inference_mode()
    def forward(
        self,
        inputs: Sequence[Sequence[Tensor]],
        backbones: Sequence[Callable[[Tensor], ImageFeatures]] | None = None,
        tail: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return features (B, feature_dim) and the mean class probabilities' logits (B, 1000).

        Args:
            inputs: What `preprocess` returned for each of B pictures.
            backbones: What runs in place of its own, computing the same.
            tail: As `backbones`.
        """
        parts: list[Tensor] = []
        logits: list[Tensor] = []
        device = next(self.parameters()).device
        trunk = None
        networks: Any = self.backbones if backbones is None else backbones
        for index, backbone in enumerate(networks):
            out = backbone(torch.stack([item[index].to(device).float() for item in inputs]))
            parts.extend([out.pooled, *out.middle])
            logits.append(out.logits)
            trunk = out.trunk if index == 0 else trunk
        parts.append(colour_statistics(torch.stack([item[0].to(device).float() for item in inputs])))
        if (tail := tail or self.tail) is not None and trunk is not None:
            parts.append(torch.cat([tail(chunk) for chunk in trunk.split(_CHUNK)]))
        return torch.cat(parts, dim=1), torch.stack(logits).mean(dim=0)
