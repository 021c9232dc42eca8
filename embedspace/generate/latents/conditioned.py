"""How networks on latents read their condition: an embedding of vector and noise, and neighbours as channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from embedspace.generate.conditioning import Condition
from embedspace.generate.latents.blocks import embed_scalar

__all__ = ["ConditionEmbedding", "context_channels", "map_channels", "style_numbers"]

_NOISE = 32


class ConditionEmbedding(nn.Module):
    """An embedding of the vector of a condition, its noise and, where asked for, further numbers.

    Args:
        embed_dim: Width of the vectors.
        out_dim: Width of the embedding.
        scalars: Numbers of order 1 beside them, such as a time.
    """

    def __init__(self, embed_dim: int, out_dim: int, scalars: int = 0) -> None:
        super().__init__()
        self.scalars = scalars
        self.vector = nn.Linear(embed_dim, out_dim)
        self.numbers = nn.Linear(_NOISE * (1 + scalars), out_dim)
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(out_dim, out_dim))

    def forward(self, condition: Condition, *scalars: Tensor) -> Tensor:
        """Return (B, out_dim) of B conditions and numbers (B,)."""
        parts = [embed_scalar(condition.sigma, _NOISE, 100.0), *(embed_scalar(one, _NOISE) for one in scalars)]
        scaled = condition.vector * condition.vector.shape[1] ** 0.5  # entries of unit variance
        out: Tensor = self.mix(self.vector(scaled) + self.numbers(torch.cat(parts, dim=1)))
        return out


def context_channels(condition: Condition, shape: tuple[int, int, int], neighbours: int) -> Tensor:
    """Return (B, neighbours * C, H, W): the neighbours' latents, zeros where there are none or too few.

    Args:
        condition: Of B items.
        shape: Channels, height and width of one item's latents.
        neighbours: How many are wanted.
    """
    channels, height, width = shape
    flat = condition.vector.new_zeros(len(condition.vector), neighbours * channels, height, width)
    if condition.context is not None and neighbours:
        have = condition.context[:, :neighbours].flatten(1, 2)
        flat[:, : have.shape[1]] = have
    return flat


def style_numbers(condition: Condition) -> Tensor:
    """Return (B,) the numbers of styles, zeros where none is said."""
    if condition.style is not None:
        return condition.style
    return torch.zeros(len(condition.vector), dtype=torch.long, device=condition.vector.device)


def map_channels(condition: Condition, shape: tuple[int, int, int], channels: int) -> Tensor:
    """Return (B, channels, H, W): the map, zeros where there is none.

    Args:
        condition: Of B items.
        shape: Channels, height and width of one item's latents.
        channels: Channels of a map.
    """
    if condition.map is not None:
        return condition.map
    return condition.vector.new_zeros(len(condition.vector), channels, *shape[1:])
