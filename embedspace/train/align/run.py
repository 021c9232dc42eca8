"""`embedspace train align`: towers and pairs in, a space that `from_pretrained` opens out."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from embedspace.train.align.batches import draw
from embedspace.train.align.features import Tell
from embedspace.train.align.model import contrast
from embedspace.train.align.pairs import Pairs, read_pairs
from embedspace.train.align.prepare import Run, prepare
from embedspace.train.align.recipe import load_align_recipe
from embedspace.train.align.write import write_space
from embedspace.train.curves import Curves
from embedspace.train.distributed import World, join_world
from embedspace.train.loop import FitConfig, FitProgress, fit
from embedspace.train.ranks import recall_scalars

__all__ = ["AlignReport", "align", "loss_of_step", "validate"]


@dataclass(frozen=True)
class AlignReport:
    """What a run did.

    Attributes:
        folder: The space's folder; None if the time ran out before all steps were done.
        recalls: Recalls of the validation items among the validation captions, as shares; empty where there are none.
        before: The same of the space that training went on from, if it did.
        first: Whether this process is the only one, or the first of those that trained together.
        pairs: Pairs that were trained on.
        skipped: Rows and items that were left out, each with its reason.
        seconds: Wall time of this call.
    """

    folder: Path | None
    recalls: dict[str, float]
    pairs: int
    skipped: list[str]
    seconds: float
    before: dict[str, float] = field(default_factory=dict)
    first: bool = True


def align(
    recipe: str | Path,
    *,
    minutes: float | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    seed: int | None = None,
    device: str = "cpu",
    download: bool = False,
    callback: Callable[[FitProgress], None] | None = None,
) -> AlignReport:
    """Train what a recipe names, and write a space.

    Started by torchrun, the processes train together: each takes its share of every batch, and what comes out is what
    one of them alone would have trained.

    Args:
        recipe: A TOML file, see `embedspace.train.align.recipe`.
        minutes: Wall-time budget of the steps; what is missing then is done by another call with `resume`.
        out: Folder of checkpoints, curves and, in `space/`, the result; build/runs/<name> by default.
        resume: Go on from the checkpoint; the recipe may name another number of steps.
        seed: Instead of the recipe's.
        device: Where the networks run: "cpu", "cuda", "cuda:1", "mps".
        download: Fetch towers that are not on this machine.
        callback: Told of progress.

    Raises:
        ArgumentError: If there is no such device.
        ConfigError: If the recipe or the pairs are not as they must be.
        WeightsError: If a tower's weights are missing, or a checkpoint belongs to another recipe.
    """
    started = time.monotonic()
    wanted = load_align_recipe(recipe)
    wanted = wanted if seed is None else dataclasses.replace(wanted, seed=seed)
    folder = Path(out) if out is not None else Path("build/runs") / wanted.name
    with contextlib.ExitStack() as stack:
        world = stack.enter_context(join_world(device))
        tell = _teller(callback)
        if world.first:
            tell = _teller(callback, stack.enter_context(contextlib.closing(Curves(folder))))
        pairs = read_pairs(wanted.pairs, wanted.folder)
        run = prepare(wanted, pairs, world, download, _rows_teller(tell))
        before: dict[str, float] = {}
        if run.start is not None and world.first:
            run.model.eval()
            before = validate(run)
            tell(FitProgress("start", 0, wanted.training.steps, time.monotonic() - started, before))
        done = _train(run, pairs, world, folder / "checkpoint.pt", minutes, resume, tell)
        recalls: dict[str, float] = {}
        if done and world.first:
            recalls = validate(run)
            write_space(run, folder / "space")
        world.wait()
    skipped = [*pairs.skipped, *run.skipped]
    count = sum(len(items) for items in run.train)
    space = folder / "space" if done else None
    return AlignReport(space, recalls, count, skipped, time.monotonic() - started, before, world.first)


def _teller(
    callback: Callable[[FitProgress], None] | None, curves: Curves | None = None
) -> Callable[[FitProgress], None]:
    def tell(progress: FitProgress) -> None:
        if curves is not None and "loss" in progress.scalars:
            curves.add(progress)
        if callback is not None:
            callback(progress)

    return tell


def _rows_teller(tell: Callable[[FitProgress], None]) -> Tell:
    started = time.monotonic()
    return lambda what, done, total: tell(FitProgress(what, done, total, time.monotonic() - started, {}))


def _train(
    run: Run,
    pairs: Pairs,
    world: World,
    checkpoint: Path,
    minutes: float | None,
    resume: bool,
    tell: Callable[[FitProgress], None],
) -> bool:
    """Train in place; False if the time ran out."""
    if not run.stepped:
        tell(FitProgress("align", 0, 0, 0.0, validate(run) if world.first else {}))
        return True
    wanted = run.recipe.training
    config = FitConfig(
        steps=wanted.steps,
        learning_rate=wanted.learning_rate,
        weight_decay=wanted.weight_decay,
        warmup_steps=wanted.warmup_steps,
        minutes=minutes,
        seed=run.recipe.seed,
        evaluate_every=wanted.evaluate_every,
        checkpoint_seconds=wanted.checkpoint_seconds,
        shares={"towers.": wanted.tower_rate},
    )
    digests = {name: run.towers[name].digest for name in sorted(set(run.of.values()))}
    digests |= run.start.digests() if run.start is not None else {}
    return fit(
        run.model,
        lambda module, generator: loss_of_step(run, world, generator),
        config,
        stage="align",
        checkpoint=checkpoint,
        resume=resume,
        recipe=run.recipe.digest(digests, pairs.digest),
        evaluate=lambda module: validate(run),
        callback=tell,
        world=world,
    )


def loss_of_step(run: Run, world: World, generator: torch.Generator) -> Tensor:
    """Return the loss of one step: the mean over the modalities, a batch of each."""
    wanted, model = run.recipe.training, run.model
    size = wanted.batch_size
    encode = functools.partial(model.encode, chunk=wanted.chunk, bfloat16=wanted.bfloat16)
    own = world.share(size)
    losses: list[Tensor] = []
    for items in run.stepped:
        batch = draw(items, size, wanted.first_caption, generator)
        z = encode(items.modality, items.inputs(batch.items[own], batch.dice[own]))
        y = encode("text", run.texts.inputs(batch.captions[own]))
        captions = torch.from_numpy(batch.captions)
        same = (captions[:, None] == captions[None]).to(world.device)
        likeness = run.texts.likeness(batch.captions).to(world.device)
        losses.append(contrast(wanted, model, world.gather(z, size), world.gather(y, size), same, likeness))
    return torch.stack(losses).mean()


def validate(run: Run) -> dict[str, float]:
    """Return recalls of the validation items among the validation captions, by modality where there are several."""
    found: dict[str, float] = {}
    for items in run.validation:
        firsts = np.array([known[0] for known in items.captions])
        distinct, targets = np.unique(firsts, return_inverse=True)
        scores = run.encode(items) @ run.encode_texts(distinct).T
        prefix = f"{items.modality}_" if len(run.validation) > 1 else ""
        found |= {f"{prefix}{k}": v for k, v in recall_scalars(scores, torch.from_numpy(targets)).items()}
        found[f"{prefix}captions"] = float(len(distinct))
    return found
