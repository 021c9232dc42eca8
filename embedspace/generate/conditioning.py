"""What a generator is told: a centred vector, and how much noise is in it.

Vectors of each modality sit around a mean of their own (`embedspace.calibration.centring` takes it out). With the mean
out, a text's vector and a picture's of the same thing differ by what looks like noise; a network that was trained on
text vectors with noise of random size, and told that size, takes any of them.

Source: Nukrai et al. 2022 (CapDec, https://arxiv.org/abs/2211.00575), section 3, for text vectors with noise; Zhang et
al. 2024 (C3, https://arxiv.org/abs/2401.08567), section 4, for centring first; Ho et al. 2022 (Cascaded diffusion,
https://arxiv.org/abs/2106.15282), section 4, for noise of random, known size on a condition; Ho and Salimans 2022
(https://arxiv.org/abs/2207.12598) for the dropped condition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Condition", "add_noise", "guided", "noise_for_cosine", "normal"]


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """What a batch of samples is conditioned on.

    Attributes:
        vector: (B, embed_dim) centred unit rows; a row of zeros means "no condition".
        sigma: (B,) size of the noise in `vector`: with sigma its cosine with the clean vector is about
            1 / sqrt(1 + sigma^2).
        context: (B, K, C, H, W) latents of neighbours among the training items, or None.
        style: (B,) number of the source whose style is wanted, from 1 on in the order of the family's settings; 0 for
            none. None where nothing is said of any.
        map: (B, M, H, W) what is drawn where, as channels of the cells: 1 where a line or area is, -1 where none is; 0
            everywhere stands for no map. None where nothing is said of any.
    """

    vector: Tensor
    sigma: Tensor
    context: Tensor | None = None
    style: Tensor | None = None
    map: Tensor | None = None

    def dropped(self) -> Condition:
        """Return the same without any of it, for classifier-free guidance."""
        return self.drop_rows(torch.ones(len(self.vector), dtype=torch.bool, device=self.vector.device))

    def drop_rows(self, rows: Tensor) -> Condition:
        """Drop the rows where `rows` (B,) is True, in training."""
        keep = (~rows).to(self.vector.dtype)
        context = None if self.context is None else self.context * keep[:, None, None, None, None]
        style = None if self.style is None else self.style * ~rows
        drawn = None if self.map is None else self.map * keep[:, None, None, None]
        return Condition(self.vector * keep[:, None], self.sigma * keep, context, style, drawn)

    def rows(self, rows: Tensor) -> Condition:
        """Return some of the rows, by their numbers."""
        parts = (None if part is None else part[rows] for part in (self.context, self.style, self.map))
        return Condition(self.vector[rows], self.sigma[rows], *parts)


def add_noise(vectors: Tensor, sigma: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return unit rows with isotropic noise in them.

    Args:
        vectors: (B, embed_dim) unit rows.
        sigma: (B,) norm of the noise, in expectation, before the sum is normalised.
        generator: Source of the noise.
    """
    noise = torch.randn(vectors.shape, generator=generator) / vectors.shape[1] ** 0.5
    return F.normalize(vectors + sigma[:, None] * noise.to(vectors.device), dim=1)


def noise_for_cosine(cosine: float) -> float:
    """Return the sigma at which `add_noise` gives this mean cosine with the clean vector."""
    bounded = min(max(cosine, 0.05), 1.0)
    return float((1.0 / bounded**2 - 1.0) ** 0.5)


def normal(shape: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
    """Return standard normal noise (B, *shape), each row from its own generator: a sample depends on no other."""
    return torch.stack([torch.randn(tuple(shape), generator=generator) for generator in generators])


def guided(predict: Callable[[Condition], Tensor], condition: Condition, plain: Condition, scale: float) -> Tensor:
    """Return what a network says with classifier-free guidance; a scale of 1 asks it once, without `plain`.

    Args:
        predict: The network, given all but the condition.
        condition: Condition of B samples.
        plain: The same dropped, see `Condition.dropped`.
        scale: Weight of the condition.

    Source: Ho and Salimans 2022 (https://arxiv.org/abs/2207.12598), equation 6.
    """
    found = predict(condition)
    if scale == 1.0:
        return found
    other = predict(plain)
    return other + scale * (found - other)
