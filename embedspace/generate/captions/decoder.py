"""The decoder of captions: a caption piece by piece, from a vector.

The network is a decoder whose first positions are made from the vector, "soft" pieces before the real ones. It also
knows where each piece lies in the space: a piece near the vector is likelier, by a weight that the network sets at
each position. So it need not learn what words mean, only which come when, and knows words that few captions hold. What
has been said is near no longer.

Source: Mokady et al. 2021 (ClipCap, https://arxiv.org/abs/2111.09734) for the prefix; Li et al. 2023 (DeCap,
https://arxiv.org/abs/2303.03032) for a decoder trained on text vectors alone; Sanchez et al. 2023
(https://arxiv.org/abs/2306.17806), equation 2, for guidance of logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedspace.generate.conditioning import Condition
from embedspace.generate.latents.transformer import TransformerBlock

__all__ = ["CaptionDecoder", "DecoderConfig", "beam_search", "sample"]

_NEARNESS = 8.0  # weight of a piece's cosine before anything is learnt
PAD, BEGIN, END = 0, 1, 2
"""Ids of the marks in every caption vocabulary."""


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Size of a `CaptionDecoder`.

    Attributes:
        embed_dim: Width of the vectors of the space.
        vocabulary: Pieces, the three marks included.
        width: Width of the transformer.
        layers: Layers of the transformer.
        heads: Attention heads.
        prefix: Positions that the vector becomes.
        max_pieces: Longest caption in pieces, its end mark included.
        dropout: In training.
    """

    embed_dim: int = 256
    vocabulary: int = 4096
    width: int = 256
    layers: int = 4
    heads: int = 4
    prefix: int = 4
    max_pieces: int = 20
    dropout: float = 0.1


class CaptionDecoder(nn.Module):
    """A small transformer decoder from a vector; input and output pieces share one matrix.

    Its buffer `places` (vocabulary, embed_dim) holds the centred unit vector of each piece, zeros where there is none.
    """

    places: Tensor

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.register_buffer("places", torch.zeros(config.vocabulary, config.embed_dim))
        self.weigh = nn.Linear(width, 1)
        nn.init.zeros_(self.weigh.weight)
        nn.init.constant_(self.weigh.bias, _NEARNESS)
        self.pieces = nn.Embedding(config.vocabulary, width)
        self.positions = nn.Parameter(torch.empty(config.prefix + config.max_pieces, width).normal_(std=0.02))
        self.from_vector = nn.Sequential(
            nn.Linear(config.embed_dim + 1, 2 * width), nn.GELU(), nn.Linear(2 * width, config.prefix * width)
        )
        self.blocks = nn.ModuleList(
            [TransformerBlock(width, config.heads, config.dropout) for _ in range(config.layers)]
        )
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.pieces.weight, std=0.02)

    def prefix(self, condition: Condition) -> Tensor:
        """Return (B, prefix, width): what the vector and its noise become."""
        # times sqrt(D) so that entries have unit variance
        x = torch.cat([condition.vector * condition.vector.shape[1] ** 0.5, condition.sigma[:, None]], dim=1)
        made: Tensor = self.from_vector(x)
        return made.view(len(x), self.config.prefix, -1)

    def forward(self, input_ids: Tensor, condition: Condition) -> Tensor:
        """Return logits (B, T, vocabulary) of the piece after each of `input_ids` (B, T), which start with BEGIN."""
        x = torch.cat([self.prefix(condition), self.pieces(input_ids)], dim=1)
        x = self.dropout(x + self.positions[: x.shape[1]])
        for block in self.blocks:
            x = block(x)
        # (B, T, vocabulary): True from where a piece has been said
        said = F.one_hot(input_ids, self.config.vocabulary).cumsum(dim=1) > 0
        return self._logits(x[:, self.config.prefix :], self.nearness(condition)[:, None].masked_fill(said, 0.0))

    def nearness(self, condition: Condition) -> Tensor:
        """Return the cosines (B, vocabulary) of the conditions with every piece's place."""
        cosines: Tensor = condition.vector @ self.places.T
        return cosines

    def _logits(self, x: Tensor, near: Tensor) -> Tensor:
        x = self.norm(x)
        logits: Tensor = x @ self.pieces.weight.T + self.weigh(x) * near
        return logits

    def start(self, condition: Condition) -> tuple[list[list[Tensor]], Tensor]:
        """Return the caches after the prefix and BEGIN, and the logits (B, vocabulary) of the first piece."""
        begin = torch.full((len(condition.vector), 1), BEGIN, device=condition.vector.device)
        x = torch.cat([self.prefix(condition), self.pieces(begin)], dim=1)
        caches: list[list[Tensor]] = [[] for _ in self.blocks]
        return caches, self._run(x + self.positions[: x.shape[1]], caches, self.nearness(condition))

    def step(self, pieces: Tensor, position: int, caches: list[list[Tensor]], near: Tensor) -> Tensor:
        """Return the logits (B, vocabulary) after one more piece (B,), the `position`-th of the caption from 1.

        `near` (B, vocabulary) is `nearness` of the conditions, without the pieces that have been said.
        """
        x = self.pieces(pieces[:, None]) + self.positions[self.config.prefix + position]
        return self._run(x, caches, near)

    def _run(self, x: Tensor, caches: list[list[Tensor]], near: Tensor) -> Tensor:
        for block, cache in zip(self.blocks, caches, strict=True):
            x = block(x, cache)
        return self._logits(x[:, -1], near)


