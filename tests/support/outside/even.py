"""A family from outside the package: every cell of its latents is the same, and an adversary learns beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from unittest import mock

import torch
from torch import Tensor, nn

from embedspace.generate import Condition, Family, FamilyConfig, Phase, SampleOptions, register_family
from embedspace.generate.families import registry

__all__ = ["EvenConfig", "EvenFamily", "registered_even"]


@dataclass(frozen=True, kw_only=True)
class EvenConfig(FamilyConfig):
    """Settings: the level that the network begins with."""

    level: float = 0.5
    neighbours: int = 0


class Even(nn.Module):
    """One number, and one that only training needs."""

    def __init__(self, level: float, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape
        self.level = nn.Parameter(torch.tensor([[level]]))
        self.critic = nn.Linear(1, 1)


def _loss(module: Even, latents: Tensor, condition: Condition, generator: torch.Generator) -> Tensor:
    return (latents - module.level).square().mean()


def _critic(module: Even, latents: Tensor, condition: Condition, generator: torch.Generator) -> Tensor:
    loss: Tensor = (module.critic(module.level) - latents.mean()).square().mean()
    return loss


class EvenFamily(Family[EvenConfig, Even]):
    """Level latents."""

    Config = EvenConfig
    can = frozenset({"steps"})
    about = "one level everywhere"
    training_only = ("critic",)

    def build(self, config: EvenConfig, shape: tuple[int, int, int], embed_dim: int) -> Even:
        """Return the number."""
        return Even(config.level, shape)

    def phases(self, config: EvenConfig) -> tuple[Phase, ...]:
        """Return two losses."""
        return Phase(_loss, ("level",)), Phase(_critic, ("critic",), every=2, name="critic", held=False)

    def sample(
        self, module: Even, condition: Condition, generators: Sequence[torch.Generator], options: SampleOptions
    ) -> Tensor:
        """Return the level times the steps."""
        return module.level[0, 0].expand(len(generators), *module.shape).clone() * options.num_steps


@contextlib.contextmanager
def registered_even(name: str = "even") -> Iterator[None]:
    """Register the family under a name until the block ends."""
    with mock.patch.dict(registry._FAMILIES.found):
        register_family(name)(EvenFamily)
        yield
