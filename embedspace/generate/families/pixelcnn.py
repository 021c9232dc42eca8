"""The PixelCNN family: tokens of latents cell by cell, by convolutions that see only what lies above and to the left.

Source: van den Oord et al. 2016 (gated PixelCNN, https://arxiv.org/abs/1606.05328), sections 2.2 to 2.4: two stacks
without a blind spot, gates, and the condition in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedspace.generate.conditioning import Condition
from embedspace.generate.families.base import Family, Phase, SampleOptions, Shape
from embedspace.generate.families.registry import register_family
from embedspace.generate.latents.tokens import (
    CellCondition,
    TokenConfig,
    Tokeniser,
    draw_tokens,
    token_loss,
    tokeniser_phase,
)

__all__ = ["PixelCNN", "PixelCNNConfig", "PixelCNNFamily"]


@dataclass(frozen=True, kw_only=True)
class PixelCNNConfig(TokenConfig):
    """Settings of a gated PixelCNN on tokens."""

    channels: int = 160
    layers: int = 8


class _GatedLayer(nn.Module):
    """One layer of both stacks."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.above = nn.Conv2d(width, 2 * width, (2, 3))
        self.beside = nn.Conv2d(width, 2 * width, (1, 2))
        self.down = nn.Conv2d(2 * width, 2 * width, 1)
        self.condition = nn.Conv2d(width, 4 * width, 1)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, above: Tensor, beside: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Map both stacks and the cells' conditions, (B, width, H, W) each, to the stacks one layer on."""
        of_above, of_beside = self.condition(cells).chunk(2, dim=1)
        seen = self.above(F.pad(above, (1, 1, 1, 0)))  # this row and the one before it
        before = F.pad(seen, (0, 0, 1, 0))[:, :, :-1]  # beside a row only what ends above it
        return _gated(seen + of_above), self.sideways(beside, before, of_beside)

    def sideways(self, beside: Tensor, before: Tensor, of_beside: Tensor) -> Tensor:
        """Map the stack beside, (B, width, h, W), one layer on; `before` is what the other stack saw a row above."""
        mixed = self.beside(F.pad(beside, (1, 0, 0, 0))) + self.down(before)
        out: Tensor = beside + self.out(_gated(mixed + of_beside))
        return out

    def downwards(self, row: Tensor, last: Tensor, of_above: Tensor) -> tuple[Tensor, Tensor]:
        """Map a row of the stack above and the one before it, (B, width, 1, W), to what is seen, and one layer on."""
        seen: Tensor = self.above(F.pad(torch.cat([last, row], dim=2), (1, 1, 0, 0)))
        return seen, _gated(seen + of_above)


def _gated(x: Tensor) -> Tensor:
    value, gate = x.chunk(2, dim=1)
    return value.tanh() * gate.sigmoid()


class PixelCNN(nn.Module):
    """A gated PixelCNN on tokens.

    Args:
        config: Its settings.
        shape: Channels, height and width of one item's latents.
        embed_dim: Width of the vectors of the space.
    """

    def __init__(self, config: PixelCNNConfig, shape: Shape, embed_dim: int) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        self.tokeniser = Tokeniser(config, shape[0])
        width = config.channels
        self.pieces = nn.Embedding(config.codes, width)
        self.condition = CellCondition(shape, embed_dim, config.neighbours, width)
        self.layers = nn.ModuleList([_GatedLayer(width) for _ in range(config.layers)])
        self.out = nn.Sequential(nn.SiLU(), nn.Conv2d(width, width, 1), nn.SiLU(), nn.Conv2d(width, config.codes, 1))

    def cells(self, condition: Condition) -> Tensor:
        """Return the condition of each cell (B, width, H, W)."""
        cells: Tensor = self.condition(condition)
        return cells.transpose(1, 2).reshape(len(cells), -1, *self.shape[1:])

    def forward(self, tokens: Tensor, cells: Tensor) -> Tensor:
        """Return logits (B, h, W, codes) of tokens (B, h, W) of the first h rows, each from those before it."""
        above = self.pieces(tokens).permute(0, 3, 1, 2)
        beside = F.pad(above, (1, 0, 0, 0))[:, :, :, :-1]
        for layer in self.layers:
            above, beside = layer(above, beside, cells[:, :, : tokens.shape[1]])
        logits: Tensor = self.out(beside)
        return logits.permute(0, 2, 3, 1)


