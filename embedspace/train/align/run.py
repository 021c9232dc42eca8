"""`embedspace train align`: towers and pairs in, a space that `from_pretrained` opens out."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from embedspace.encoders.tower import TowerEncoder
from embedspace.encoders.towers.base import Tower, create_tower
from embedspace.encoders.trained import Projection, ProjectionConfig
from embedspace.errors import ConfigError
from embedspace.train.align.batches import Items, Texts, draw
from embedspace.train.align.features import Tell, TowerRows, caption_rows, media_rows
from embedspace.train.align.model import AlignModel, contrast
from embedspace.train.align.pairs import Pairs, Split, read_pairs
from embedspace.train.align.recipe import AlignRecipe, load_align_recipe, options_of
from embedspace.train.align.tuning import tune
from embedspace.train.align.write import write_space
from embedspace.train.curves import Curves
from embedspace.train.distributed import World, join_world
from embedspace.train.loop import FitConfig, FitProgress, fit
from embedspace.train.ranks import recall_scalars

__all__ = ["AlignReport", "Run", "align"]

_TOLD_EVERY = 30.0
_VALIDATED_AT_ONCE = 256


@dataclass(frozen=True)
class AlignReport:
    """What a run did.

    Attributes:
        folder: The space's folder; None if the time ran out before all steps were done.
        recalls: Recalls of the validation items among the validation captions, as shares; empty where there are none.
        pairs: Pairs that were trained on.
        skipped: Rows and items that were left out, each with its reason.
        seconds: Wall time of this call.
    """

    folder: Path | None
    recalls: dict[str, float]
    pairs: int
    skipped: list[str]
    seconds: float


@dataclass(frozen=True)
class Run:
    """What the stages of a run share.

    Attributes:
        recipe: What to train.
        towers: Name -> tower.
        of: Modality -> name of its tower.
        model: What is optimised.
        texts: The captions.
        train: Items of each modality.
        validation: The same.
        skipped: Items without rows, each with its reason.
    """

    recipe: AlignRecipe
    towers: dict[str, Tower]
    of: dict[str, str]
    model: AlignModel
    texts: Texts
    train: list[Items]
    validation: list[Items]
    skipped: list[str]

    @property
    def embed_dim(self) -> int:
        """Width of the space."""
        return self.recipe.embed_dim or self.towers[self.of["text"]].feature_dim("text")

    def encode(self, items: Items) -> Tensor:
        """Return (N, embed_dim) unit rows of items by their first views."""
        numbers = np.split(np.arange(len(items)), np.arange(_VALIDATED_AT_ONCE, len(items), _VALIDATED_AT_ONCE))
        with torch.inference_mode():
            rows = [self.model.encode(items.modality, items.inputs(part, np.zeros(len(part)))) for part in numbers]
        return torch.cat(rows).cpu()

    def encode_texts(self, captions: np.ndarray) -> Tensor:
        """Return (N, embed_dim) unit rows of numbers of captions."""
        parts = np.split(captions, np.arange(_VALIDATED_AT_ONCE, len(captions), _VALIDATED_AT_ONCE))
        with torch.inference_mode():
            return torch.cat([self.model.encode("text", self.texts.inputs(part)) for part in parts]).cpu()


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
        run = _prepare(wanted, pairs, world, download, _rows_teller(tell))
        done = _train(run, pairs, world, folder / "checkpoint.pt", minutes, resume, tell)
        recalls: dict[str, float] = {}
        if done and world.first:
            recalls = validate(run)
            write_space(run, folder / "space")
        world.wait()
    skipped = [*pairs.skipped, *run.skipped]
    count = sum(len(items) for items in run.train)
    return AlignReport(folder / "space" if done else None, recalls, count, skipped, time.monotonic() - started)


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


# ---- before the first step


def _prepare(recipe: AlignRecipe, pairs: Pairs, world: World, download: bool, tell: Tell) -> Run:
    """Make towers, rows and projections; towers that are tuned read their media at every step from then on."""
    towers = {
        name: create_tower(wanted.model, download=download, folder=recipe.folder, options=options_of(wanted))
        for name, wanted in recipe.towers.items()
    }
    of = _tower_of_each(recipe, towers, pairs)
    for name in sorted(set(of.values())):
        towers[name].to(world.device)
    texts, rows = _rows(recipe, towers, of, pairs, world, tell)
    skipped: list[str] = []
    splits: dict[Split, list[Items]] = {"train": [], "validation": []}
    for split, items in splits.items():
        for modality in pairs.modalities:
            tuned = TowerEncoder(towers[of[modality]], modality) if recipe.towers[of[modality]].tuned else None
            items.append(_items(modality, split, pairs, rows[modality], texts.captions, tuned, skipped))
    for items_of in splits["train"]:
        if len(items_of) < 2:
            raise ConfigError(f"pairs: {len(items_of)} readable {items_of.modality} items to train on; need 2")
    model = _model(recipe, towers, of, rows, texts).to(world.device)
    for name in sorted(set(of.values())):
        if recipe.towers[name].tuned:
            tune(towers[name], recipe.towers[name], name)
    if recipe.towers[of["text"]].tuned:
        texts = dataclasses.replace(texts, encoder=TowerEncoder(towers[of["text"]], "text"))
    held = [items for items in splits["validation"] if len(items)]
    return Run(recipe, towers, of, model, texts, splits["train"], held, skipped)


def _tower_of_each(recipe: AlignRecipe, towers: dict[str, Tower], pairs: Pairs) -> dict[str, str]:
    """Return modality -> name of its tower; text has one in any case."""
    found: dict[str, str] = {}
    for modality in dict.fromkeys(["text", *pairs.modalities]):
        able = [
            name
            for name, tower in towers.items()
            if modality in (recipe.towers[name].modalities or tower.modalities) and modality in tower.modalities
        ]
        if modality == "text" and recipe.anchor:
            able = [name for name in able if name == recipe.anchor]
        if not able:
            raise ConfigError(f"towers: none takes {modality}; add one whose modalities name it")
        if len(able) > 1:
            hint = "name one as anchor" if modality == "text" else "leave it to one of them in its modalities"
            raise ConfigError(f"towers: {', '.join(able)} take {modality}; {hint}")
        found[modality] = able[0]
    return found


def _rows(
    recipe: AlignRecipe, towers: dict[str, Tower], of: dict[str, str], pairs: Pairs, world: World, tell: Tell
) -> tuple[Texts, dict[str, TowerRows]]:
    """Return the captions and the items' rows, of the towers as they came."""
    captions = list(dict.fromkeys(caption for pair in pairs.rows for caption in pair.captions))
    folder = recipe.folder / recipe.features

    def rows_of(modality: str) -> TowerRows:
        own = [pair for pair in pairs.rows if pair.modality == modality]
        return media_rows(TowerEncoder(towers[of[modality]], modality), own, folder, tell)

    for first in (True, False):  # the first process computes what the others then read
        if first is world.first:
            said = torch.from_numpy(caption_rows(TowerEncoder(towers[of["text"]], "text"), captions, folder, tell))
            found = {modality: rows_of(modality) for modality in pairs.modalities}
        world.wait()
    return Texts(captions, said), found


