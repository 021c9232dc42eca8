"""The VQ-VAE family: tokens of latents, drawn one after the other by a transformer.

Source: van den Oord et al. 2017 (https://arxiv.org/abs/1711.00937) for two stages; Esser et al. 2021
(https://arxiv.org/abs/2012.09841), section 3.2, for the transformer; Sanchez et al. 2023
(https://arxiv.org/abs/2306.17806), equation 2, for guidance of logits.
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
from embedspace.generate.latents.transformer import TransformerBlock

__all__ = ["TokenTransformer", "VQVAEConfig", "VQVAEFamily"]


@dataclass(frozen=True, kw_only=True)
class VQVAEConfig(TokenConfig):
    """Settings of a VQ-VAE and its transformer.

    Attributes:
        heads: Attention heads.
        dropout: In training.
    """

    heads: int = 4
    dropout: float = 0.1


class TokenTransformer(nn.Module):
    """A causal transformer: at each cell it knows the condition there and the tokens before.

    Args:
        config: Its settings.
        shape: Channels, height and width of one item's latents.
        embed_dim: Width of the vectors of the space.
    """

    def __init__(self, config: VQVAEConfig, shape: Shape, embed_dim: int) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        self.tokeniser = Tokeniser(config, shape[0])
        width, cells = config.channels, shape[1] * shape[2]
        self.pieces = nn.Embedding(config.codes + 1, width)  # the last one begins
        self.places = nn.Parameter(torch.empty(cells, width).normal_(std=0.02))
        self.condition = CellCondition(shape, embed_dim, config.neighbours, width)
        self.blocks = nn.ModuleList(
            [TransformerBlock(width, config.heads, config.dropout) for _ in range(config.layers)]
        )
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, config.codes)
        nn.init.normal_(self.pieces.weight, std=0.02)

    def forward(self, tokens: Tensor, condition: Condition) -> Tensor:
        """Return logits (B, T, codes) of each of the tokens (B, T), from those before it."""
        first = torch.full_like(tokens[:, :1], self.config.codes)
        x = self.pieces(torch.cat([first, tokens[:, :-1]], dim=1)) + self.places + self.condition(condition)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.out(self.norm(x))
        return logits

    def step(self, last: Tensor, place: int, cells: Tensor, caches: list[list[Tensor]]) -> Tensor:
        """Return logits (B, codes) of the token of a place, after the last one (B,).

        Args:
            last: Token before it.
            place: Its number.
            cells: (B, T, width) from `condition`.
            caches: Keys and values of earlier places, by layer; extended.
        """
        x = self.pieces(last)[:, None] + self.places[place] + cells[:, place : place + 1]
        for block, cache in zip(self.blocks, caches, strict=True):
            x = block(x, cache)
        logits: Tensor = self.out(self.norm(x[:, 0]))
        return logits


def _loss(module: TokenTransformer, latents: Tensor, condition: Condition, generator: torch.Generator) -> Tensor:
    del generator
    with torch.no_grad():
        tokens = module.tokeniser.tokens(latents)
    return token_loss(module(tokens, condition), tokens)


@register_family("vqvae")
class VQVAEFamily(Family[VQVAEConfig, TokenTransformer]):
    """VQ-VAE and transformer."""

    Config = VQVAEConfig
    can = frozenset({"guidance", "likelihood"})
    about = "VQ-VAE: tokens, drawn one after the other by a transformer"

    def build(self, config: VQVAEConfig, shape: Shape, embed_dim: int) -> TokenTransformer:
        """Return tokeniser and transformer."""
        return TokenTransformer(config, shape, embed_dim)

    def phases(self, config: VQVAEConfig) -> tuple[Phase, ...]:
        """Return the tokeniser's loss, then the transformer's."""
        parts = ("pieces", "places", "condition", "blocks", "norm", "out")
        return tokeniser_phase(config), Phase(_loss, parts, name="tokens", span=(config.tokeniser, 1.0))

    @torch.inference_mode()
    def sample(
        self,
        module: TokenTransformer,
        condition: Condition,
        generators: Sequence[torch.Generator],
        options: SampleOptions,
    ) -> Tensor:
        """Draw token by token."""
        guided = options.guidance_scale != 1.0
        ways = [condition, condition.dropped()] if guided else [condition]
        cells = [module.condition(way) for way in ways]
        caches: list[list[list[Tensor]]] = [[[] for _ in module.blocks] for _ in ways]
        last = torch.full((len(condition.vector),), module.config.codes)
        drawn: list[Tensor] = []
        for place in range(cells[0].shape[1]):
            logits = module.step(last, place, cells[0], caches[0])
            if guided:
                other = module.step(last, place, cells[1], caches[1])
                logits = other + options.guidance_scale * (logits - other)
            last = draw_tokens(logits[:, None], generators, module.config.temperature)[:, 0]
            drawn.append(last)
        return module.tokeniser.decode(torch.stack(drawn, dim=1), *module.shape[1:])

    @torch.inference_mode()
    def log_likelihood(self, module: TokenTransformer, latents: Tensor, condition: Condition) -> Tensor:
        """Return the log-probability (B,) in nats of the tokens of latents."""
        tokens = module.tokeniser.tokens(latents)
        logits = module(tokens, condition).log_softmax(dim=2)
        return F.nll_loss(logits.flatten(0, 1), tokens.flatten(), reduction="none").view(len(tokens), -1).sum(1).neg()
