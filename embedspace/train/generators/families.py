"""Train one family on latents, whichever it is: its phases, the moving average of its weights, what is written."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from embedspace.encoders.base import save_tensors
from embedspace.generate.conditioning import Condition
from embedspace.generate.families.base import SAMPLING, FamilyConfig, Phase, Shape
from embedspace.generate.families.registry import family_of
from embedspace.train.generators.recipe import FamilyRecipe
from embedspace.train.generators.run import GeneratorRun
from embedspace.train.loop import FitPhase, FitProgress, fit
from embedspace.train.precision import bfloat16_autocast

__all__ = ["Averaged", "Drawn", "train_family"]


class Averaged(nn.Module):
    """A network and the moving average of its weights; both are in a checkpoint.

    Source: Polyak and Juditsky 1992; Karras et al. 2024 (https://arxiv.org/abs/2312.02696), section 3.1, on why
    diffusion needs it.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.live = network
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.decay = decay
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self.updates: Tensor

    @torch.no_grad()
    def update(self, prefixes: tuple[str, ...] = ("",)) -> None:
        """Move the average towards the live weights; early on faster, so that it forgets how it began."""
        decay = min(self.decay, float((1 + self.updates) / (10 + self.updates)))
        average, live = self._parts(prefixes)
        torch._foreach_lerp_(average, live, 1.0 - decay)
        for kept, new in zip(self.average.buffers(), self.live.buffers(), strict=True):
            kept.copy_(new)
        self.updates += 1

    @torch.no_grad()
    def settle(self, prefixes: tuple[str, ...]) -> None:
        """Let the live weights be their average, for what is trained no more."""
        average, live = self._parts(prefixes)
        for kept, new in zip(average, live, strict=True):
            new.copy_(kept)

    def _parts(self, prefixes: tuple[str, ...]) -> tuple[list[Tensor], list[Tensor]]:
        own: list[Tensor] = [p for name, p in self.average.named_parameters() if name.startswith(prefixes)]
        return own, [p for name, p in self.live.named_parameters() if name.startswith(prefixes)]


class Drawn(Protocol):
    """What a family learns from."""

    @property
    def shape(self) -> Shape:
        """Channels, height and width of one item's latents."""
        ...

    @property
    def embed_dim(self) -> int:
        """Width of the vectors."""
        ...

    def draw(self, config: FamilyConfig, generator: torch.Generator) -> tuple[Tensor, Condition]:
        """Return latents (B, C, H, W) of a batch of the training split, and what they are to be made from."""
        ...

    def held_out(self, config: FamilyConfig) -> tuple[Tensor, Condition] | None:
        """Return latents of the validation split and their conditions; None without any."""
        ...


def train_family(
    run: GeneratorRun,
    name: str,
    recipe: FamilyRecipe,
    latents: Drawn,
    share: float,
    before: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Train a network on latents with its moving average, and write the average as `<name>.safetensors`.

    Args:
        run: The run.
        name: The network's.
        recipe: Its family and settings.
        latents: What it learns from.
        share: Part of the run's minutes that it has.
        before: What this returned in an earlier run, where this one goes on.

    Returns:
        How long it was trained in all: "steps" of the optimiser, and "minutes" of the clock.
    """
    family, config = family_of(recipe.type), recipe.config
    torch.manual_seed(run.recipe.seed)
    network = family.build(config, latents.shape, latents.embed_dim)
    pair = Averaged(network.to(memory_format=torch.channels_last), config.ema)
    phases = family.phases(config)
    last = FitProgress(name, 0, config.steps, 0.0, {})

    def tell(progress: FitProgress) -> None:
        nonlocal last
        last = progress
        run.tell(progress)

    fit(
        pair,
        [_fit_phase(phase, phases, config, latents) for phase in phases],
        run.fit_config(config, config.steps, share),
        stage=name,
        checkpoint=run.out / f"{name}.ckpt",
        resume=run.resume,
        recipe=_digest(recipe),
        evaluate=_evaluation(phases, config, latents),
        callback=tell,
    )
    pair.update()
    for part in family.training_only:
        delattr(pair.average, part)
    save_tensors(pair.average, run.folder / f"{name}.safetensors")
    earlier = before if before and run.resume else {"steps": 0, "minutes": 0.0}
    minutes = round(earlier["minutes"] + last.seconds / 60, 4)
    return {"steps": max(last.step, int(earlier["steps"])), "minutes": minutes}


def _digest(recipe: FamilyRecipe) -> str:
    """Return a digest of all that a checkpoint depends on: more steps may be asked for when it goes on."""
    settings = dataclasses.asdict(recipe)
    for name in ("steps", "share", *SAMPLING):
        del settings["config"][name]
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def _fit_phase(phase: Phase, phases: tuple[Phase, ...], config: FamilyConfig, latents: Drawn) -> FitPhase:
    """Return a family's phase as the loop takes it, on the live half of an `Averaged`."""
    done = tuple(prefix for one in phases if one.span[1] <= phase.span[0] for prefix in one.parameters)

    def loss_of_step(model: nn.Module, generator: torch.Generator) -> Tensor:
        assert isinstance(model, Averaged)
        model.update(phase.parameters)  # with what the last step made
        if done:
            model.settle(done)
        real, condition = latents.draw(config, generator)
        with bfloat16_autocast(phase.autocast):
            return phase.loss(model.live, real, condition, generator).float()

    live = tuple(f"live.{prefix}" for prefix in phase.parameters)
    return FitPhase(loss_of_step, live, phase.every, phase.name, phase.span, phase.betas)


def _evaluation(
    phases: tuple[Phase, ...], config: FamilyConfig, latents: Drawn
) -> Callable[[nn.Module], dict[str, float]]:
    """Return what measures the averaged weights on the validation split."""

    @torch.no_grad()  # a loss may hold forward derivatives, which inference mode does not know
    def evaluate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, Averaged)
        held = latents.held_out(config)
        if held is None:
            return {}
        average: Any = model.average
        return {
            f"held_{phase.name}": float(phase.loss(average, *held, torch.Generator().manual_seed(0)))
            for phase in phases
            if phase.held
        }

    return evaluate
