"""Pictures as the autoencoder of the generator of pictures keeps them: made ones come out of its decoder.

A judge that never saw its blur misreads what is made (training/LOG.md, the judge of faces).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from embedspace.generate.faces.maker import picture_parts
from embedspace.generate.latents.autoencoder import Autoencoder

__all__ = ["through_autoencoder"]


@torch.inference_mode()
def through_autoencoder(pictures: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Return pictures (96, 96, 3) as the autoencoder of the generator of pictures keeps them."""
    autoencoder = _autoencoder()
    found: list[NDArray[np.uint8]] = []
    for start in range(0, len(pictures), 16):
        # (B, H, W, 3) -> (B, 3, H, W) and back
        part = torch.from_numpy(np.stack(pictures[start : start + 16])).permute(0, 3, 1, 2).float() / 127.5 - 1
        kept = autoencoder.decode(autoencoder.encode(part)).clamp(-1, 1)
        found += list(((kept + 1) * 127.5).round().permute(0, 2, 3, 1).byte().numpy())
    return found


@lru_cache(maxsize=1)
def _autoencoder() -> Autoencoder:
    return picture_parts().autoencoder
