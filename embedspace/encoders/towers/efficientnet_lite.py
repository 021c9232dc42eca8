"""EfficientNet-Lite: the image backbone.

Batch norm is folded into the convolutions, so the network is convolutions, ReLU6 and additions only.

Source: Tan and Le, EfficientNet, 2019 (https://arxiv.org/abs/1905.11946); the Lite variants drop squeeze-and-excitation
and use ReLU6 (https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional

from embedspace.encoders.towers.backbone import Backbone, register_backbone
from embedspace.errors import InputError

__all__ = [
    "MIDDLE_STAGES",
    "TRUNK_STAGES",
    "EfficientNetBody",
    "EfficientNetLite",
    "EfficientNetTail",
    "ImageFeatures",
    "to_pixel_values",
]

# (blocks, kernel, stride, expansion, channels) a stage, before scaling.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
MIDDLE_STAGES = (2, 4, 6)
"""The last stages at strides 8, 16 and 32."""
TRUNK_STAGES = 5
"""Stages that fine-tuning leaves alone."""
_STEM, _CLASSES = 32, 1000
_MEAN, _SCALE = 127.0, 128.0
_WHITE = (255, 255, 255)
_CHUNK = 4  # images at once: the early layers of more outgrow the cache, and every image gets slower


class ImageFeatures(NamedTuple):
    """What the network says about a batch of images.

    Attributes:
        pooled: (B, feature_dim) mean over the positions of the last layer, non-negative.
        middle: For the last stages at strides 8, 16 and 32: (B, channels) mean of the linear bottleneck.
        logits: (B, 1000) ImageNet class scores.
        trunk: (B, channels, H / 16, W / 16) output of stage `TRUNK_STAGES`, where a tuned tail begins.
    """

    pooled: torch.Tensor
    middle: list[torch.Tensor]
    logits: torch.Tensor
    trunk: torch.Tensor


class EfficientNetLite(Backbone):
    """EfficientNet-Lite of a given width, depth and input size."""

    modality = "image"

    def __init__(self, name: str, *, width: float, depth: float, image_size: int, feature_dim: int) -> None:
        """Build the layers; weights come from `load`."""
        super().__init__(name, feature_dim)
        self.image_size = image_size
        self.stem = _Conv(3, _STEM, kernel=3, stride=2)
        stages, channels = [], _STEM
        for index, (repeats, kernel, stride, expansion, base) in enumerate(_STAGES):
            fixed = index in (
                0,
                len(_STAGES) - 1,
            )  # the Lite variants do not scale the depth of the first and the last stage
            out = _scaled(base, width)
            blocks = []
            for repeat in range(repeats if fixed else int(np.ceil(depth * repeats))):
                blocks.append(_Block(channels, out, expansion, kernel, stride if repeat == 0 else 1))
                channels = out
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.middle_dims = tuple(_scaled(_STAGES[index][4], width) for index in MIDDLE_STAGES)
        self.head = _Conv(channels, feature_dim, kernel=1)
        self.classifier = nn.Linear(feature_dim, _CLASSES)

    def preprocess(self, rgb: NDArray[np.uint8] | Image.Image) -> torch.Tensor:
        """Pad to a square on white, resize, normalise. Nothing is cropped: cut-outs and pictograms reach their edges.

        Args:
            rgb: (H, W, 3) or an RGB image, any size from 1 x 1.

        Returns:
            (3, image_size, image_size) float32, about [-1, 1].

        Raises:
            InputError: If the array is not (H, W, 3) uint8.
        """
        if isinstance(rgb, Image.Image):
            if rgb.mode != "RGB":
                raise InputError(f"an image must be RGB, got {rgb.mode}; convert it first")
        elif rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
            raise InputError(f"an image must be (H, W, 3) uint8, got {rgb.shape} {rgb.dtype}; flatten it first")
        return to_pixel_values(rgb, self.image_size)

    def forward(self, pixel_values: torch.Tensor) -> ImageFeatures:
        """Run the network.

        Args:
            pixel_values: (B, 3, H, W) as `preprocess` makes them; other sizes work.
        """
        if pixel_values.device.type == "cpu" and len(pixel_values) > _CHUNK:
            parts = [self._run(chunk) for chunk in torch.split(pixel_values, _CHUNK)]
            middle = [torch.cat(stage) for stage in zip(*(part.middle for part in parts), strict=True)]
            rows = zip(*((part.pooled, part.logits, part.trunk) for part in parts), strict=True)
            pooled, logits, trunk = (torch.cat(list(each)) for each in rows)
            return ImageFeatures(pooled, middle, logits, trunk)
        return self._run(pixel_values)

    def _run(self, pixel_values: torch.Tensor) -> ImageFeatures:
        # oneDNN runs depthwise convolutions fastest with channels innermost.
        x = self.stem(pixel_values.contiguous(memory_format=torch.channels_last))
        x = functional.relu6(x, inplace=True)
        middle = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in MIDDLE_STAGES:
                middle.append(x.mean(dim=(2, 3)))
            if index + 1 == TRUNK_STAGES:
                trunk = x
        pooled = functional.relu6(self.head(x), inplace=True).mean(dim=(2, 3))
        return ImageFeatures(pooled, middle, self.classifier(pooled), trunk)


class EfficientNetBody(nn.Module):
    """All layers but the classifier, as a module of its own: what fine-tuning of the whole network changes.

    Args:
        network: Its layers are taken as they are.
    """

    def __init__(self, network: EfficientNetLite) -> None:
        super().__init__()
        self.stem, self.stages, self.head = network.stem, network.stages, network.head

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Map (B, 3, H, W) to (B, feature_dim) pooled features."""
        x = functional.relu6(self.stem(pixel_values.contiguous(memory_format=torch.channels_last)), inplace=True)
        for stage in self.stages:
            x = stage(x)
        return functional.relu6(self.head(x)).mean(dim=(2, 3))


