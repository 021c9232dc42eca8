"""The flow family: straight paths from noise to data.

At time t a latent lies at (1 - t) noise + t data, its velocity is data - noise; a network learns the velocity from the
point alone, and sampling follows it from t = 0 to 1.

Source: Liu et al. 2022 (Rectified flow, https://arxiv.org/abs/2209.03003), equation 1 and algorithm 1; Esser et al.
2024 (https://arxiv.org/abs/2403.03206), section 3.1, for times drawn from a logit-normal; Ho and Salimans 2022
(https://arxiv.org/abs/2207.12598), equation 6, for guidance; Kynkäänniemi et al. 2024
(https://arxiv.org/abs/2404.07724) for guiding within some times only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from embedspace.generate.conditioning import Condition, guided, normal
from embedspace.generate.families.base import Family, FamilyConfig, Phase, SampleOptions, Shape
from embedspace.generate.families.registry import register_family
from embedspace.generate.latents.inpainting import Kept, difference, first_data
from embedspace.generate.latents.maps import MAP_CHANNELS
from embedspace.generate.latents.unet import LatentUNet, UNetConfig

__all__ = ["FlowConfig", "FlowFamily", "Velocity", "flow_loss", "follow", "redraw"]

_HALF_WAY = 0.5
"""Time at which conditions are compared."""


@dataclass(frozen=True, kw_only=True)
class FlowConfig(FamilyConfig):
    """Settings of a rectified flow.

    Attributes:
        channels: Width of the outer level of its network.
        multiples: Multiples of it, level by level.
        blocks: Residual blocks a level.
        first_time: Times are drawn from here to 1 in training; for generators whose sampling begins later than at 0.
        contrast: Weight of staying away from the velocities of other items.
    """

    channels: int = 96
    multiples: tuple[int, ...] = (1, 2)
    blocks: int = 2
    first_time: float = 0.0
    contrast: float = 0.0


class Velocity(Protocol):
    """A network that a flow can follow."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one item's latents."""
        ...

    def __call__(self, latents: Tensor, time: Tensor, condition: Condition, /) -> Tensor:
        """Return velocities shaped as `latents` (B, C, H, W), at times (B,)."""
        ...


def flow_loss(
    network: Velocity,
    latents: Tensor,
    condition: Condition,
    generator: torch.Generator | None = None,
    first_time: float = 0.0,
    contrast: float = 0.0,
) -> Tensor:
    """Return the mean squared error of the velocity at random times, less `contrast` times that of another item's.

    Args:
        network: Predicts it.
        latents: (B, C, H, W) data, standardised.
        condition: Condition of each, with what is to be dropped dropped.
        generator: Source of noise and times.
        first_time: Times are drawn from here to 1: what a flow that begins at a neighbour passes through.
        contrast: Weight of the second term, for items whose condition is not dropped; with it the velocity that is
            learnt is that of the data less so much of the mean of all.

    Source: Stoica et al. 2025 (Contrastive flow matching, https://arxiv.org/abs/2506.05350), equation 6.
    """
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    time = torch.randn(len(latents), generator=generator).sigmoid().to(latents.device)
    time = first_time + (1 - first_time) * time
    share = time[:, None, None, None]
    velocity = network((1 - share) * noise + share * latents, time, condition)
    target = latents - noise
    loss = (velocity - target).square().mean()
    if contrast:
        told = condition.vector.abs().sum(dim=1) > 0
        other = (velocity - target.roll(1, 0)).square().mean(dim=(1, 2, 3))
        loss = loss - contrast * (other * told).mean()
    return loss


