"""The convolutional U-Net on latents, conditioned on time, a vector with known noise, and neighbours' latents.

Neighbours enter as channels beside the noisy latents, nearest first: what they draw in a cell is most useful in that
cell, and convolutions read it at no cost in attention. In training they never hold the item itself.

Source: Ronneberger et al. 2015 (https://arxiv.org/abs/1505.04597); Blattmann et al. 2022 (retrieval-augmented
diffusion, https://arxiv.org/abs/2204.11824), section 3, for neighbours of the training set as condition.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedspace.generate.conditioning import Condition
from embedspace.generate.latents.blocks import GridAttention, ResBlock, embed_scalar
from embedspace.generate.latents.conditioned import context_channels, map_channels, style_numbers

__all__ = ["LatentUNet", "UNetConfig"]


@dataclass(frozen=True, slots=True)
class UNetConfig:
    """Size of a `LatentUNet`.

    Attributes:
        latent_dim: Channels of the latents.
        height: Cells.
        width: Cells.
        embed_dim: Width of the vectors of the space.
        neighbours: Latents in the context; 0 for none.
        channels: Width of the outer level.
        multiples: Multiples of it, level by level; each halves the grid.
        blocks: Residual blocks a level.
        spans: Whether it is told a second time, up to which its answer is to hold.
        styles: Sources whose style it may be told.
        map_channels: Channels of a map; 0 for none.
    """

    latent_dim: int = 8
    height: int = 8
    width: int = 8
    embed_dim: int = 256
    neighbours: int = 3
    channels: int = 96
    multiples: tuple[int, ...] = (1, 2)
    blocks: int = 2
    spans: bool = False
    styles: int = 0
    map_channels: int = 0


class LatentUNet(nn.Module):
    """Predicts the velocity of latents."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.channels * m for m in config.multiples]
        hidden = 2 * config.channels
        self.time = nn.Linear(config.channels, hidden)
        self.span = nn.Linear(config.channels, hidden) if config.spans else None
        self.noise = nn.Linear(config.channels, hidden)
        self.vector = nn.Linear(config.embed_dim, hidden)
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        entering = config.latent_dim * (1 + config.neighbours) + config.map_channels
        self.enter = nn.Conv2d(entering, widths[0], 3, padding=1)
        self.down, self.lower = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            self.down.append(nn.ModuleList([ResBlock(width, width, hidden) for _ in range(config.blocks)]))
            if level + 1 < len(widths):
                self.lower.append(nn.Conv2d(width, widths[level + 1], 3, stride=2, padding=1))
        self.middle = nn.ModuleList(
            [ResBlock(widths[-1], widths[-1], hidden), ResBlock(widths[-1], widths[-1], hidden)]
        )
        self.attention = GridAttention(widths[-1])
        self.up, self.raise_ = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(len(widths))):
            width = widths[level]
            self.up.append(nn.ModuleList([ResBlock(2 * width, width, hidden) for _ in range(config.blocks)]))
            if level:
                self.raise_.append(nn.Conv2d(width, widths[level - 1], 3, padding=1))
        self.leave = nn.Sequential(nn.GroupNorm(8 if widths[0] % 8 == 0 else 1, widths[0]), nn.SiLU())
        self.out = nn.Conv2d(widths[0], config.latent_dim, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        self.out.bias = nn.Parameter(torch.zeros(config.latent_dim))
        self.style = nn.Embedding(config.styles + 1, hidden) if config.styles else None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one item's latents."""
        return self.config.latent_dim, self.config.height, self.config.width

    def forward(self, latents: Tensor, time: Tensor, condition: Condition, span: Tensor | None = None) -> Tensor:
        """Return the velocity (B, C, H, W) at latents (B, C, H, W) and times (B,) in [0, 1], over spans (B,)."""
        size = self.config.channels
        told = (
            self.time(embed_scalar(time, size))
            + self.noise(embed_scalar(condition.sigma, size, 100.0))
            + self.vector(condition.vector * condition.vector.shape[1] ** 0.5)
        )
        if self.span is not None and span is not None:
            told = told + self.span(embed_scalar(span, size))
        if self.style is not None:
            told = told + self.style(style_numbers(condition))
        embedding = self.mix(told)
        entering = [latents, context_channels(condition, self.shape, self.config.neighbours)]
        if self.config.map_channels:
            entering.append(map_channels(condition, self.shape, self.config.map_channels))
        x = self.enter(torch.cat(entering, dim=1))
        kept: list[Tensor] = []
        for level, blocks in enumerate(self.down):
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                x = block(x, embedding)
                kept.append(x)
            if level < len(self.lower):
                x = self.lower[level](x)
        x = self.middle[1](self.attention(self.middle[0](x, embedding)), embedding)
        for level, blocks in enumerate(self.up):
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                x = block(torch.cat([x, kept.pop()], dim=1), embedding)
            if level < len(self.raise_):
                x = self.raise_[level](F.interpolate(x, size=kept[-1].shape[2:], mode="nearest"))
        out: Tensor = self.out(self.leave(x))
        return out
