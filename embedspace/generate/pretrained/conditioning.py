"""What every head of pictures is told: the vector of a picture, whatever the source was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedspace.errors import ConfigError
from embedspace.generate.pretrained.base import Asked, Opened, Wanted
from embedspace.generate.pretrained.fitting import probes, way_to
from embedspace.generate.pretrained.prior import Prior
from embedspace.generate.pretrained.vectors import PICTURED, Spread, as_pictures

__all__ = ["PictureVectors", "measured_spread", "picture_rows"]


class PictureVectors:
    """From rows of the space to vectors of pictures: by the head's tower, and a prior where it is given one.

    Args:
        opened: The head.
        wanted: The vectors that it takes.
        spread: Where they lie.
        prior: Draws vectors of pictures from all other ones; without it their means are exchanged.

    Raises:
        ConfigError: If the space has no such tower, or the prior makes other vectors.
    """

    def __init__(self, opened: Opened, wanted: Wanted, spread: Spread, prior: Prior | None = None) -> None:
        label = opened.request.label
        self._space, self._spread, self._prior = opened.space, spread, prior
        self._way = way_to(opened.space, wanted, label)
        if prior is not None and prior.width != wanted.width:
            raise ConfigError(
                f"{label}: its prior makes vectors {prior.width} wide, the head takes {wanted.width}: take the prior "
                "that was published with it"
            )

    def __call__(self, asked: Asked) -> tuple[NDArray[np.float32], list[dict[str, Any]]]:
        """Return (B, width) float32 vectors of pictures, and what became of each row."""
        rows, how = as_pictures(asked.vectors, asked.modalities, self._space, self._way, self._spread)
        others = [number for number, modality in enumerate(asked.modalities) if modality not in PICTURED]
        if self._prior is not None and others:
            rows[others] = self._prior.draw(asked, others).float().cpu().numpy()
            how = ["prior" if number in others else one for number, one in enumerate(how)]
        agreement = self._way.agreement
        about = {"tower": self._way.tower, **({} if agreement is None else {"tower_agreement": round(agreement, 3)})}
        return rows, [
            {**about, "vector": one, **({"prompt": w} if w else {})} for one, w in zip(how, asked.words, strict=True)
        ]


def picture_rows(network: Any, processor: Any, pictures: Sequence[Any]) -> Tensor:  # noqa: ANN401 - of transformers
    """Return the (N, width) vectors that a CLIP image network makes of pictures, as long as it makes them."""
    values = processor(images=list(pictures), return_tensors="pt").pixel_values
    made: Tensor = network(values.to(network.device, network.dtype)).image_embeds
    return made


@torch.inference_mode()
def measured_spread(network: Any, processor: Any) -> Spread:  # noqa: ANN401 - of transformers
    """Measure where a network's vectors of pictures lie, on the probes; for heads that do not store it."""
    rows = picture_rows(network, processor, probes("image")).float().cpu().numpy()
    mean = rows.mean(axis=0)
    radius = float(np.sqrt(((rows - mean) ** 2).sum(axis=1).mean()))
    return Spread(mean, radius, float(np.sqrt((rows**2).sum(axis=1).mean())))
