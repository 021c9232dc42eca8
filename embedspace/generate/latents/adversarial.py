"""What adversaries on latents share: losses of generator and critic, penalties, and augmentation of what is judged.

The losses of critic and generator are of the critic's verdicts (B,) on real and on made items; high means real.

Source: Goodfellow et al. 2014 (https://arxiv.org/abs/1406.2661), equation 1 and section 3; Lim and Ye 2017
(https://arxiv.org/abs/1705.02894), equations 9 and 10; Arjovsky et al. 2017 (https://arxiv.org/abs/1701.07875),
equation 2; Jolicoeur-Martineau 2018 (https://arxiv.org/abs/1807.00734), equation 4, as Huang et al. 2024 (R3GAN,
https://arxiv.org/abs/2501.05441) take it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from embedspace.errors import ConfigError

__all__ = ["LOSSES", "augment", "critic_loss", "generator_loss", "gradient_penalty", "zero_centred_penalty"]

LOSSES = ("minimax", "non-saturating", "hinge", "wasserstein", "relativistic")


def critic_loss(kind: str, real: Tensor, made: Tensor) -> Tensor:
    """Return the critic's loss.

    Raises:
        ConfigError: If there is no such loss.
    """
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + made).mean()
    if kind == "wasserstein":
        return made.mean() - real.mean()
    if kind == "relativistic":
        return F.softplus(made - real).mean()
    if kind in ("minimax", "non-saturating"):
        return F.softplus(-real).mean() + F.softplus(made).mean()
    raise ConfigError(f"unknown loss of an adversary {kind!r}; known: {', '.join(LOSSES)}")


def generator_loss(kind: str, real: Tensor, made: Tensor) -> Tensor:
    """Return the generator's loss.

    Raises:
        ConfigError: If there is no such loss.
    """
    if kind in ("hinge", "wasserstein"):
        return -made.mean()
    if kind == "relativistic":
        return F.softplus(real - made).mean()
    if kind == "minimax":
        return -F.softplus(made).mean()  # what the critic gains; flat where it is sure
    if kind == "non-saturating":
        return F.softplus(-made).mean()
    raise ConfigError(f"unknown loss of an adversary {kind!r}; known: {', '.join(LOSSES)}")


def zero_centred_penalty(items: Tensor, verdicts: Tensor) -> Tensor:
    """Return half the mean squared norm of the critic's slope at items (B, C, H, W): R1 on real ones, R2 on made ones.

    Source: Mescheder et al. 2018 (https://arxiv.org/abs/1801.04406), equation 9.
    """
    (slope,) = torch.autograd.grad(verdicts.sum(), items, create_graph=True)
    return 0.5 * slope.square().sum(dim=(1, 2, 3)).mean()


def gradient_penalty(
    judge: Callable[[Tensor], Tensor], real: Tensor, made: Tensor, generator: torch.Generator
) -> Tensor:
    """Return the mean squared difference from 1 of the critic's slope between real and made items.

    Source: Gulrajani et al. 2017 (https://arxiv.org/abs/1704.00028), algorithm 1.
    """
    share = torch.rand(len(real), 1, 1, 1, generator=generator)
    between = (share * real + (1 - share) * made).detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(judge(between).sum(), between, create_graph=True)
    result: Tensor = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    return result


def augment(items: Tensor, chance: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror, move by a cell, scale, and cut a hole into items (B, C, H, W), each with a chance.

    Real and made items are treated alike before the critic sees them: it cannot learn the few real ones by heart.

    Source: Karras et al. 2020 (adaptive augmentation, https://arxiv.org/abs/2006.06676), appendix B; Zhao et al. 2020
    (https://arxiv.org/abs/2006.10738), section 3, for moves and holes.
    """
    count, _, height, width = items.shape
    dice = torch.rand(4, count, generator=generator) < chance
    mirrored = items.flip(3)
    items = torch.where(dice[0, :, None, None, None], mirrored, items)
    down, right = torch.randint(-1, 2, (2, count), generator=generator)
    rows = (torch.arange(height) + down[:, None]).clamp(0, height - 1)
    columns = (torch.arange(width) + right[:, None]).clamp(0, width - 1)
    moved = items[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    items = torch.where(dice[1, :, None, None, None], moved, items)
    scale = torch.exp(0.2 * torch.randn(count, 1, 1, 1, generator=generator))
    items = torch.where(dice[2, :, None, None, None], items * scale, items)
    top, left = (torch.rand(count, generator=generator) * side * 0.75 for side in (height, width))
    rows_in = (torch.arange(height) >= top[:, None]) & (torch.arange(height) < top[:, None] + height / 4)
    columns_in = (torch.arange(width) >= left[:, None]) & (torch.arange(width) < left[:, None] + width / 4)
    hole = (rows_in[:, :, None] & columns_in[:, None, :])[:, None] & dice[3, :, None, None, None]
    return items.masked_fill(hole, 0.0)
