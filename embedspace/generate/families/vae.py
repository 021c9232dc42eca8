"""The VAE family: one pass from noise and a condition to latents; the plain comparison beside the flow.

Source: Sohn et al. 2015 (conditional VAE, https://papers.nips.cc/paper/5775), equation 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedspace.generate.conditioning import Condition, normal
from embedspace.generate.families.registry import register_family
from embedspace.generate.latents.autoencoder import kl_divergence
from embedspace.generate.latents.blocks import ResBlock

__all__ = ["LatentVAE", "VAEConfig", "sample", "vae_loss"]


@dataclass(frozen=True, slots=True)
class VAEConfig:
    """Size of a `LatentVAE`.

    Attributes:
        latent_dim: Channels of the latents.
        height: Cells.
        width: Cells.
        embed_dim: Width of the vectors of the space.
        code_dim: Width of the code that is drawn.
        channels: Width.
    """

    latent_dim: int = 8
    height: int = 8
    width: int = 8
    embed_dim: int = 256
    code_dim: int = 64
    channels: int = 96


class LatentVAE(nn.Module):
    """A conditional VAE on latents."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        width, grid = config.channels, config.height * config.width
        self.condition = nn.Linear(config.embed_dim + 1, width)
        self.read = nn.Sequential(nn.Conv2d(config.latent_dim, width, 3, padding=1), ResBlock(width, width), nn.SiLU())
        self.code = nn.Linear(width + width, 2 * config.code_dim)
        self.enter = nn.Linear(config.code_dim + width, grid * width // 4)
        self.widen = nn.Conv2d(width // 4, width, 3, padding=1)
        self.blocks = nn.ModuleList([ResBlock(width, width, width) for _ in range(3)])
        self.out = nn.Conv2d(width, config.latent_dim, 3, padding=1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one item's latents."""
        return self.config.latent_dim, self.config.height, self.config.width

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
        x = self.widen(grid.view(len(code), -1, self.config.height, self.config.width))
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


@torch.inference_mode()
def sample(
    network: LatentVAE,
    condition: Condition,
    *,
    num_steps: int,
    guidance_scale: float,
    generator: Sequence[torch.Generator],
    start: float = 0.0,
) -> Tensor:
    """Draw codes and decode them; arguments as `flow.sample`, of which `num_steps` and `start` change nothing here.

    Returns:
        (B, C, H, W) latents.
    """
    del num_steps, start
    code = normal((network.config.code_dim,), generator).to(condition.vector.device)
    latents = network.decode(code, condition)
    if guidance_scale != 1.0:
        other = network.decode(code, condition.dropped())
        latents = other + guidance_scale * (latents - other)
    return latents


@register_family("vae", sample)
def _create(sizes: Mapping[str, Any]) -> LatentVAE:
    return LatentVAE(VAEConfig(**sizes))
