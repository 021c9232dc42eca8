"""Latents that were drawn, and which of several candidates for a sample is kept.

Source: Ramesh et al. 2021 (https://arxiv.org/abs/2102.12092), section 2.6, for reranking by a contrastive model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from embedspace.vocabulary import Neighbour

__all__ = ["BATCH", "Drawn", "batches", "best_of", "candidate_seeds", "sources_of"]

BATCH = 16
"""Samples that are drawn together."""
_STRIDE = 1_000_003
"""Seeds of a sample's candidates lie this far apart."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Latents of B candidates, those of one sample one after the other.

    Attributes:
        latents: (B, C, H, W).
        context: (B, K) numbers of the training items that each was made from.
        owner: (B,) number of the vector that each is of.
        seeds: Seed of each.
        copies: The training item that each is most like.
    """

    latents: Tensor
    context: Tensor
    owner: Tensor
    seeds: list[int]
    copies: list[Neighbour]

    def __len__(self) -> int:
        """Return the number of candidates."""
        return len(self.seeds)

    def rows(self, chosen: Tensor) -> Drawn:
        """Return some of them, by their numbers (N,)."""
        places = chosen.tolist()
        return Drawn(
            self.latents[chosen],
            self.context[chosen],
            self.owner[chosen],
            [self.seeds[k] for k in places],
            [self.copies[k] for k in places],
        )


def candidate_seeds(seed: int, num_samples: int, candidates: int) -> list[int]:
    """Return the seeds of all candidates, sample by sample; the first of each is the sample's own."""
    return [seed + k + n * _STRIDE for k in range(num_samples) for n in range(candidates)]


def best_of(fits: Tensor, copies: Sequence[Neighbour], limit: float, candidates: int) -> Tensor:
    """Return the number of the best of each sample's candidates: the one that fits best, near copies last.

    Args:
        fits: (B,) how well each fits.
        copies: The training item that each is most like.
        limit: Likeness from which one is a near copy.
        candidates: Of each sample.
    """
    alike = torch.tensor([copy.similarity >= limit for copy in copies])
    order = (fits - 4.0 * alike).view(-1, candidates)  # fits are cosines: a near copy's is below every other
    return order.argmax(dim=1) + candidates * torch.arange(len(order))


def sources_of(seeds: Sequence[int]) -> list[torch.Generator]:
    """Return a source of noise for each seed."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def batches(count: int, candidates: int, start: float, nearer: float) -> list[tuple[Tensor, float]]:
    """Return the numbers (B,) of what is drawn together, and the time that it begins at.

    Args:
        count: All that is drawn, the candidates of one sample one after the other.
        candidates: Of each sample.
        start: The time that samples begin at.
        nearer: Every second pair of candidates begins by so much of what is left later, unless samples begin at noise.
    """
    near = (torch.arange(count) % candidates // 2 % 2 == 1) & (start > 0)
    groups = ((~near, start), (near, start + nearer * (1 - start)))
    found = [(group.nonzero().flatten(), time) for group, time in groups]
    return [(part, time) for rows, time in found if len(rows) for part in torch.split(rows, BATCH)]