@torch.inference_mode()
def follow(
    network: Velocity, condition: Condition, generators: Sequence[torch.Generator], options: SampleOptions
) -> Tensor:
    """Follow the flow with equal Euler steps, from noise or from a neighbour with noise in it.

    Args:
        network: The velocity.
        condition: Condition of B items.
        generators: One for each item, source of its noise.
        options: A step costs one pass, two with guidance; beside what is kept, as often as it is taken. A start later
            than 0 has what is edited, or the nearest neighbour of the context, in the data's place (Meng et al. 2022,
            SDEdit, https://arxiv.org/abs/2108.01073, algorithm 1), and does nothing without either.

    Returns:
        (B, C, H, W) latents.
    """
    noise = latents = normal(network.shape, generators).to(condition.vector.device)
    data = first_data(condition, options)
    start = options.start if data is not None else 0.0
    if data is not None and start:
        latents = (1 - start) * noise + start * data
    plain = condition.dropped()
    size = (1 - start) / options.num_steps
    kept = Kept.of(options, noise, _parts, generators)

    def take(point: Tensor, time: Tensor) -> Tensor:
        first, last = options.guided_times
        scale = options.guidance_scale if first <= float(time[0]) < last else 1.0
        velocity = guided(partial(network, point, time), condition, plain, scale)
        return point + size * velocity

    for step in range(options.num_steps):
        time = torch.full((len(latents),), start + step * size, device=latents.device)
        if kept is None:
            latents = take(latents, time)
        else:
            latents = kept.step(latents, time, time + size, partial(take, time=time))
    return latents


@torch.inference_mode()
def redraw(
    network: Velocity, condition: Condition, generators: Sequence[torch.Generator], options: SampleOptions
) -> Tensor:
    """Carry what is given over into what is wanted, with equal Euler steps along the difference of two velocities.

    Noise is drawn anew in each step, put into what is given, and what has changed so far is added; so nothing moves but
    what the two conditions say differently, and no point of the way is lost in noise.

    Args:
        network: The velocity.
        condition: What is wanted, of B items.
        generators: One for each item, source of its noise.
        options: With `init` and `given`. A step costs three passes. `guidance_scale` weighs what the condition says
            against what `given` says; where `keep` is, `init` stays.

    Returns:
        (B, C, H, W) latents.

    Source: Kulikov et al. 2024 (FlowEdit, https://arxiv.org/abs/2412.08629), algorithm 1 with one draw of noise; Liu et
    al. 2022 (Compositional diffusion, https://arxiv.org/abs/2206.01714), section 4.1, for the weight of one part of a
    condition alone.
    """
    init, given = options.init, options.given
    assert init is not None and given is not None
    latents, size = init, (1 - options.start) / options.num_steps
    for step in range(options.num_steps):
        time = torch.full((len(init),), options.start + step * size, device=init.device)
        data, noise = _parts(time)
        before = data * init + noise * normal(network.shape, generators).to(init.device)
        after = before + latents - init
        towards = guided(partial(network, after, time), condition, given, options.guidance_scale)
        latents = latents + size * (towards - network(before, time, given))
    return latents if options.keep is None else torch.where(options.keep, init, latents)


def _parts(time: Tensor) -> tuple[Tensor, Tensor]:
    """Return the parts of data and noise (B, 1, 1, 1) at times (B,)."""
    data = time[:, None, None, None]
    return data, 1 - data


@register_family("flow")
class FlowFamily(Family[FlowConfig, LatentUNet]):
    """The rectified flow on a U-Net."""

    Config = FlowConfig
    can = frozenset({"start", "mask", "guidance", "steps", "difference", "redraw", "style", "map"})
    about = "rectified flow: straight paths from noise to data, followed in steps"

    def build(self, config: FlowConfig, shape: Shape, embed_dim: int) -> LatentUNet:
        """Return the U-Net."""
        return LatentUNet(
            UNetConfig(
                *shape,
                embed_dim,
                config.neighbours,
                config.channels,
                config.multiples,
                config.blocks,
                styles=len(config.styles),
                map_channels=MAP_CHANNELS if config.maps else 0,
            )
        )

    def phases(self, config: FlowConfig) -> tuple[Phase, ...]:
        """Return the one loss."""
        return (Phase(partial(flow_loss, first_time=config.first_time, contrast=config.contrast)),)

    def sample(
        self,
        module: LatentUNet,
        condition: Condition,
        generators: Sequence[torch.Generator],
        options: SampleOptions,
    ) -> Tensor:
        """Follow the flow, or the difference of two of its velocities where something given is drawn anew."""
        if options.given is not None:
            return redraw(module, condition, generators, options)
        return follow(module, condition, generators, options)

    def difference(self, module: LatentUNet, latents: Tensor, given: Condition, wanted: Condition) -> Tensor:
        """Compare velocities half-way."""
        return difference(module, _parts, _HALF_WAY, latents, (given, wanted))

    def earliest(self, config: FlowConfig) -> float:
        """Return the first time of its training."""
        return config.first_time
