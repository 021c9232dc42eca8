"""The MaskGIT family: all tokens at once, from masked to known in a few rounds, the surest first.

Source: Chang et al. 2022 (https://arxiv.org/abs/2202.04200), sections 3.1 and 3.2: the cosine schedule, the loss on
masked tokens, and decoding by confidence with noise that fades.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from embedspace.generate.conditioning import Condition, guided
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

__all__ = ["MaskGITConfig", "MaskGITFamily", "MaskedTransformer"]


@dataclass(frozen=True, kw_only=True)
class MaskGITConfig(TokenConfig):
    """Settings of a MaskGIT.

    Attributes:
        heads: Attention heads.
        dropout: In training.
        choice_temperature: How much chance there is, at first, in which tokens are kept.
    """

    heads: int = 4
    dropout: float = 0.1
    choice_temperature: float = 4.0
    num_steps: int | None = 12


class MaskedTransformer(nn.Module):
    """A transformer that sees all cells, some of them masked.

    Args:
        config: Its settings.
        shape: Channels, height and width of one item's latents.
        embed_dim: Width of the vectors of the space.
    """

    def __init__(self, config: MaskGITConfig, shape: Shape, embed_dim: int) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        self.tokeniser = Tokeniser(config, shape[0])
        width, cells = config.channels, shape[1] * shape[2]
        self.pieces = nn.Embedding(config.codes + 1, width)  # the last one is the mask
        self.places = nn.Parameter(torch.empty(cells, width).normal_(std=0.02))
        self.condition = CellCondition(shape, embed_dim, config.neighbours, width)
        self.blocks = nn.ModuleList(
            [TransformerBlock(width, config.heads, config.dropout, causal=False) for _ in range(config.layers)]
        )
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, config.codes)
        nn.init.normal_(self.pieces.weight, std=0.02)

    def forward(self, tokens: Tensor, condition: Condition) -> Tensor:
        """Return logits (B, T, codes) of all cells from tokens (B, T), `codes` where they are masked."""
        x = self.pieces(tokens) + self.places + self.condition(condition)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.out(self.norm(x))
        return logits


def _loss(module: MaskedTransformer, latents: Tensor, condition: Condition, generator: torch.Generator) -> Tensor:
    with torch.no_grad():
        tokens = module.tokeniser.tokens(latents)
    share = torch.cos(torch.rand(len(tokens), 1, generator=generator) * math.pi / 2)
    masked = torch.rand(tokens.shape, generator=generator) < share
    return token_loss(module(tokens.masked_fill(masked, module.config.codes), condition), tokens, masked)


@register_family("maskgit")
class MaskGITFamily(Family[MaskGITConfig, MaskedTransformer]):
    """MaskGIT on the VQ-VAE's tokens."""

    Config = MaskGITConfig
    can = frozenset({"mask", "guidance", "steps"})
    about = "MaskGIT: the same tokens, all at once, the surest first"

    def build(self, config: MaskGITConfig, shape: Shape, embed_dim: int) -> MaskedTransformer:
        """Return tokeniser and transformer."""
        return MaskedTransformer(config, shape, embed_dim)

    def phases(self, config: MaskGITConfig) -> tuple[Phase, ...]:
        """Return the tokeniser's loss, then the transformer's."""
        parts = ("pieces", "places", "condition", "blocks", "norm", "out")
        return tokeniser_phase(config), Phase(_loss, parts, name="tokens", span=(config.tokeniser, 1.0))

    @torch.inference_mode()
    def sample(
        self,
        module: MaskedTransformer,
        condition: Condition,
        generators: Sequence[torch.Generator],
        options: SampleOptions,
    ) -> Tensor:
        """Draw all masked cells in each round, and keep the surest; what an edit keeps is known from the start."""
        config, cells = module.config, module.shape[1] * module.shape[2]
        tokens = torch.full((len(generators), cells), config.codes)
        if options.init is not None and options.keep is not None:
            tokens = torch.where(options.keep.flatten(1), module.tokeniser.tokens(options.init), tokens)
        wanted = (tokens == config.codes).sum(dim=1)
        plain = condition.dropped()
        for step in range(options.num_steps):
            logits = guided(partial(module, tokens), condition, plain, options.guidance_scale)
            drawn = draw_tokens(logits, generators, config.temperature)
            masked = tokens == config.codes
            sure = logits.log_softmax(dim=2).gather(2, drawn[:, :, None])[:, :, 0]
            done = (step + 1) / options.num_steps
            uniform = torch.stack([torch.rand(cells, generator=generator) for generator in generators])
            gumbel = -torch.log(-torch.log(uniform.clamp(1e-9, 1 - 1e-7)))
            sure = (sure + config.choice_temperature * (1 - done) * gumbel).masked_fill(~masked, math.inf)
            drawn = torch.where(masked, drawn, tokens)
            left = (wanted * math.cos(done * math.pi / 2)).floor().clamp(max=cells - 1) * (done < 1)
            again = sure.argsort(dim=1).argsort(dim=1) < left[:, None]
            tokens = drawn.masked_fill(again, config.codes)
        latents = module.tokeniser.decode(tokens, *module.shape[1:])
        if options.init is not None and options.keep is not None:
            latents = torch.where(options.keep, options.init, latents)
        return latents
