"""The WaveNet family: tokens of latents in the order of time, by dilated convolutions that see only what came before.

A sound's latents are a grid of bands by moments. Here one moment follows the other, and within it the bands, so that
what is drawn is the continuation of what was heard so far; `pixelcnn` and `vqvae` go band by band.

Source: van den Oord et al. 2016 (WaveNet, https://arxiv.org/abs/1609.03499), sections 2.1 to 2.5: dilations that
double, gates, a skip from each layer, the condition in the gates; le Paine et al. 2016
(https://arxiv.org/abs/1611.09482) for drawing with one step per token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedspace.errors import ConfigError
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

__all__ = ["WaveNet", "WaveNetConfig", "WaveNetFamily"]


@dataclass(frozen=True, kw_only=True)
class WaveNetConfig(TokenConfig):
    """Settings of a WaveNet on tokens.

    Attributes:
        cycle: Layers after which dilations, 1, 2, 4 and so on, begin at 1 again; 8 look 256 tokens back.
    """

    channels: int = 96
    layers: int = 16
    cycle: int = 8


class _DilatedLayer(nn.Module):
    """A gated convolution of a token with one `dilation` before it."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.now = nn.Linear(width, 2 * width)
        self.before = nn.Linear(width, 2 * width, bias=False)
        self.condition = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, 2 * width)

    def forward(self, x: Tensor, earlier: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Map x, the same a dilation earlier, and the cells' conditions, (..., width) each, to x and a skip."""
        value, gate = (self.now(x) + self.before(earlier) + self.condition(cells)).chunk(2, dim=-1)
        on, skip = self.out(value.tanh() * gate.sigmoid()).chunk(2, dim=-1)
        return x + on, skip


class WaveNet(nn.Module):
    """A WaveNet on tokens.

    Args:
        config: Its settings.
        shape: Channels, height and width of one item's latents.
        embed_dim: Width of the vectors of the space.

    Raises:
        ConfigError: If the cycle has no layer.
    """

    layers: nn.ModuleList

    def __init__(self, config: WaveNetConfig, shape: Shape, embed_dim: int) -> None:
        super().__init__()
        if config.cycle < 1:
            raise ConfigError(f"wavenet: cycle must be 1 or more, got {config.cycle}")
        self.config, self.shape = config, shape
        self.tokeniser = Tokeniser(config, shape[0])
        width = config.channels
        self.pieces = nn.Embedding(config.codes + 1, width)  # the last one begins
        self.bands = nn.Parameter(torch.empty(shape[1], width).normal_(std=0.02))
        self.condition = CellCondition(shape, embed_dim, config.neighbours, width)
        self.layers = nn.ModuleList([_DilatedLayer(width, 2 ** (k % config.cycle)) for k in range(config.layers)])
        self.out = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, config.codes))

    def in_time(self, tokens: Tensor) -> Tensor:
        """Return tokens (B, H * W) in the order in which they are drawn."""
        return tokens.view(-1, *self.shape[1:]).transpose(1, 2).flatten(1)

    def as_grid(self, tokens: Tensor) -> Tensor:
        """Undo `in_time`."""
        return tokens.view(-1, self.shape[2], self.shape[1]).transpose(1, 2).flatten(1)

    def cells(self, condition: Condition) -> Tensor:
        """Return what each token (B, T, width) in the order of time is told: the condition there, and its band."""
        cells: Tensor = self.condition(condition)
        ordered = cells.reshape(len(cells), *self.shape[1:], -1).transpose(1, 2)  # (B, W, H, width)
        told: Tensor = (ordered + self.bands).flatten(1, 2)
        return told

    def forward(self, tokens: Tensor, cells: Tensor) -> Tensor:
        """Return logits (B, T, codes) of each token (B, T), in the order of time, from those before it."""
        first = torch.full_like(tokens[:, :1], self.config.codes)
        x = self.pieces(torch.cat([first, tokens[:, :-1]], dim=1))
        total = torch.zeros((), device=x.device)
        for layer in self.layers:
            assert isinstance(layer, _DilatedLayer)
            earlier = F.pad(x, (0, 0, layer.dilation, 0))[:, : x.shape[1]]
            x, skip = layer(x, earlier, cells)
            total = total + skip
        logits: Tensor = self.out(total)
        return logits

    def step(self, last: Tensor, place: int, cells: Tensor, seen: list[list[Tensor]]) -> Tensor:
        """Return logits (B, codes) of the token of a place, after the last one (B,).

        Args:
            last: Token before it.
            place: Its number.
            cells: (B, T, width) from `cells`.
            seen: Each layer's inputs (B, width) at earlier places; extended.
        """
        x = self.pieces(last)
        total = torch.zeros((), device=x.device)
        for layer, before in zip(self.layers, seen, strict=True):
            assert isinstance(layer, _DilatedLayer)
            before.append(x)
            earlier = before[place - layer.dilation] if place >= layer.dilation else torch.zeros_like(x)
            x, skip = layer(x, earlier, cells[:, place])
            total = total + skip
        logits: Tensor = self.out(total)
        return logits