class _Guided:
    """Steps a decoder with and without its condition and mixes the logits."""

    def __init__(self, network: CaptionDecoder, condition: Condition, guidance_scale: float) -> None:
        self.network, self.scale = network, guidance_scale
        self.caches, logits = network.start(condition)
        self.near, self.nothing = network.nearness(condition), network.nearness(condition.dropped())
        self.said = torch.zeros(self.near.shape, dtype=torch.bool)
        self.plain: list[list[Tensor]] | None = None
        if guidance_scale != 1.0:
            self.plain, other = network.start(condition.dropped())
            logits = other + guidance_scale * (logits - other)
        self.log_probabilities = self._barred(logits)

    def step(self, pieces: Tensor, position: int) -> None:
        self.said = self.said.scatter(1, pieces[:, None], True)
        self.near = self.near.masked_fill(self.said, 0.0)
        logits = self.network.step(pieces, position, self.caches, self.near)
        if self.plain is not None:
            other = self.network.step(pieces, position, self.plain, self.nothing)
            logits = other + self.scale * (logits - other)
        self.log_probabilities = self._barred(logits)

    def reorder(self, rows: Tensor) -> None:
        self.near, self.nothing, self.said = self.near[rows], self.nothing[rows], self.said[rows]
        for cache in [*self.caches, *(self.plain or [])]:
            cache[:] = [part[rows] for part in cache]

    def _barred(self, logits: Tensor) -> Tensor:
        """Return log-probabilities; marks that never follow a piece have none, nor has a piece said before."""
        logits = logits.masked_fill(self.said, float("-inf"))
        logits[:, [PAD, BEGIN]] = float("-inf")
        return logits.log_softmax(dim=1)


@torch.inference_mode()
def sample(
    network: CaptionDecoder,
    condition: Condition,
    *,
    num_steps: int,
    guidance_scale: float,
    generator: Sequence[torch.Generator],
    temperature: float = 0.8,
) -> Tensor:
    """Draw captions piece by piece.

    Args:
        network: The decoder.
        condition: Condition of B captions.
        num_steps: Pieces at most.
        guidance_scale: 1 is none.
        generator: One for each caption.
        temperature: Below 1 prefers the likelier pieces.

    Returns:
        (B, T) ids, `PAD` after the end.
    """
    guided = _Guided(network, condition, guidance_scale)
    steps = min(num_steps, network.config.max_pieces)
    out = torch.full((len(condition.vector), steps), PAD)
    alive = torch.ones(len(out), dtype=torch.bool)
    for position in range(steps):
        chances = (guided.log_probabilities / temperature).softmax(dim=1)
        drawn = torch.cat(
            [torch.multinomial(row, 1, generator=one) for row, one in zip(chances, generator, strict=True)]
        )
        alive &= drawn != END
        out[:, position] = torch.where(alive, drawn, PAD)
        if not alive.any() or position + 1 == steps:
            break
        guided.step(torch.where(alive, drawn, END), position + 1)
    return out


@torch.inference_mode()
def beam_search(
    network: CaptionDecoder,
    condition: Condition,
    *,
    num_steps: int,
    guidance_scale: float,
    beams: int,
    length_penalty: float = 0.6,
) -> list[tuple[list[int], float]]:
    """Return the likeliest captions of one condition with their scores, best first.

    Args:
        network: The decoder.
        condition: Condition of one caption.
        num_steps: Pieces at most.
        guidance_scale: 1 is none.
        beams: Hypotheses kept, and at most returned.
        length_penalty: The score is the log-probability over length^penalty.

    Source: Wu et al. 2016 (https://arxiv.org/abs/1609.08144), section 7, without the coverage term.
    """
    guided = _Guided(network, condition, guidance_scale)
    steps = min(num_steps, network.config.max_pieces)
    totals, paths = torch.zeros(1), torch.empty(1, 0, dtype=torch.long)
    done: list[tuple[list[int], float]] = []
    for position in range(steps):
        scores = totals[:, None] + guided.log_probabilities  # (beams, vocabulary)
        best = scores.flatten().topk(min(2 * beams, scores.numel()))
        rows, pieces = best.indices // scores.shape[1], best.indices % scores.shape[1]
        ended = (pieces == END) | (position + 1 == steps)
        for row, piece, value in zip(rows[ended], pieces[ended], best.values[ended].tolist(), strict=True):
            path = [*paths[row].tolist(), *([] if piece == END else [int(piece)])]
            if path and value > float("-inf"):
                done.append((path, value / (len(path) + 1) ** length_penalty))
        keep = (~ended).nonzero().flatten()[:beams]
        if len(done) >= beams or not len(keep):
            break
        totals, rows, pieces = best.values[keep], rows[keep], pieces[keep]
        paths = torch.cat([paths[rows], pieces[:, None]], dim=1)
        guided.reorder(rows)
        guided.step(pieces, position + 1)
    return sorted(done, key=lambda entry: -entry[1])[:beams]
