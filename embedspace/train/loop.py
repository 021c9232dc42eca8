"""The training loop: any model, any batches; deterministic by seed, resumable, bounded in minutes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from embedspace.train.checkpoint import load_checkpoint, save_checkpoint
from embedspace.train.distributed import World

__all__ = ["FitConfig", "FitPhase", "FitProgress", "fit"]

LossOfStep = Callable[[nn.Module, torch.Generator], Tensor]
"""Draws a batch from the generator it is given and returns the scalar loss."""


@dataclass(frozen=True, slots=True)
class FitConfig:
    """How long and how fast to train.

    Attributes:
        steps: Optimiser steps of the whole run; the learning rate's cosine ends there.
        learning_rate: Peak, of AdamW.
        weight_decay: On matrices only.
        warmup_steps: Linear warm-up.
        minutes: Wall-time budget of this call; the run stops with a checkpoint and can be resumed. None: no limit.
        seed: Seed of everything random; step n draws from a generator seeded by (seed, n), so a resumed run equals an
            uninterrupted one.
        cooldown: Share of the minutes at whose end the learning rate reaches zero if the steps would not be done by
            then: a run that stops with a high rate wastes what it learnt. A run that does its steps in time is not
            touched by it.
        evaluate_every: Steps between calls of `evaluate`.
        checkpoint_seconds: Seconds between checkpoints.
        shares: Prefix of parameters' names -> share of the learning rate that they are trained with.
    """

    steps: int = 1500
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_steps: int = 100
    minutes: float | None = 60.0
    seed: int = 0
    cooldown: float = 0.0
    evaluate_every: int = 250
    checkpoint_seconds: float = 60.0
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FitProgress:
    """What a callback is told: the step, and the scalars of the moment ("loss", "recall_at_10", ...).

    Of several phases those are told that have had a step.
    """

    stage: str
    step: int
    steps: int
    seconds: float
    scalars: dict[str, float]


@dataclass(frozen=True, slots=True)
class FitPhase:
    """One of several losses of a training; those of a step come one after the other, each with a step of the optimiser.

    Attributes:
        loss: Draws a batch from the generator it is given and returns the scalar loss.
        parameters: Prefixes of the names of the parameters that it trains; of several phases the first decides on the
            optimiser's settings.
        every: It takes part in every so many steps.
        name: What its loss is called in progress; the first phase's is "loss".
        span: Shares of the steps that it begins and ends at; the learning rate rises and falls within.
        betas: AdamW's decay rates, of slopes and of their squares.
    """

    loss: LossOfStep
    parameters: tuple[str, ...] = ("",)
    every: int = 1
    name: str = "loss"
    span: tuple[float, float] = (0.0, 1.0)
    betas: tuple[float, float] = (0.9, 0.98)

    def has(self, parameter: str) -> bool:
        """Return whether it trains the parameter of a name."""
        return parameter.startswith(self.parameters)

    def bounds(self, steps: int) -> tuple[int, int]:
        """Return its first step, and the one that it no longer takes part in."""
        return round(self.span[0] * steps), round(self.span[1] * steps)


def _learning_rate(config: FitConfig, step: int, phase: FitPhase) -> float:
    first, last = phase.bounds(config.steps)
    step -= first
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, last - first - config.warmup_steps)
    return float(config.learning_rate * 0.5 * (1 + torch.cos(torch.tensor(progress * torch.pi)).item()))


def _time_factor(config: FitConfig, seconds: float) -> float:
    """Return what the learning rate is multiplied with at this time: 1, then linearly to 0 at the budget's end."""
    if config.minutes is None or config.cooldown * config.minutes <= 0:
        return 1.0
    budget = config.minutes * 60
    return min(1.0, max(0.0, budget - seconds) / (config.cooldown * budget))


def _optimizer(model: nn.Module, config: FitConfig, phases: Sequence[FitPhase]) -> torch.optim.AdamW:
    groups: dict[tuple[int, float, bool], list[nn.Parameter]] = {(0, 1.0, True): [], (0, 1.0, False): []}
    for name, parameter in model.named_parameters():
        phase = next((number for number, one in enumerate(phases) if one.has(name)), None)
        if parameter.requires_grad and phase is not None:
            share = next((share for prefix, share in config.shares.items() if name.startswith(prefix)), 1.0)
            groups.setdefault((phase, share, parameter.ndim >= 2), []).append(parameter)
    # matrices first: checkpoints of earlier versions name parameters in this order
    ordered = sorted(groups.items(), key=lambda group: (group[0][0], -group[0][1], not group[0][2]))
    return torch.optim.AdamW(
        [
            {
                "params": found,
                "weight_decay": config.weight_decay * matrices,
                "share": share,
                "betas": phases[phase].betas,
            }
            for (phase, share, matrices), found in ordered
        ],
        lr=config.learning_rate,
    )