def _loss(module: WaveNet, latents: Tensor, condition: Condition, generator: torch.Generator) -> Tensor:
    del generator
    with torch.no_grad():
        tokens = module.in_time(module.tokeniser.tokens(latents))
    return token_loss(module(tokens, module.cells(condition)), tokens)


@register_family("wavenet")
class WaveNetFamily(Family[WaveNetConfig, WaveNet]):
    """WaveNet on the VQ-VAE's tokens."""

    Config = WaveNetConfig
    can = frozenset({"guidance", "likelihood"})
    about = "WaveNet: the same tokens, drawn in the order of time by dilated convolutions"

    def build(self, config: WaveNetConfig, shape: Shape, embed_dim: int) -> WaveNet:
        """Return tokeniser and convolutions."""
        return WaveNet(config, shape, embed_dim)

    def phases(self, config: WaveNetConfig) -> tuple[Phase, ...]:
        """Return the tokeniser's loss, then the convolutions'."""
        parts = ("pieces", "bands", "condition", "layers", "out")
        return tokeniser_phase(config), Phase(_loss, parts, name="tokens", span=(config.tokeniser, 1.0))

    @torch.inference_mode()
    def sample(
        self,
        module: WaveNet,
        condition: Condition,
        generators: Sequence[torch.Generator],
        options: SampleOptions,
    ) -> Tensor:
        """Draw token by token."""
        guided = options.guidance_scale != 1.0
        cells = [module.cells(way) for way in ([condition, condition.dropped()] if guided else [condition])]
        seen: list[list[list[Tensor]]] = [[[] for _ in module.layers] for _ in cells]
        last = torch.full((len(generators),), module.config.codes)
        drawn: list[Tensor] = []
        for place in range(cells[0].shape[1]):
            logits = module.step(last, place, cells[0], seen[0])
            if guided:
                other = module.step(last, place, cells[1], seen[1])
                logits = other + options.guidance_scale * (logits - other)
            last = draw_tokens(logits[:, None], generators, module.config.temperature)[:, 0]
            drawn.append(last)
        return module.tokeniser.decode(module.as_grid(torch.stack(drawn, dim=1)), *module.shape[1:])

    @torch.inference_mode()
    def log_likelihood(self, module: WaveNet, latents: Tensor, condition: Condition) -> Tensor:
        """Return the log-probability (B,) in nats of the tokens of latents."""
        tokens = module.in_time(module.tokeniser.tokens(latents))
        logits = module(tokens, module.cells(condition)).log_softmax(dim=2)
        return F.nll_loss(logits.flatten(0, 1), tokens.flatten(), reduction="none").view(len(tokens), -1).sum(1).neg()
