"""The MeanFlow family: one step from noise to data, by a network that learns the mean velocity over a span of time.

At time t a latent lies at (1 - t) noise + t data, as in the flow. The network predicts the mean of the velocity from t
to t + span; over a span of zero that is the flow's velocity, and one step over the span of 1 leads from noise to data.

Source: Geng et al. 2025 (https://arxiv.org/abs/2505.13447), equation 6 for the identity that is learnt and algorithms
1 and 2, with time running from noise to data; their adaptive weight is section 4.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from embedspace.generate.conditioning import Condition, guided, normal
from embedspace.generate.families.base import Family, FamilyConfig, Phase, SampleOptions, Shape
from embedspace.generate.families.registry import register_family
from embedspace.generate.latents.unet import LatentUNet, UNetConfig

__all__ = ["MeanFlowConfig", "MeanFlowFamily", "mean_flow_loss"]

_STEP = 0.005
"""Time before and after a point from which a slope is measured: forward derivatives know too few kernels."""
_SOFT = 1e-3
"""Added to a squared error before its root weighs it."""


@dataclass(frozen=True, kw_only=True)
class MeanFlowConfig(FamilyConfig):
    """Settings of a MeanFlow.

    Attributes:
        channels: Width of the outer level of its network.
        multiples: Multiples of it, level by level.
        blocks: Residual blocks a level.
        instant: Share of a batch whose span is zero: the flow's own loss.
    """

    channels: int = 96
    multiples: tuple[int, ...] = (1, 2)
    blocks: int = 2
    instant: float = 0.75
    num_steps: int | None = 1


def mean_flow_loss(
    network: LatentUNet,
    latents: Tensor,
    condition: Condition,
    generator: torch.Generator | None = None,
    instant: float = 0.75,
) -> Tensor:
    """Return the weighted squared error of the mean velocity over random spans.

    With u(z, t, s) the mean velocity over [t, t + s], s u is how far a point moves. Where the point moves on with the
    velocity v while the end of the span stays, s shrinks as t grows, and so u = v + s du/dt.

    Args:
        network: Predicts u, told the span.
        latents: (B, C, H, W) data, standardised.
        condition: Condition of each, with what is to be dropped dropped.
        generator: Source of noise and times.
        instant: Share of spans of zero.
    """
    count = len(latents)
    noise = torch.randn(latents.shape, generator=generator)
    ends = (torch.randn(2, count, generator=generator) + 0.4).sigmoid()  # later times are nearer to the data
    time, end = ends.min(dim=0).values, ends.max(dim=0).values
    end = torch.where(torch.rand(count, generator=generator) < instant, time, end)
    span, share = end - time, time[:, None, None, None]
    point, velocity = (1 - share) * noise + share * latents, latents - noise

    mean = network(point, time, condition, span)
    with torch.no_grad():
        later, earlier = (
            network(point + step * velocity, time + step, condition, span - step) for step in (_STEP, -_STEP)
        )
        target = velocity + span[:, None, None, None] * (later - earlier) / (2 * _STEP)
    error = (mean - target).square().mean(dim=(1, 2, 3))
    result: Tensor = (error / (error.detach() + _SOFT)).mean() if torch.is_grad_enabled() else error.mean()
    return result


@register_family("meanflow")
class MeanFlowFamily(Family[MeanFlowConfig, LatentUNet]):
    """The mean velocity on the flow's U-Net."""

    Config = MeanFlowConfig
    can = frozenset({"guidance", "steps"})
    about = "MeanFlow: one step over the mean velocity, more where asked for"

    def build(self, config: MeanFlowConfig, shape: Shape, embed_dim: int) -> LatentUNet:
        """Return a U-Net that is told the span."""
        size = UNetConfig(
            *shape, embed_dim, config.neighbours, config.channels, config.multiples, config.blocks, spans=True
        )
        return LatentUNet(size)

    def phases(self, config: MeanFlowConfig) -> tuple[Phase, ...]:
        """Return the one loss, in full precision: derivatives of bfloat16 are too coarse."""
        return (Phase(partial(mean_flow_loss, instant=config.instant), autocast=False),)

    @torch.inference_mode()
    def sample(
        self,
        module: LatentUNet,
        condition: Condition,
        generators: Sequence[torch.Generator],
        options: SampleOptions,
    ) -> Tensor:
        """Go from noise to data in equal spans; guidance costs a second pass in each."""
        latents = normal(module.shape, generators).to(condition.vector.device)
        plain, size = condition.dropped(), 1 / options.num_steps
        span = torch.full((len(latents),), size)
        for step in range(options.num_steps):
            time = torch.full((len(latents),), step * size)
            mean = guided(partial(module, latents, time, span=span), condition, plain, options.guidance_scale)
            latents = latents + size * mean
        return latents
