"""Before the first step: towers, the rows of the frozen ones, the items of each split, the projections."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from embedspace.encoders.carrier import Carrier
from embedspace.encoders.tower import TowerEncoder
from embedspace.encoders.towers.base import Tower
from embedspace.encoders.towers.registry import create_tower
from embedspace.encoders.trained import Projection
from embedspace.errors import ConfigError
from embedspace.train.align.batches import Items, Texts
from embedspace.train.align.features import Tell, TowerRows, caption_rows, media_rows
from embedspace.train.align.model import AlignModel
from embedspace.train.align.pairs import Pairs, Split
from embedspace.train.align.projections import check_text_side, has_formula, make_projections, named_classes
from embedspace.train.align.recipe import AlignRecipe, options_of
from embedspace.train.align.start import StartSpace, read_start
from embedspace.train.align.tuning import tune
from embedspace.train.distributed import World

__all__ = ["Run", "prepare"]

_AT_ONCE = 256


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
        start: The space that training goes on from, if it does.
    """

    recipe: AlignRecipe
    towers: dict[str, Tower]
    of: dict[str, str]
    model: AlignModel
    texts: Texts
    train: list[Items]
    validation: list[Items]
    skipped: list[str]
    start: StartSpace | None = None

    @property
    def stepped(self) -> list[Items]:
        """Training items of the modalities that are trained step by step: those whose projection has no formula."""
        return [items for items in self.train if not has_formula(self.recipe, self.of, items.modality)]

    @property
    def embed_dim(self) -> int:
        """Width of the space."""
        if self.start is not None:
            return self.start.embed_dim
        return self.recipe.embed_dim or self.towers[self.of["text"]].feature_dim("text")

    def encode(self, items: Items) -> Tensor:
        """Return (N, embed_dim) unit rows of items by their first views."""
        numbers = np.split(np.arange(len(items)), np.arange(_AT_ONCE, len(items), _AT_ONCE))
        with torch.inference_mode():
            rows = [self.model.encode(items.modality, items.inputs(part, np.zeros(len(part)))) for part in numbers]
        return torch.cat(rows).cpu()

    def encode_texts(self, captions: np.ndarray) -> Tensor:
        """Return (N, embed_dim) unit rows of numbers of captions."""
        parts = np.split(captions, np.arange(_AT_ONCE, len(captions), _AT_ONCE))
        with torch.inference_mode():
            return torch.cat([self.model.encode("text", self.texts.inputs(part)) for part in parts]).cpu()


def prepare(recipe: AlignRecipe, pairs: Pairs, world: World, download: bool, tell: Tell) -> Run:
    """Make towers, rows and projections; towers that are tuned read their media at every step from then on."""
    start = read_start(recipe)
    if start is not None:
        recipe, towers = start.recipe, start.towers(download)
    else:
        towers = {
            name: create_tower(wanted.model, download=download, folder=recipe.folder, options=options_of(wanted))
            for name, wanted in recipe.towers.items()
        }
    of = _tower_of_each(recipe, towers, pairs)
    for name in sorted(set(of.values())):
        towers[name].to(world.device)
    check_text_side(recipe, of)
    encoders = {
        modality: start.encoder(modality, towers[name]) if start else TowerEncoder(towers[name], modality)
        for modality, name in of.items()
    }
    texts, rows = _rows(recipe, encoders, pairs, world, tell)
    skipped: list[str] = []
    splits: dict[Split, list[Items]] = {"train": [], "validation": []}
    for split, items in splits.items():
        for modality in pairs.modalities:
            tuned = encoders[modality] if recipe.towers[of[modality]].tuned else None
            items.append(_items(modality, split, pairs, rows[modality], texts.captions, tuned, skipped))
    for items_of in splits["train"]:
        if len(items_of) < 2:
            raise ConfigError(f"pairs: {len(items_of)} readable {items_of.modality} items to train on; need 2")
    projections: dict[str, Carrier] | dict[str, Projection]
    if start:
        projections = _continued(start, towers, of, rows, texts)
    else:
        classes = {modality: named_classes(recipe, towers, of, modality, tell) for modality in pairs.modalities}
        projections = make_projections(recipe, towers, of, rows, texts, splits, classes)
    tuned_towers = {modality: towers[name] for modality, name in of.items() if recipe.towers[name].tuned}
    model = AlignModel(projections, tuned_towers, recipe.training.loss).to(world.device)
    solved = any(has_formula(recipe, of, modality) for modality in of)
    if not solved and not tuned_towers and not any(p.requires_grad for p in model.projections.parameters()):
        raise ConfigError("towers: nothing to train: no projection, and no tower that is tuned")
    for name in sorted(set(of.values())):
        if recipe.towers[name].tuned:
            tune(towers[name], recipe.towers[name], name)
    if recipe.towers[of["text"]].tuned:
        texts = dataclasses.replace(texts, encoder=encoders["text"])
    held = [items for items in splits["validation"] if len(items)]
    return Run(recipe, towers, of, model, texts, splits["train"], held, skipped, start)


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
    recipe: AlignRecipe, encoders: dict[str, TowerEncoder], pairs: Pairs, world: World, tell: Tell
) -> tuple[Texts, dict[str, TowerRows]]:
    """Return the captions and the items' rows, of the towers as they came."""
    captions = list(dict.fromkeys(caption for pair in pairs.rows for caption in pair.captions))
    folder = recipe.folder / recipe.features

    def rows_of(modality: str) -> TowerRows:
        own = [pair for pair in pairs.rows if pair.modality == modality]
        return media_rows(encoders[modality], own, folder, tell)

    for first in (True, False):  # the first process computes what the others then read
        if first is world.first:
            said = torch.from_numpy(caption_rows(encoders["text"], captions, folder, tell))
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


def _continued(
    start: StartSpace, towers: dict[str, Tower], of: dict[str, str], rows: dict[str, TowerRows], texts: Texts
) -> dict[str, Carrier]:
    """Return what brings each modality into the space that training goes on from, corrections included."""
    torch.manual_seed(start.recipe.seed)
    return {
        modality: start.carrier(
            modality,
            towers[name],
            start.recipe.towers[name].projection(modality),
            rows[modality].rows if modality in rows else texts.rows.numpy(),
        )
        for modality, name in of.items()
    }
