"""Tokens of latents: each cell becomes one of a few hundred codes, and codes become latents again.

Source: van den Oord et al. 2017 (VQ-VAE, https://arxiv.org/abs/1711.00937), equation 3; Yu et al. 2021 (ViT-VQGAN,
https://arxiv.org/abs/2110.04627), section 3.2, for narrow codes of unit length, which keep all codes in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedspace.generate.conditioning import Condition
from embedspace.generate.families.base import FamilyConfig, Phase, Shape
from embedspace.generate.latents.blocks import ResBlock
from embedspace.generate.latents.conditioned import ConditionEmbedding, context_channels

__all__ = ["CellCondition", "TokenConfig", "Tokeniser", "draw_tokens", "token_loss", "tokeniser_phase"]

_COMMITMENT = 0.25


@dataclass(frozen=True, kw_only=True)
class TokenConfig(FamilyConfig):
    """Settings of families that draw tokens; those with the same first six and the same seed have the same tokens.

    Attributes:
        codes: Size of the codebook.
        code_dim: Width of a code.
        token_channels: Width of the networks around the codebook.
        tokeniser: Share of the steps that the tokens are learnt in, before what draws them.
        channels: Width of what draws them.
        layers: Layers of that.
        temperature: Of the draw.
    """

    codes: int = 512
    code_dim: int = 8
    token_channels: int = 64
    tokeniser: float = 0.25
    channels: int = 256
    layers: int = 5
    temperature: float = 1.0
    start: float | None = 0.0
    guidance_scale: float | None = 2.0


class Tokeniser(nn.Module):
    """Latents to a grid of codes and back.

    Args:
        config: Its settings.
        channels: Of the latents.
    """

    def __init__(self, config: TokenConfig, channels: int) -> None:
        super().__init__()
        width = config.token_channels
        self.enter = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            ResBlock(width, width),
            nn.SiLU(),
            nn.Conv2d(width, config.code_dim, 1),
        )
        self.codebook = nn.Parameter(F.normalize(torch.randn(config.codes, config.code_dim), dim=1))
        self.leave = nn.Sequential(
            nn.Conv2d(config.code_dim, width, 3, padding=1),
            ResBlock(width, width),
            ResBlock(width, width),
            nn.SiLU(),
            nn.Conv2d(width, channels, 3, padding=1),
        )

    def tokens(self, latents: Tensor) -> Tensor:
        """Return the codes (B, H * W) of latents (B, C, H, W)."""
        return self._nearest(self._cells(latents)).flatten(1)

    def decode(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Return latents (B, C, H, W) of codes (B, H * W)."""
        cells = F.normalize(self.codebook, dim=1)[tokens]
        out: Tensor = self.leave(cells.view(len(tokens), height, width, -1).permute(0, 3, 1, 2))
        return out

    def loss(self, latents: Tensor) -> Tensor:
        """Return the squared errors of what comes back, of the codes, and of the cells that should be near them."""
        cells = self._cells(latents)  # (B, H, W, code_dim)
        found = F.normalize(self.codebook, dim=1)[self._nearest(cells)]
        passed = cells + (found - cells).detach()  # the gradient goes past the choice
        back = self.leave(passed.permute(0, 3, 1, 2))
        apart = (found - cells.detach()).square().mean() + _COMMITMENT * (cells - found.detach()).square().mean()
        result: Tensor = (back - latents).square().mean() + apart
        return result

    def _cells(self, latents: Tensor) -> Tensor:
        return F.normalize(self.enter(latents).float().permute(0, 2, 3, 1), dim=3)

    def _nearest(self, cells: Tensor) -> Tensor:
        return (cells.detach() @ F.normalize(self.codebook.detach(), dim=1).T).argmax(dim=3)


class CellCondition(nn.Module):
    """The condition of each cell of a grid: the vector for all, the neighbours' latents where they lie.

    Args:
        shape: Channels, height and width of one item's latents.
        embed_dim: Width of the vectors.
        neighbours: Latents in the context.
        width: Of what is returned.
    """

    def __init__(self, shape: Shape, embed_dim: int, neighbours: int, width: int) -> None:
        super().__init__()
        self.shape, self.neighbours = shape, neighbours
        self.vector = ConditionEmbedding(embed_dim, width)
        self.near = nn.Conv2d(max(1, neighbours * shape[0]), width, 3, padding=1)

    def forward(self, condition: Condition) -> Tensor:
        """Return (B, H * W, width)."""
        cells: Tensor = self.vector(condition)[:, None]
        if not self.neighbours:
            return cells.expand(-1, self.shape[1] * self.shape[2], -1)
        near: Tensor = self.near(context_channels(condition, self.shape, self.neighbours))
        return cells + near.flatten(2).transpose(1, 2)


def _tokeniser_loss(module: nn.Module, latents: Tensor, condition: Condition, generator: torch.Generator) -> Tensor:
    del condition, generator
    tokeniser = module.tokeniser
    assert isinstance(tokeniser, Tokeniser)
    return tokeniser.loss(latents)


def tokeniser_phase(config: TokenConfig) -> Phase:
    """Return the phase that trains `module.tokeniser`."""
    return Phase(_tokeniser_loss, ("tokeniser",), span=(0.0, config.tokeniser))


def token_loss(logits: Tensor, tokens: Tensor, counted: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of tokens (B, T) under logits (B, T, codes), where `counted` (B, T) says so."""
    losses = F.cross_entropy(logits.float().flatten(0, 1), tokens.flatten(), reduction="none")
    if counted is None:
        return losses.mean()
    return (losses * counted.flatten()).sum() / counted.sum().clamp(min=1)


def draw_tokens(logits: Tensor, generators: Sequence[torch.Generator], temperature: float) -> Tensor:
    """Draw tokens (B, T) from logits (B, T, codes), each row from its own generator.

    Source: Gumbel 1954, the maximum of noisy logits.
    """
    uniform = torch.stack([torch.rand(logits.shape[1:], generator=generator) for generator in generators])
    gumbel = -torch.log(-torch.log(uniform.clamp(1e-9, 1 - 1e-7)))
    drawn: Tensor = (logits.float() / max(temperature, 1e-6) + gumbel).argmax(dim=2)
    return drawn
