"""Larger pictures: a small residual network draws four times the side, sharper than interpolation does.

Source: Lim et al. 2017 (EDSR, https://arxiv.org/abs/1707.02921), section 3.1, for residual blocks without
normalisation; Shi et al. 2016 (https://arxiv.org/abs/1609.05158), equation 3, for sub-pixel convolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from embedspace.encoders.base import load_module

__all__ = ["FACTOR", "Upsampler", "UpsamplerConfig", "load_upsampler", "resized"]

FACTOR = 4
_TILE, _OVERLAP = 128, 16
"""Pixels of a side that are drawn at a time, and of what they see beyond: memory does not grow with the picture."""


@dataclass(frozen=True, slots=True)
class UpsamplerConfig:
    """Size of an `Upsampler`.

    Attributes:
        channels: Width.
        blocks: Residual blocks.
    """

    channels: int = 48
    blocks: int = 10


class Upsampler(nn.Module):
    """Adds to the bicubic picture what it lacks."""

    def __init__(self, config: UpsamplerConfig) -> None:
        super().__init__()
        width = config.channels
        self.enter = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
            for _ in range(config.blocks)
        )
        self.leave = nn.Conv2d(width, 3 * FACTOR**2, 3, padding=1)
        nn.init.zeros_(self.leave.weight)  # a new network is the bicubic picture
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map (B, 3, H, W) in [-1, 1] to (B, 3, `FACTOR` H, `FACTOR` W)."""
        x = self.enter(pictures)
        for block in self.blocks:
            x = x + block(x)
        plain = F.interpolate(pictures, scale_factor=FACTOR, mode="bicubic", align_corners=False)
        out: Tensor = plain + F.pixel_shuffle(self.leave(x), FACTOR)
        return out

    @torch.inference_mode()
    def enlarge(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return (H, W, 3) uint8 as (`FACTOR` H, `FACTOR` W, 3), tile by tile."""
        height, width = picture.shape[:2]
        pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
        made = np.empty((height * FACTOR, width * FACTOR, 3), np.uint8)
        for top in range(0, height, _TILE):
            for left in range(0, width, _TILE):
                bottom, right = min(top + _TILE, height), min(left + _TILE, width)
                first, start = max(0, top - _OVERLAP), max(0, left - _OVERLAP)
                part = pixels[:, :, first : bottom + _OVERLAP, start : right + _OVERLAP]
                drawn = self(part.contiguous(memory_format=torch.channels_last))[0]
                # (3, h, w) -> (h, w, 3)
                tile = ((drawn.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0)
                own = tile[(top - first) * FACTOR :, (left - start) * FACTOR :]
                made[top * FACTOR : bottom * FACTOR, left * FACTOR : right * FACTOR] = own[
                    : (bottom - top) * FACTOR, : (right - left) * FACTOR
                ].numpy()
        return made


def load_upsampler(config: Mapping[str, Any], folder: Path) -> Upsampler | None:
    """Return the upsampler of a generator's folder; None where its configuration names none.

    Raises:
        WeightsError: If the file is missing, damaged or of another shape.
        TypeError: If the section has an unknown key.
    """
    section = config.get("upsampler")
    if section is None:
        return None
    make = partial(Upsampler, UpsamplerConfig(**section))
    network = load_module(make, folder / "upsampler.safetensors")
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def resized(picture: NDArray[np.uint8], longer: int, upsampler: Upsampler | None) -> NDArray[np.uint8]:
    """Return a picture with another longer side; what has to grow is drawn by the upsampler, where there is one.

    Args:
        picture: (H, W, 3).
        longer: Pixels of the longer side.
        upsampler: Draws it; None to interpolate.
    """
    height, width = picture.shape[:2]
    if longer == max(height, width):
        return picture
    scale = longer / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if scale > 1 and upsampler is not None:
        picture = upsampler.enlarge(picture)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
