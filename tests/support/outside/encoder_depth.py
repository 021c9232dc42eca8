"""Encode depth maps: a small grid of mean depths, and a linear map that is trained on pairs of maps and captions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from embedspace.encoders.base import Encoder, load_strict, to_rows
from embedspace.encoders.registry import register_encoder
from embedspace.modality import DecodedSize, ModalitySpec, register_modality

__all__ = ["FEATURE_DIM", "DepthEncoder", "features"]

GRID = 4
FEATURE_DIM = GRID * GRID

SPEC = register_modality(
    ModalitySpec(
        "depth",
        suffixes=(".npy",),
        decoder="tests.support.outside.media_depth:decode",
        memory=DecodedSize(growth=1, least=1 << 10),
        order=5,
    )
)


def features(depth: NDArray[np.float32]) -> torch.Tensor:
    """Return the (FEATURE_DIM,) mean depths of a grid, less their mean."""
    tensor = torch.from_numpy(np.ascontiguousarray(depth))[None, None]
    grid = nn.functional.adaptive_avg_pool2d(tensor, GRID).flatten()
    return grid - grid.mean()


class DepthEncoder(Encoder):
    """(H, W) depth maps to unit rows."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.project = nn.Linear(FEATURE_DIM, embed_dim)

    def prepare(self, media: NDArray[np.float32]) -> torch.Tensor:
        """Compute the features."""
        return features(media)

    @torch.inference_mode()
    def encode(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows."""
        return to_rows(nn.functional.normalize(self.project(torch.stack(list(prepared))), dim=-1))


@register_encoder("test.depth")
def _create(config: dict[str, Any], folder: Path, modality: str) -> DepthEncoder:
    made = DepthEncoder(config["embed_dim"])
    load_strict(made.project, folder / config["weights"])
    return made
