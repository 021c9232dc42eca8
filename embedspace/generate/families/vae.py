"""The VAE family: one pass from noise and a condition to latents; the plain comparison beside the flow.

Source: Sohn et al. 2015 (conditional VAE, https://papers.nips.cc/paper/5775), equation 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedspace.generate.conditioning import Condition, guided, normal
from embedspace.generate.families.base import Family, FamilyConfig, Phase, SampleOptions, Shape
from embedspace.generate.families.registry import register_family
from embedspace.generate.latents.autoencoder import kl_divergence
from embedspace.generate.latents.blocks import ResBlock
from embedspace.generate.latents.conditioned import context_channels

__all__ = ["LatentVAE", "VAEConfig", "VAEFamily", "vae_loss"]


@dataclass(frozen=True, kw_only=True)
class VAEConfig(FamilyConfig):
    """Settings of a conditional VAE.

    Attributes:
        code_dim: Width of the code that is drawn.
        channels: Width.
        beta: Weight of the divergence.
    """

    code_dim: int = 64
    channels: int = 96
    beta: float = 0.02
    neighbours: int = 0
    steps: int = 2500


class LatentVAE(nn.Module):
    """A conditional VAE on latents.

    Args:
        config: Its settings.
        shape: Channels, height and width of one item's latents.
        embed_dim: Width of the vectors of the space.
    """

    def __init__(self, config: VAEConfig, shape: Shape, embed_dim: int) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        width, grid = config.channels, shape[1] * shape[2]
        self.condition = nn.Linear(embed_dim + 1, width)
        self.read = nn.Sequential(nn.Conv2d(shape[0], width, 3, padding=1), ResBlock(width, width), nn.SiLU())
        self.code = nn.Linear(width + width, 2 * config.code_dim)
        self.enter = nn.Linear(config.code_dim + width, grid * width // 4)
        self.widen = nn.Conv2d(width // 4, width, 3, padding=1)
        self.blocks = nn.ModuleList([ResBlock(width, width, width) for _ in range(3)])
        self.out = nn.Conv2d(width, shape[0], 3, padding=1)
        self.near = nn.Conv2d(config.neighbours * shape[0], width, 3, padding=1) if config.neighbours else None

    def embed(self, condition: Condition) -> Tensor:
        """Return (B, channels)."""
        scaled = condition.vector * condition.vector.shape[1] ** 0.5
        return F.silu(self.condition(torch.cat([scaled, condition.sigma[:, None]], dim=1)))

    def posterior(self, latents: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance (B, code_dim) of the code of latents (B, C, H, W)."""
        pooled = self.read(latents).mean(dim=(2, 3))
        mean, log_variance = self.code(torch.cat([pooled, self.embed(condition)], dim=1)).chunk(2, dim=1)
        return mean, log_variance.clamp(-10.0, 5.0)

    def decode(self, code: Tensor, condition: Condition) -> Tensor:
        """Return latents (B, C, H, W) of codes (B, code_dim)."""
        embedding = self.embed(condition)
        grid = self.enter(torch.cat([code, embedding], dim=1))
        x = self.widen(grid.view(len(code), -1, *self.shape[1:]))
        if self.near is not None:
            x = x + self.near(context_channels(condition, self.shape, self.config.neighbours))
        for block in self.blocks:
            x = block(x, embedding)
        out: Tensor = self.out(x)
        return out


def vae_loss(
    network: LatentVAE,
    latents: Tensor,
    condition: Condition,
    generator: torch.Generator | None = None,
    beta: float = 0.02,
) -> Tensor:
    """Return the squared error of the reconstruction plus `beta` times the divergence, both means over entries."""
    mean, log_variance = network.posterior(latents, condition)
    noise = torch.randn(mean.shape, generator=generator).to(mean.device)
    decoded = network.decode(mean + noise * (0.5 * log_variance).exp(), condition)
    return (decoded - latents).square().mean() + beta * kl_divergence(mean, log_variance)


@register_family("vae")
class VAEFamily(Family[VAEConfig, LatentVAE]):
    """The conditional VAE."""

    Config = VAEConfig
    can = frozenset({"guidance"})
    about = "conditional VAE: a drawn code is decoded in one pass"

    def build(self, config: VAEConfig, shape: Shape, embed_dim: int) -> LatentVAE:
        """Return encoder and decoder."""
        return LatentVAE(config, shape, embed_dim)

    def phases(self, config: VAEConfig) -> tuple[Phase, ...]:
        """Return the one loss."""
        return (Phase(partial(vae_loss, beta=config.beta)),)

    @torch.inference_mode()
    def sample(
        self, module: LatentVAE, condition: Condition, generators: Sequence[torch.Generator], options: SampleOptions
    ) -> Tensor:
        """Draw codes and decode them."""
        code = normal((module.config.code_dim,), generators).to(condition.vector.device)
        return guided(partial(module.decode, code), condition, condition.dropped(), options.guidance_scale)
