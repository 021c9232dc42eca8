"""The contract of a family: its settings, what it can do, how its network is built, trained and sampled.

A family is one file of this folder, or of another package:

    @dataclass(frozen=True, kw_only=True)
    class Config(FamilyConfig):
        channels: int = 96

    @register_family("mine")
    class Mine(Family[Config, nn.Module]):
        Config = Config
        can = frozenset({"guidance"})
        about = "one pass of a small network"

        def build(self, config, shape, embed_dim): ...
        def phases(self, config): return (Phase(my_loss),)
        def sample(self, module, condition, generators, options): ...

Recipes then take a table `[image.families.mine]`, whose keys are the fields of `Config`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from embedspace.generate.conditioning import Condition

__all__ = ["SAMPLING", "Family", "FamilyConfig", "Loss", "Phase", "SampleOptions", "Shape", "network_for_sampling"]

Shape = tuple[int, int, int]
"""Channels, height and width of one item's latents."""

Loss = Callable[[Any, Tensor, Condition, torch.Generator], Tensor]
"""The module, latents (B, C, H, W), what they are to be made from, a source of noise -> the scalar loss."""


@dataclass(frozen=True, kw_only=True)
class FamilyConfig:
    """Settings of every family; a family's own `Config` adds those of its network.

    Attributes:
        neighbours: Training items whose latents are the context; 0 for none.
        drop: Share of conditions dropped in training, for guidance.
        drop_context: Share of contexts dropped while the vector stays.
        max_sigma: Text vectors get noise of a size drawn from 0 to this.
        styles: Sources whose style it is told, of a family that can "style".
        drop_style: Share of styles that it is not told in training.
        maps: Share of training items whose outline, silhouette or edges it is told, of a family that can "map".
        ema: Decay of the averaged weights that are kept.
        steps: Steps of the optimiser.
        batch_size: Items a step.
        learning_rate: Peak.
        weight_decay: On matrices.
        share: Part of the minutes that all families have, in proportion to the others'.
        num_steps: Steps of the sampler; None: as the generator's options say, as with the next two.
        guidance_scale: Weight of the guidance.
        guided_times: Times from and to which it guides, of a flow; all of them else.
        start: Time to begin at, from the first neighbour.
    """

    neighbours: int = 3
    drop: float = 0.1
    drop_context: float = 0.15
    max_sigma: float = 1.5
    styles: tuple[str, ...] = ()
    drop_style: float = 0.2
    maps: float = 0.0
    ema: float = 0.999
    steps: int = 8000
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    share: float = 1.0
    num_steps: int | None = None
    guidance_scale: float | None = None
    guided_times: tuple[float, float] = (0.0, 1.0)
    start: float | None = None


SAMPLING = ("num_steps", "guidance_scale", "guided_times", "start")
"""Settings of every family that say how it is sampled: training does not depend on them."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One loss of a family, and the parameters that it trains; the phases of a step come one after the other.

    Attributes:
        loss: The loss.
        parameters: Prefixes of the names of the parameters that it trains; an adversary is a phase with its own.
        every: It takes part in every so many steps.
        name: For progress; the first phase's is "loss".
        span: Shares of the steps that it begins and ends at. The learning rate rises and falls within them, and what
            another phase has trained before is held at its moving average.
        betas: AdamW's decay rates, of slopes and of their squares.
        autocast: Whether it may be computed in bfloat16.
        held: Whether it means something on items that are held out.
    """

    loss: Loss
    parameters: tuple[str, ...] = ("",)
    every: int = 1
    name: str = "loss"
    span: tuple[float, float] = (0.0, 1.0)
    betas: tuple[float, float] = (0.9, 0.98)
    autocast: bool = True
    held: bool = True


@dataclass(frozen=True, slots=True)
class SampleOptions:
    """How to sample; what a family cannot do (`Family.can`) is left at these values.

    Attributes:
        num_steps: Steps of the sampler, of a family that can "steps".
        guidance_scale: Weight of classifier-free guidance, of one that can "guidance"; 1 is none.
        start: Time in [0, 1) to begin at, from `init` or the first neighbour of the context, of one that can "start".
        init: (B, C, H, W) latents of what is edited.
        keep: (B, 1, H, W) where `init` stays as it is, of one that can "mask".
        resamplings: Times that each step is taken beside what is kept, of families with steps back.
        given: What `init` is, of one that can "redraw": it then goes from there to the condition, and `guidance_scale`
            weighs what the two say differently.
        guided_times: Times from and to which a flow is guided; others cost one pass.
    """

    num_steps: int = 16
    guidance_scale: float = 1.0
    start: float = 0.0
    init: Tensor | None = field(default=None, compare=False)
    keep: Tensor | None = field(default=None, compare=False)
    resamplings: int = 3
    given: Condition | None = field(default=None, compare=False)
    guided_times: tuple[float, float] = (0.0, 1.0)


ConfigT = TypeVar("ConfigT", bound=FamilyConfig)
ModuleT = TypeVar("ModuleT", bound=nn.Module)


class Family(ABC, Generic[ConfigT, ModuleT]):
    """A way to draw latents.

    Attributes:
        Config: Its settings: a frozen dataclass.
        can: What it can do of "start", "mask", "guidance", "steps" (see `SampleOptions`), "likelihood"
            (`log_likelihood`), "difference" (`difference`), "redraw" (`SampleOptions.given`), "style" and "map" (see
            `Condition`).
        about: What it is, in a few words.
        training_only: Names of submodules that sampling does not need: they are not kept.
    """

    Config: type[ConfigT]
    can: ClassVar[frozenset[str]] = frozenset()
    about: ClassVar[str]
    training_only: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def build(self, config: ConfigT, shape: Shape, embed_dim: int) -> ModuleT:
        """Return the network, with all that its training needs, in arbitrary weights.

        Args:
            config: Its settings.
            shape: Of one item's latents.
            embed_dim: Width of the vectors of the space.
        """

    @abstractmethod
    def phases(self, config: ConfigT) -> tuple[Phase, ...]:
        """Return how it is trained."""

    @abstractmethod
    def sample(
        self, module: ModuleT, condition: Condition, generators: Sequence[torch.Generator], options: SampleOptions
    ) -> Tensor:
        """Return (B, C, H, W) standardised latents.

        Args:
            module: From `build`, trained; submodules of `training_only` may be missing.
            condition: Condition of B items.
            generators: One source of noise per item: a sample depends on no other.
            options: How.
        """

    def log_likelihood(self, module: ModuleT, latents: Tensor, condition: Condition) -> Tensor:
        """Return the log-density or log-probability (B,) in nats of latents (B, C, H, W); of families that can."""
        raise NotImplementedError(f"{type(self).__name__} has no likelihood")

    def difference(self, module: ModuleT, latents: Tensor, given: Condition, wanted: Condition) -> Tensor:
        """Return how differently each cell (B, H, W) of latents is seen under two conditions; of families that can."""
        raise NotImplementedError(f"{type(self).__name__} tells no difference")

    def for_sampling(self, config: ConfigT) -> ConfigT:
        """Return settings with the same network for sampling and less of what only training needs."""
        return config

    def earliest(self, config: ConfigT) -> float:
        """Return the earliest time that a network of these settings was trained to start from."""
        del config
        return 0.0


def network_for_sampling(family: Family[Any, Any], config: FamilyConfig, shape: Shape, embed_dim: int) -> nn.Module:
    """Return a family's network in arbitrary weights, without what only its training needs."""
    module: nn.Module = family.build(family.for_sampling(config), shape, embed_dim)
    for name in family.training_only:
        delattr(module, name)
    return module