class EfficientNetTail(nn.Module):
    """The stages after the trunk and the last convolution, as a module of its own: what fine-tuning changes.

    Args:
        network: Its layers are taken as they are.
    """

    def __init__(self, network: EfficientNetLite) -> None:
        super().__init__()
        self.stages = nn.ModuleList(list(network.stages)[TRUNK_STAGES:])
        self.head = network.head

    def forward(self, trunk: torch.Tensor) -> torch.Tensor:
        """Map (B, channels, H, W) trunk maps to (B, feature_dim) pooled features."""
        x = trunk.contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            x = stage(x)
        return functional.relu6(self.head(x)).mean(dim=(2, 3))


class _Conv(nn.Module):
    """A convolution with TensorFlow's SAME padding, which is asymmetric where the stride does not divide evenly."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.kernel, self.stride, self.groups = kernel, stride, groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padding = self.kernel // 2
        if self.stride > 1:
            top, bottom = _same(x.shape[2], self.kernel, self.stride)
            left, right = _same(x.shape[3], self.kernel, self.stride)
            if top == bottom == left == right:
                padding = top
            else:
                padding = 0
                x = functional.pad(x, (left, right, top, bottom))
        return functional.conv2d(x, self.weight, self.bias, self.stride, padding, 1, self.groups)


class _Block(nn.Module):
    """Inverted bottleneck: expand, depthwise, project; a skip where the shape stays."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = _Conv(inputs, wide, kernel=1) if expansion > 1 else None
        self.depthwise = _Conv(wide, wide, kernel=kernel, stride=stride, groups=wide)
        self.project = _Conv(wide, outputs, kernel=1)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x if self.expand is None else functional.relu6(self.expand(x), inplace=True)
        y: torch.Tensor = self.project(functional.relu6(self.depthwise(wide), inplace=True))
        return y + x if self.skip else y


def to_pixel_values(rgb: NDArray[np.uint8] | Image.Image, size: int) -> torch.Tensor:
    """Fit (H, W, 3) pixels or an RGB image into a white square: (3, size, size) float32, about [-1, 1]."""
    pixels = resize_padded(rgb, size).astype(np.float32)  # in numpy: torch would wake its threads for so little
    pixels -= _MEAN
    pixels /= _SCALE
    return torch.from_numpy(pixels).permute(2, 0, 1)  # (H, W, 3) -> (3, H, W)


def resize_padded(rgb: NDArray[np.uint8] | Image.Image, size: int) -> NDArray[np.uint8]:
    """Fit an image into a white square by antialiased bicubic resizing, centred.

    Args:
        rgb: (H, W, 3), or an RGB image.
        size: Side of the square.

    Returns:
        (size, size, 3).
    """
    whole = rgb if isinstance(rgb, Image.Image) else Image.fromarray(rgb)
    width, height = whole.size
    scale = size / max(height, width)
    fitted = (max(1, round(width * scale)), max(1, round(height * scale)))
    # reducing_gap shrinks big pictures by an integer factor first; 3.0 is visually the same as none.
    image = whole.resize(fitted, Image.Resampling.BICUBIC, reducing_gap=3.0)
    canvas = Image.new("RGB", (size, size), _WHITE)
    canvas.paste(image, ((size - fitted[0]) // 2, (size - fitted[1]) // 2))
    return np.array(canvas, dtype=np.uint8)


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _scaled(channels: int, width: float) -> int:
    """Scale by the width, to a multiple of 8, never more than 10% down."""
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels * width else rounded


@register_backbone("efficientnet_lite0")
@register_backbone("efficientnet_lite2")
def _create(name: str, weights: Path | None) -> EfficientNetLite:
    return EfficientNetLite.read(name, weights).channels_last()
