"""The drifting family: one pass from noise to data; the steps are those of training.

In each step of training what is made moves towards the data near it and away from what else is made near it; where the
two are distributed alike, they cancel out. Here both are pairs of latents and a vector: what is made for a vector moves
towards data of that vector most, towards those of vectors near it less, and away from what else is made for it.

Source: Deng et al. 2026 (https://arxiv.org/abs/2602.04770), section 3 for the field and the loss. They drift in
features of several scales of a trained network; here those are the latents and their means over blocks of cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from embedspace.generate.conditioning import Condition, normal
from embedspace.generate.families.base import Family, FamilyConfig, Phase, SampleOptions, Shape
from embedspace.generate.families.registry import register_family
from embedspace.generate.latents.unet import LatentUNet, UNetConfig

__all__ = ["DriftingConfig", "DriftingFamily", "drift", "drifting_loss"]


@dataclass(frozen=True, kw_only=True)
class DriftingConfig(FamilyConfig):
    """Settings of a drifting model.

    Attributes:
        channels: Width of the outer level of its network.
        multiples: Multiples of it, level by level.
        blocks: Residual blocks a level.
        samples: Made for each vector of a step, which has so many times fewer of them than data.
        temperatures: Reaches of what attracts and repels, in mean distances.
        reach: Reach between vectors, in 1 - cosine.
        scales: Sides of the blocks of cells over which latents are averaged, each a space to drift in.
    """

    channels: int = 96
    multiples: tuple[int, ...] = (1, 2)
    blocks: int = 2
    samples: int = 4
    temperatures: tuple[float, ...] = (0.05, 0.2, 0.5)
    reach: float = 0.1
    scales: tuple[int, ...] = (1, 2, 4)
    drop: float = 0.0


def drift(made: Tensor, data: Tensor, far_data: Tensor, far_made: Tensor, temperature: float) -> Tensor:
    """Return where each of what is made is to move, (N, D); nothing of it moves where the two are one distribution.

    Args:
        made: (N, D) features of what is made.
        data: (M, D) features of data.
        far_data: (N, M) further distances to them, beside those of the features, in temperatures.
        far_made: (N, N) the same between what is made.
        temperature: Reach, in mean distances.
    """
    to_data, to_made = torch.cdist(made, data), torch.cdist(made, made)
    unit = to_data.mean().clamp_min(1e-6) * temperature
    own = torch.eye(len(made), dtype=torch.bool, device=made.device)
    pull, push = -to_data / unit - far_data, (-to_made / unit - far_made).masked_fill(own, -torch.inf)
    logits = torch.cat([pull, push], dim=1)
    near = (logits.softmax(dim=1) * logits.softmax(dim=0)).sqrt()
    towards, away = near[:, : len(data)], near[:, len(data) :]
    attracted = towards * away.sum(dim=1, keepdim=True)
    repelled = away * towards.sum(dim=1, keepdim=True)
    moved: Tensor = attracted @ data - repelled @ made
    return moved


def drifting_loss(
    network: LatentUNet,
    latents: Tensor,
    condition: Condition,
    generator: torch.Generator | None = None,
    config: DriftingConfig | None = None,
) -> Tensor:
    """Return the squared distance of what is made from where it drifts to, over scales and temperatures.

    Each field is brought to a mean square of 1, so that near and far ones weigh as much; the loss therefore says
    nothing of how good the network is.

    Args:
        network: From noise, at time 0, to latents.
        latents: (B, C, H, W) data, standardised.
        condition: Condition of each.
        generator: Source of noise.
        config: Settings; its `samples` are made for each of the first B / samples conditions.
    """
    config = config or DriftingConfig()
    samples = min(config.samples, len(latents))
    rows = torch.arange(max(1, len(latents) // samples), device=latents.device).repeat_interleave(samples)
    noise = torch.randn((len(rows), *latents.shape[1:]), generator=generator).to(latents.device)
    made = network(noise, torch.zeros(len(rows), device=latents.device), condition.rows(rows)).float()
    far = (1 - condition.vector @ condition.vector.mT).clamp_min(0) / config.reach
    far = far.masked_fill(torch.eye(len(latents), dtype=torch.bool, device=far.device), 0.0)
    losses = []
    for scale in config.scales:
        here, there = (_features(items, scale) for items in (made, latents))
        with torch.no_grad():
            fields = [drift(here, there, far[rows], far[rows][:, rows], reach) for reach in config.temperatures]
            moved = torch.stack([field / field.square().mean().sqrt().clamp_min(1e-6) for field in fields]).sum(dim=0)
        losses.append((here - (here.detach() + moved)).square().mean())
    return torch.stack(losses).mean()


def _features(latents: Tensor, scale: int) -> Tensor:
    """Return means over blocks of cells, (N, D)."""
    whole = latents if scale == 1 else F.avg_pool2d(latents, scale, ceil_mode=True)
    return whole.flatten(1)


@register_family("drifting")
class DriftingFamily(Family[DriftingConfig, LatentUNet]):
    """The flow's U-Net, asked once."""

    Config = DriftingConfig
    about = "drifting: one pass of a network whose samples moved to the data near them, step by step of training"

    def build(self, config: DriftingConfig, shape: Shape, embed_dim: int) -> LatentUNet:
        """Return a U-Net."""
        size = UNetConfig(*shape, embed_dim, config.neighbours, config.channels, config.multiples, config.blocks)
        return LatentUNet(size)

    def phases(self, config: DriftingConfig) -> tuple[Phase, ...]:
        """Return the one loss."""
        return (Phase(partial(drifting_loss, config=config), held=False),)

    @torch.inference_mode()
    def sample(
        self, module: LatentUNet, condition: Condition, generators: Sequence[torch.Generator], options: SampleOptions
    ) -> Tensor:
        """Draw noise, and pass it on."""
        noise = normal(module.shape, generators).to(condition.vector.device)
        made: Tensor = module(noise, torch.zeros(len(noise), device=noise.device), condition)
        return made
