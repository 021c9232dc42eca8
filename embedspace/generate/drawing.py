"""What is to be drawn where: a picture of an outline, a silhouette or edges, black on white.

space.generate(space.encode_text(["a cat"]), to="image", drawing=drawing_of("outline.png"))
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedspace.encoders.towers.efficientnet_lite import resize_padded
from embedspace.errors import ArgumentError
from embedspace.media.image import ImageSource, decoded_image
from embedspace.media.pixels import flatten

__all__ = ["Drawing", "drawing_of"]

SIDE = 384
"""Pixels of the longer side that a drawing is read at, at least."""
_DARK = 128
"""Values below are drawn."""
_COVERED = 0.25
"""Part of a smaller pixel that has to be drawn for all of it to be."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """What is drawn where.

    Attributes:
        content: (H, W), True where a line or an area is.
        about: What a sample says of it: its name, and the SHA-256 of `content`.
    """

    content: NDArray[np.bool_]
    about: Mapping[str, str] = field(default_factory=dict)

    def padded(self, side: int) -> NDArray[np.bool_]:
        """Return it in the middle of a square (side, side); lines that become thinner than a pixel stay."""
        white = Image.fromarray(np.where(self.content, 0, 255).astype(np.uint8)).convert("RGB")
        drawn: NDArray[np.bool_] = resize_padded(white, side)[:, :, 0] <= 255 * (1 - _COVERED)
        return drawn


def drawing_of(source: ImageSource) -> Drawing:
    """Read a drawing; what is dark in it is drawn, what is transparent is not.

    Args:
        source: A file or pixels.

    Raises:
        MediaError: If it is no picture.
        ArgumentError: If nothing is drawn in it, or all of it.
    """
    name = Path(source).name if isinstance(source, str | Path) else type(source).__name__
    with decoded_image(source, min_side=SIDE) as picture:
        content: NDArray[np.bool_] = flatten(picture.image).mean(axis=2) < _DARK
    if not content.any():
        raise ArgumentError("map", f"{name}: nothing is drawn in it; lines and areas must be dark, on white")
    if content.all():
        raise ArgumentError("map", f"{name}: all of it is dark; what is not drawn must be white")
    digest = hashlib.sha256(np.packbits(content).tobytes()).hexdigest()
    return Drawing(content, {"map": name, "map_sha256": digest})
