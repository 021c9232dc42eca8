"""The critic of adversaries on latents: how real latents look, given what they are to be of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from embedspace.generate.conditioning import Condition
from embedspace.generate.latents.blocks import GridAttention
from embedspace.generate.latents.conditioned import ConditionEmbedding

__all__ = ["Critic", "grids"]


def grids(height: int, width: int, most: int = 2) -> list[tuple[int, int]]:
    """Return the sizes of a grid that is halved at most so often, while both sides are even; the coarsest first."""
    sizes = [(height, width)]
    while len(sizes) <= most and min(sizes[0]) >= 4 and sizes[0][0] % 2 == 0 and sizes[0][1] % 2 == 0:
        sizes.insert(0, (sizes[0][0] // 2, sizes[0][1] // 2))
    return sizes


class _Block(nn.Module):
    """Two convolutions around a skip, without norms: penalties of a slope mean little beside them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same."""
        y: Tensor = self.conv2(F.leaky_relu(self.conv1(F.leaky_relu(x, 0.2)), 0.2))
        return x + 0.5 * y


class Critic(nn.Module):
    """Judges latents given a condition.

    Args:
        shape: Channels, height and width of one item's latents.
        embed_dim: Width of the vectors of the space.
        width: Channels.
        blocks: Residual blocks per resolution.
        projection: Whether the condition is multiplied with what is seen (projection discriminator); else it enters as
            channels beside the latents.
        attention: Whether cells see each other.
        spectral: Whether every layer's largest singular value is held at 1.
        classifier: Whether it also says which vector an item is of.

    Source: Miyato and Koyama 2018 (https://arxiv.org/abs/1802.05637), equation 3, for the projection; Miyato et al.
    2018 (https://arxiv.org/abs/1802.05957) for the spectral norm; Zhang et al. 2018 (https://arxiv.org/abs/1805.08318)
    for attention; Odena et al. 2016 (https://arxiv.org/abs/1610.09585) for the classifier, here of the batch's vectors.
    """

    turns: Tensor

    def __init__(
        self,
        shape: tuple[int, int, int],
        embed_dim: int,
        width: int,
        blocks: int,
        *,
        projection: bool = True,
        attention: bool = False,
        spectral: bool = False,
        classifier: bool = False,
    ) -> None:
        super().__init__()
        channels, height, columns = shape
        self.projection = projection
        self.condition = ConditionEmbedding(embed_dim, width)
        self.enter = nn.Conv2d(channels + (0 if projection else width), width, 3, padding=1)
        self.levels = nn.ModuleList(
            [nn.ModuleList([_Block(width) for _ in range(blocks)]) for _ in grids(height, columns)]
        )
        self.attention = GridAttention(width, twice=True) if attention else nn.Identity()
        self.out = nn.Linear(width, 1)
        self.names = nn.Linear(width, embed_dim) if classifier else None
        self.register_buffer("turns", torch.zeros((), dtype=torch.long))  # steps that it has taken
        if spectral:
            for part in list(self.modules()):
                # what lets attention in begins at zero, which has no direction of largest gain
                gate = isinstance(self.attention, GridAttention) and part is self.attention.out
                if isinstance(part, nn.Conv2d | nn.Linear) and not gate:
                    spectral_norm(part)

    def features(self, latents: Tensor, condition: Condition) -> Tensor:
        """Return what is seen in latents (B, C, H, W): (B, width)."""
        if not self.projection:
            told = self.condition(condition)[:, :, None, None].expand(-1, -1, *latents.shape[2:])
            latents = torch.cat([latents, told], dim=1)
        x = self.enter(latents)
        for number, level in enumerate(self.levels):
            if number:
                x = F.avg_pool2d(x, 2)
            assert isinstance(level, nn.ModuleList)
            for block in level:
                x = block(x)
            if number == 0:
                x = self.attention(x)
        return F.leaky_relu(x, 0.2).mean(dim=(2, 3))

    def forward(self, latents: Tensor, condition: Condition) -> Tensor:
        """Return the verdicts (B,): high means real."""
        return self.judge(self.features(latents, condition), condition)

    def judge(self, features: Tensor, condition: Condition) -> Tensor:
        """Return the verdicts (B,) of what is seen."""
        verdict: Tensor = self.out(features)[:, 0]
        if self.projection:
            verdict = verdict + (features * self.condition(condition)).sum(dim=1) / features.shape[1] ** 0.5
        return verdict

    def naming_loss(self, features: Tensor, condition: Condition) -> Tensor:
        """Return how badly it says which of the batch's vectors each item is of; items of no condition do not count."""
        assert self.names is not None
        known = condition.vector.abs().sum(dim=1) > 0
        said, vectors = F.normalize(self.names(features[known]), dim=1), condition.vector[known]
        if not len(said):
            return features.sum() * 0.0
        return F.cross_entropy(10.0 * said @ vectors.T, torch.arange(len(said)))
