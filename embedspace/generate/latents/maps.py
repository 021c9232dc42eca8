"""Maps: what is drawn where, as channels of the cells of a picture's latents.

A map is a picture of lines or areas, black on white. Each cell of the latents gets the pixels that it stands for as
channels (space to depth), so that nothing of the map is lost and convolutions read it in place.

Source: Isola et al. 2017 (pix2pix, https://arxiv.org/abs/1611.07004), for edges and areas as the condition of a
picture; Shi et al. 2016 (https://arxiv.org/abs/1609.05158), section 3.2, for the rearrangement.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from embedspace.generate.latents.autoencoder import DOWN

__all__ = ["MAP_CHANNELS", "MAP_KINDS", "map_of", "to_cells"]

MAP_CHANNELS = DOWN * DOWN
MAP_KINDS = ("silhouette", "outline", "edges")
"""What a map may show: all of what is drawn, its border, or the borders of every colour in it."""
_BLANK = 24
"""Values by which a pixel differs from white before something is drawn there."""
_STEP = 0.25
"""Change of a colour from 0 to 1 within two pixels that is an edge."""


def map_of(pictures: Tensor, kind: str) -> Tensor:
    """Return maps of pictures on white.

    Args:
        pictures: (N, 3, H, W) uint8.
        kind: One of `MAP_KINDS`.

    Returns:
        (N, H, W) bool, True where something is drawn.
    """
    if kind == "edges":
        level = pictures.float() / 255
        across = F.pad((level[..., 2:] - level[..., :-2]).abs(), (1, 1))
        down = F.pad((level[..., 2:, :] - level[..., :-2, :]).abs(), (0, 0, 1, 1))
        return torch.maximum(across, down).amax(dim=1) > _STEP
    drawn = 255 - pictures.amin(dim=1) > _BLANK
    if kind == "silhouette":
        return drawn
    inner = F.max_pool2d((~drawn)[:, None].float(), 5, stride=1, padding=2)[:, 0] == 0
    return drawn & ~inner


def to_cells(maps: Tensor) -> Tensor:
    """Return maps (B, H, W) bool as channels of cells (B, `MAP_CHANNELS`, H / `DOWN`, W / `DOWN`): 1 and -1."""
    return F.pixel_unshuffle(maps[:, None].float() * 2 - 1, DOWN)
