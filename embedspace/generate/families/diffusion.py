"""The diffusion family: noise is taken out step by step; the network predicts v, a mix of noise and data.

At time t a latent is cos(t pi / 2) data + sin(t pi / 2) noise, and v = cos(t pi / 2) noise - sin(t pi / 2) data.

Source: Ho et al. 2020 (https://arxiv.org/abs/2006.11239), algorithm 1; Salimans and Ho 2022
(https://arxiv.org/abs/2202.00512), appendix D, for v; Song et al. 2020 (DDIM, https://arxiv.org/abs/2010.02502),
equation 12 without noise, for the sampler; Nichol and Dhariwal 2021 (https://arxiv.org/abs/2102.09672) for the cosine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from embedspace.generate.conditioning import Condition, guided, normal
from embedspace.generate.families.base import Family, FamilyConfig, Phase, SampleOptions, Shape
from embedspace.generate.families.flow import Velocity
from embedspace.generate.families.registry import register_family
from embedspace.generate.latents.inpainting import Kept, difference, first_data
from embedspace.generate.latents.unet import LatentUNet, UNetConfig

__all__ = ["DiffusionConfig", "DiffusionFamily", "denoise", "diffusion_loss"]

_HALF_WAY = 0.5
"""Time at which conditions are compared."""


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig(FamilyConfig):
    """Settings of a diffusion.

    Attributes:
        channels: Width of the outer level of its network.
        multiples: Multiples of it, level by level.
        blocks: Residual blocks a level.
    """

    channels: int = 96
    multiples: tuple[int, ...] = (1, 2)
    blocks: int = 2
    start: float | None = 0.0


def _parts(time: Tensor) -> tuple[Tensor, Tensor]:
    """Return the parts of data and noise (B, 1, 1, 1) at times (B,)."""
    angle = (time * math.pi / 2)[:, None, None, None]
    return angle.cos(), angle.sin()


def diffusion_loss(
    network: Velocity, latents: Tensor, condition: Condition, generator: torch.Generator | None = None
) -> Tensor:
    """Return the mean squared error of v at uniform times.

    Args:
        network: Predicts it.
        latents: (B, C, H, W) data, standardised.
        condition: Condition of each, with what is to be dropped dropped.
        generator: Source of noise and times.
    """
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    time = torch.rand(len(latents), generator=generator).to(latents.device)
    data_part, noise_part = _parts(time)
    v = network(data_part * latents + noise_part * noise, time, condition)
    return (v - (data_part * noise - noise_part * latents)).square().mean()


@torch.inference_mode()
def denoise(
    network: Velocity, condition: Condition, generators: Sequence[torch.Generator], options: SampleOptions
) -> Tensor:
    """Take the noise out in equal steps of time, from noise alone or from a neighbour with noise in it.

    Args:
        network: Predicts v.
        condition: Condition of B items.
        generators: One for each item, source of its noise.
        options: A step costs one pass, two with guidance; beside what is kept, as often as it is taken. At a start of
            s, what is edited or the first neighbour stands in for the data at time 1 - s.

    Returns:
        (B, C, H, W) latents.
    """
    first_noise = latents = normal(network.shape, generators).to(condition.vector.device)
    begin, first = 1.0, first_data(condition, options)
    if options.start and first is not None:
        begin = 1.0 - options.start
        data_part, noise_part = _parts(torch.full((len(latents),), begin))
        latents = data_part * first + noise_part * latents
    plain = condition.dropped()
    kept = Kept.of(options, first_noise, _parts, generators)

    def take(point: Tensor, time: Tensor, later: Tensor) -> Tensor:
        v = guided(partial(network, point, time), condition, plain, options.guidance_scale)
        data_part, noise_part = _parts(time)
        data, noise = data_part * point - noise_part * v, noise_part * point + data_part * v
        data_part, noise_part = _parts(later)
        return data_part * data + noise_part * noise

    for step in range(options.num_steps):
        time, later = (torch.full((len(latents),), begin * (1 - k / options.num_steps)) for k in (step, step + 1))
        if kept is None:
            latents = take(latents, time, later)
        else:
            latents = kept.step(latents, time, later, partial(take, time=time, later=later))
    return latents


@register_family("diffusion")
class DiffusionFamily(Family[DiffusionConfig, LatentUNet]):
    """Diffusion with v-prediction on the flow's U-Net."""

    Config = DiffusionConfig
    can = frozenset({"start", "mask", "guidance", "steps", "difference"})
    about = "diffusion: noise is taken out step by step (v-prediction, DDIM)"

    def build(self, config: DiffusionConfig, shape: Shape, embed_dim: int) -> LatentUNet:
        """Return the U-Net."""
        return LatentUNet(
            UNetConfig(*shape, embed_dim, config.neighbours, config.channels, config.multiples, config.blocks)
        )

    def phases(self, config: DiffusionConfig) -> tuple[Phase, ...]:
        """Return the one loss."""
        return (Phase(diffusion_loss),)

    def sample(
        self,
        module: LatentUNet,
        condition: Condition,
        generators: Sequence[torch.Generator],
        options: SampleOptions,
    ) -> Tensor:
        """Take the noise out."""
        return denoise(module, condition, generators, options)

    def difference(self, module: LatentUNet, latents: Tensor, given: Condition, wanted: Condition) -> Tensor:
        """Compare what is predicted half-way."""
        return difference(module, _parts, _HALF_WAY, latents, (given, wanted))
