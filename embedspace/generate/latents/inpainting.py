"""What families on paths from noise to data share when part of an item stays as it is.

A point of a path holds `data` times the data and `noise` times the noise; each family says how much at which time.

Source: Lugmayr et al. 2022 (RePaint, https://arxiv.org/abs/2201.09865), algorithm 1, for what is kept being put in at
every step and for going back; Couairon et al. 2022 (DiffEdit, https://arxiv.org/abs/2210.11427), section 3.2, for
finding what to change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from embedspace.generate.conditioning import Condition, normal
from embedspace.generate.families.base import SampleOptions

__all__ = ["Kept", "Parts", "difference", "first_data"]

Parts = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Times (B,) -> the parts of data and of noise (B, 1, 1, 1) in a point of the path."""
Predict = Callable[[Tensor, Tensor, Condition], Tensor]
"""Points (B, C, H, W), times (B,) and condition -> what the network says of them, in the same shape."""

_NOISES = 8
"""Draws of noise over which a difference is averaged."""


def first_data(condition: Condition, options: SampleOptions) -> Tensor | None:
    """Return what stands in for the data (B, C, H, W) where sampling begins later: what is edited, or a neighbour."""
    if options.init is not None:
        return options.init
    if condition.context is None or not condition.context.shape[1]:
        return None
    return condition.context[:, 0]


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What stays, on its own straight path through one draw of noise.

    Attributes:
        init: (B, C, H, W) latents of what is edited.
        keep: (B, 1, H, W) where they stay.
        noise: (B, C, H, W).
        parts: Of the family's path.
        generators: One source of noise per item.
        resamplings: Times that each step is taken, going back between them, so that what is new fits what stays.
    """

    init: Tensor
    keep: Tensor
    noise: Tensor
    parts: Parts
    generators: Sequence[torch.Generator]
    resamplings: int

    @classmethod
    def of(
        cls, options: SampleOptions, noise: Tensor, parts: Parts, generators: Sequence[torch.Generator]
    ) -> Kept | None:
        """Return it for a request; None where nothing is to stay."""
        if options.init is None or options.keep is None:
            return None
        return cls(options.init, options.keep, noise, parts, generators, options.resamplings)

    def step(self, point: Tensor, time: Tensor, later: Tensor, take: Callable[[Tensor], Tensor]) -> Tensor:
        """Take a step from `time` to `later`, times (B,), as often as it says.

        Args:
            point: (B, C, H, W) at `time`.
            time: Where it lies.
            later: Nearer to the data.
            take: The family's own step.
        """
        moved = self._put_in(take(point), later)
        data, noise = self.parts(later)
        earlier_data, earlier_noise = self.parts(time)
        share = earlier_data / data
        spread = (earlier_noise.square() - (share * noise).square()).clamp(min=0).sqrt()
        if not bool((share > 0).all()):  # all of it would be forgotten
            return moved
        for _ in range(self.resamplings - 1):
            back = share * moved + spread * normal(moved.shape[1:], self.generators).to(moved.device)
            moved = self._put_in(take(back), later)
        return moved

    def _put_in(self, point: Tensor, time: Tensor) -> Tensor:
        data, noise = self.parts(time)
        return torch.where(self.keep, data * self.init + noise * self.noise, point)


@torch.inference_mode()
def difference(
    predict: Predict, parts: Parts, time: float, init: Tensor, conditions: tuple[Condition, Condition], seed: int = 0
) -> Tensor:
    """Return how differently a network sees each cell of an item under two conditions: (B, H, W), from 0 up.

    Args:
        predict: The network.
        parts: Of the family's path.
        time: Where on the path it is asked.
        init: (B, C, H, W) latents of the item.
        conditions: What it is, and what it is to become; of B items each.
        seed: Of the noises, the same for both.
    """
    times = torch.full((len(init),), time)
    data, noise = parts(times)
    total = torch.zeros(len(init), *init.shape[2:])
    for number in range(_NOISES):
        drawn = normal(init.shape[1:], [torch.Generator().manual_seed(seed + number)]).expand_as(init)
        point = data * init + noise * drawn
        first, second = (predict(point, times, condition) for condition in conditions)
        total += (first - second).abs().mean(dim=1)
    return total / _NOISES