class _Rows:
    """Draws row by row: what no later cell changes is computed once.

    Args:
        module: The network.
        cells: (B, width, H, W) from `cells`.
    """

    def __init__(self, module: PixelCNN, cells: Tensor) -> None:
        self.module, self.cells, self.number = module, cells, 0
        nothing = torch.zeros_like(cells[:, :, :1])
        self.last = [nothing for _ in module.layers]
        """Each layer's input of the stack above, at the row before."""
        self.before = [nothing.repeat(1, 2, 1, 1) for _ in module.layers]
        """What each layer's stack above saw there."""
        self.told = self._told()

    def _told(self) -> list[tuple[Tensor, ...]]:
        row = self.cells[:, :, self.number : self.number + 1]
        return [layer.condition(row).chunk(2, dim=1) for layer in self._layers]

    @property
    def _layers(self) -> list[_GatedLayer]:
        return [layer for layer in self.module.layers if isinstance(layer, _GatedLayer)]

    def logits(self, tokens: Tensor) -> Tensor:
        """Return logits (B, W, codes) of the tokens (B, W) of the row that is drawn, each from those before it."""
        beside = F.pad(self._pieces(tokens), (1, 0, 0, 0))[:, :, :, :-1]
        for layer, before, (_, of_beside) in zip(self._layers, self.before, self.told, strict=True):
            beside = layer.sideways(beside, before, of_beside)
        logits: Tensor = self.module.out(beside)
        return logits[:, :, 0].transpose(1, 2)

    def add(self, tokens: Tensor) -> None:
        """Go on to the next row; the tokens (B, W) of this one are drawn."""
        above = self._pieces(tokens)
        for number, (layer, (of_above, _)) in enumerate(zip(self._layers, self.told, strict=True)):
            self.before[number], on = layer.downwards(above, self.last[number], of_above)
            self.last[number], above = above, on
        self.number += 1
        if self.number < self.cells.shape[2]:
            self.told = self._told()

    def _pieces(self, tokens: Tensor) -> Tensor:
        pieces: Tensor = self.module.pieces(tokens)
        return pieces.transpose(1, 2)[:, :, None]


def _loss(module: PixelCNN, latents: Tensor, condition: Condition, generator: torch.Generator) -> Tensor:
    del generator
    with torch.no_grad():
        tokens = module.tokeniser.tokens(latents)
    logits = module(tokens.view(len(tokens), *module.shape[1:]), module.cells(condition))
    return token_loss(logits.flatten(1, 2), tokens)


@register_family("pixelcnn")
class PixelCNNFamily(Family[PixelCNNConfig, PixelCNN]):
    """Gated PixelCNN on the VQ-VAE's tokens."""

    Config = PixelCNNConfig
    can = frozenset({"guidance", "likelihood"})
    about = "gated PixelCNN: the same tokens, drawn one after the other by convolutions"

    def build(self, config: PixelCNNConfig, shape: Shape, embed_dim: int) -> PixelCNN:
        """Return tokeniser and convolutions."""
        return PixelCNN(config, shape, embed_dim)

    def phases(self, config: PixelCNNConfig) -> tuple[Phase, ...]:
        """Return the tokeniser's loss, then the convolutions'."""
        parts = ("pieces", "condition", "layers", "out")
        return tokeniser_phase(config), Phase(_loss, parts, name="tokens", span=(config.tokeniser, 1.0))

    @torch.inference_mode()
    def sample(
        self,
        module: PixelCNN,
        condition: Condition,
        generators: Sequence[torch.Generator],
        options: SampleOptions,
    ) -> Tensor:
        """Draw token by token; each costs a pass over its row, two with guidance."""
        _, height, width = module.shape
        guided = options.guidance_scale != 1.0
        ways = [
            _Rows(module, module.cells(way)) for way in ([condition, condition.dropped()] if guided else [condition])
        ]
        tokens = torch.zeros(len(generators), height, width, dtype=torch.long)
        for row in range(height):
            for column in range(width):
                found = [way.logits(tokens[:, row])[:, column] for way in ways]
                logits = found[0]
                if guided:
                    logits = found[1] + options.guidance_scale * (logits - found[1])
                tokens[:, row, column] = draw_tokens(logits[:, None], generators, module.config.temperature)[:, 0]
            for way in ways:
                way.add(tokens[:, row])
        return module.tokeniser.decode(tokens.flatten(1), height, width)

    @torch.inference_mode()
    def log_likelihood(self, module: PixelCNN, latents: Tensor, condition: Condition) -> Tensor:
        """Return the log-probability (B,) in nats of the tokens of latents."""
        tokens = module.tokeniser.tokens(latents)
        logits = module(tokens.view(len(tokens), *module.shape[1:]), module.cells(condition)).log_softmax(dim=3)
        result: Tensor = logits.flatten(1, 2).gather(2, tokens[:, :, None]).sum(dim=(1, 2))
        return result