def _items(
    modality: str,
    split: Split,
    pairs: Pairs,
    rows: TowerRows,
    captions: list[str],
    tuned: TowerEncoder | None,
    skipped: list[str],
) -> Items:
    """Return the items of a split that could be read; the reasons of the others are added to `skipped`."""
    index = {caption: k for k, caption in enumerate(captions)}
    every = [pair for pair in pairs.rows if pair.modality == modality]
    chosen = [n for n, pair in enumerate(every) if pair.split == split]
    skipped += [f"{every[n].id}: {rows.unreadable[n]}" for n in chosen if n in rows.unreadable]
    chosen = [n for n in chosen if len(rows.views[n])]
    known = [np.array([index[caption] for caption in every[n].captions], np.int64) for n in chosen]
    views = [rows.views[n] for n in chosen]
    if tuned is not None:
        return Items(modality, known, tuned, [every[n].media for n in chosen])
    return Items(modality, known, rows=torch.from_numpy(rows.rows), views=views)


def _model(
    recipe: AlignRecipe, towers: dict[str, Tower], of: dict[str, str], rows: dict[str, TowerRows], texts: Texts
) -> AlignModel:
    """Make the projections, anew by the seed, standardised by the rows of the towers as they came."""
    embed_dim = recipe.embed_dim or towers[of["text"]].feature_dim("text")
    projections: dict[str, Projection] = {}
    torch.manual_seed(recipe.seed)
    for modality, name in of.items():
        wanted, width = recipe.towers[name].projection(modality), towers[name].feature_dim(modality)
        if wanted.kind == "none":
            if width != embed_dim:
                raise ConfigError(
                    f"towers.{name}: its {modality} rows are {width} wide and the space {embed_dim}; "
                    f'give it a projection: [towers.{name}.projections.{modality}] kind = "linear"'
                )
            continue
        made = Projection(ProjectionConfig(wanted.kind, width, embed_dim, wanted.hidden_dim, wanted.dropout))
        own = rows[modality].rows if modality in rows else texts.rows.numpy()
        made.standardise(torch.from_numpy(np.asarray(own, np.float32)))
        projections[modality] = made
    tuned = {modality: towers[name] for modality, name in of.items() if recipe.towers[name].tuned}
    if not projections and not tuned:
        raise ConfigError("towers: nothing to train: no projection, and no tower that is tuned")
    return AlignModel(projections, tuned, recipe.training.loss)


# ---- the steps


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
    wanted = run.recipe.training
    config = FitConfig(
        steps=wanted.steps,
        learning_rate=wanted.learning_rate,
        weight_decay=wanted.weight_decay,
        warmup_steps=wanted.warmup_steps,
        minutes=1e9 if minutes is None else minutes,
        seed=run.recipe.seed,
        evaluate_every=wanted.evaluate_every,
        checkpoint_seconds=wanted.checkpoint_seconds,
        shares={"towers.": wanted.tower_rate},
    )
    digests = {name: run.towers[name].digest for name in sorted(set(run.of.values()))}
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
    for items in run.train:
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