def fit(
    model: nn.Module,
    loss_of_step: LossOfStep | Sequence[FitPhase],
    config: FitConfig,
    *,
    stage: str,
    checkpoint: Path | None = None,
    resume: bool = False,
    recipe: str = "",
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    callback: Callable[[FitProgress], None] | None = None,
    world: World | None = None,
) -> bool:
    """Train `model` in place.

    Args:
        model: Its trainable parameters are optimised.
        loss_of_step: Draws a batch from the generator it is given and returns the scalar loss; or several such losses,
            each with the parameters that it trains.
        config: The run.
        stage: Name for progress and for the checkpoint.
        checkpoint: File to write to (atomically) and to resume from.
        resume: Go on from the checkpoint when there is one.
        recipe: Digest of what determines the training besides `config`; a checkpoint of another one is refused.
        evaluate: Returns scalars of a validation split; called every `evaluate_every` steps and at the end.
        callback: Told after each evaluation and about once a minute.
        world: The processes that train together; the first evaluates, writes and reports. `loss_of_step` gathers.

    Returns:
        True if all steps are done, False if the time ran out first.
    """
    phases = [FitPhase(loss_of_step)] if callable(loss_of_step) else list(loss_of_step)
    run = _Fit(model, phases, config, stage, checkpoint, recipe, evaluate, callback, world or World())
    if resume and checkpoint:
        run.step = load_checkpoint(checkpoint, model, run.optimizer, stage, recipe)
    while run.step < config.steps:
        run.take_step()
        out_of_time = run.world.any(config.minutes is not None and run.seconds > config.minutes * 60)
        run.report(out_of_time)
        run.save(out_of_time)
        if out_of_time:
            break
    for _, parameter in run.trained:
        parameter.requires_grad_(True)
    model.eval()
    return run.step >= config.steps


@dataclass(slots=True)
class _Fit:
    """A run under way: the arguments of `fit`, and how far it is."""

    model: nn.Module
    phases: Sequence[FitPhase]
    config: FitConfig
    stage: str
    checkpoint: Path | None
    recipe: str
    evaluate: Callable[[nn.Module], dict[str, float]] | None
    callback: Callable[[FitProgress], None] | None
    world: World
    step: int = 0
    optimizer: torch.optim.AdamW = field(init=False)
    running: dict[str, Tensor] = field(default_factory=dict)
    trained: list[tuple[str, nn.Parameter]] = field(init=False)
    started: float = field(default_factory=time.monotonic)
    told: float = 0.0
    saved: float = 0.0

    def __post_init__(self) -> None:
        self.optimizer = _optimizer(self.model, self.config, self.phases)
        self.trained = [(name, one) for name, one in self.model.named_parameters() if one.requires_grad]
        self.told = self.saved = self.started

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def take_step(self) -> None:
        """Draw a batch and go one step, in each phase that takes part in it."""
        config = self.config
        self.model.train()
        torch.manual_seed(config.seed * 1_000_003 + self.step)  # dropout draws from the global generator
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + self.step)
        for phase in self.phases:
            first, last = phase.bounds(config.steps)
            if first <= self.step < last and (self.step - first) % phase.every == 0:
                self._take_phase(phase, generator)
        self.step += 1

    def _take_phase(self, phase: FitPhase, generator: torch.Generator) -> None:
        """Go one step of a phase: what it does not train gets no gradients."""
        config, optimizer = self.config, self.optimizer
        for group in optimizer.param_groups:
            group["lr"] = group.get("share", 1.0) * _learning_rate(config, self.step, phase)
            group["lr"] *= _time_factor(config, self.seconds)
        if len(self.phases) > 1:
            for name, parameter in self.trained:
                parameter.requires_grad_(phase.has(name))
        loss = phase.loss(self.model, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.world.average_gradients(self.model)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        optimizer.step()
        before = self.running.get(phase.name)
        self.running[phase.name] = loss.detach() if before is None else 0.98 * before + 0.02 * loss.detach()

    def report(self, out_of_time: bool) -> None:
        """Evaluate and tell where it is time for that, and at the end; else tell the loss about once a minute."""
        now = time.monotonic()
        scheduled = self.step % self.config.evaluate_every == 0 or self.step == self.config.steps or out_of_time
        if not scheduled and now - self.told <= 60:
            return
        scalars = {name: float(value) for name, value in self.running.items()}
        if scheduled:
            self.model.eval()
            scalars |= self.evaluate(self.model) if self.evaluate and self.world.first else {}
        if self.callback is not None and self.world.first:
            self.callback(FitProgress(self.stage, self.step, self.config.steps, self.seconds, scalars))
        self.told = now

    def save(self, out_of_time: bool) -> None:
        """Write a checkpoint where it is time for one."""
        now = time.monotonic()
        due = out_of_time or now - self.saved > self.config.checkpoint_seconds or self.step == self.config.steps
        if self.checkpoint and self.world.first and due:
            save_checkpoint(self.checkpoint, self.model, self.optimizer, self.stage, self.step, self.recipe)
            self.saved = now
