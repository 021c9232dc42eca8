"""The image head: small square pictures from latents of an eighth as many cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from embedspace.generate.base import Neighbour, Request, Sample, register_head
from embedspace.generate.conditioning import centre
from embedspace.generate.latents.generator import LatentHead, LatentOptions, load_parts, memory_beside
from embedspace.modality import Modality

if TYPE_CHECKING:
    from embedspace.space import EmbeddingSpace

__all__ = ["ImageHead"]


class ImageHead(LatentHead):
    """Pictures."""

    modality: ClassVar[Modality] = Modality.IMAGE
    space: EmbeddingSpace | None = None
    """Whose image encoder tells candidates apart; None to take the first."""

    def fits(self, vector: NDArray[np.float32], samples: Sequence[Sample]) -> list[float] | None:
        """Return the cosines of the pictures' own centred vectors with the condition."""
        if self.space is None:
            return None
        rows = self.space.encode_image([sample.content for sample in samples])
        cosines = centre(rows, Modality.IMAGE, self.space.calibration.means) @ vector
        return [float(value) for value in cosines]

    def to_media(self, decoded: Tensor, request: Request) -> list[tuple[NDArray[Any], int]]:
        """Turn (B, 3, H, W) into (H, W, 3) uint8, scaled to the side that is asked for."""
        # (B, 3, H, W) -> (B, H, W, 3)
        pixels = ((decoded.clamp(-1, 1) + 1) * 127.5).round().permute(0, 2, 3, 1).byte().numpy()
        return [(_scaled(picture, request.size), 0) for picture in pixels]

    def gallery_pictures(
        self, vector: NDArray[np.float32], modality: str, space: EmbeddingSpace, k: int
    ) -> list[tuple[Neighbour, NDArray[np.uint8]]]:
        """Return the k gallery items nearest to a vector of the space, as the autoencoder keeps them."""
        return self.gallery_media(centre(vector[None], modality, space.calibration.means)[0], k)


def _scaled(picture: NDArray[np.uint8], side: int | None) -> NDArray[np.uint8]:
    if side is None or side == picture.shape[0]:
        return picture
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))


@register_head(Modality.IMAGE)
def _create(config: Mapping[str, Any], folder: Path, space: EmbeddingSpace) -> ImageHead:
    options = LatentOptions(**config.get("options", {}))
    head = ImageHead(*load_parts(config, folder), config["sigma"], options, memory_beside(folder))
    head.space = space
    return head
