"""The projections of a run, before its first step: those with a formula are solved, others begin by the seed."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from embedspace.encoders.tower import TowerEncoder
from embedspace.encoders.towers.base import Tower
from embedspace.encoders.towers.layers import LayeredTower
from embedspace.encoders.trained import Projection, ProjectionConfig
from embedspace.errors import ConfigError
from embedspace.train.align.batches import Items, Texts
from embedspace.train.align.classes import class_vectors, read_names
from embedspace.train.align.features import Tell, TowerRows, caption_rows
from embedspace.train.align.kernel import fit_kernel
from embedspace.train.align.pairs import Split
from embedspace.train.align.recipe import AlignRecipe, ProjectionRecipe

__all__ = ["check_text_side", "has_formula", "make_projections", "named_classes"]


def has_formula(recipe: AlignRecipe, of: dict[str, str], modality: str) -> bool:
    """Return whether a modality's projection is solved at once, not trained step by step."""
    return recipe.towers[of[modality]].projection(modality).kind == "kernel"


def check_text_side(recipe: AlignRecipe, of: dict[str, str]) -> None:
    """Refuse a text side that is trained where something is fitted to it once: a kernel, or names of classes.

    Raises:
        ConfigError: If it is.
    """
    text = recipe.towers[of["text"]]
    if text.projection("text").kind == "kernel":
        raise ConfigError(f"towers.{of['text']}: texts have no kernel; their kind is none, linear or mlp")
    if not text.tuned and text.projection("text").kind == "none":
        return
    for modality, name in of.items():
        if modality != "text" and (has_formula(recipe, of, modality) or recipe.towers[name].names):
            raise ConfigError(
                f"towers.{name}: a kernel and names of classes need a text side that stays as it is; take out the "
                f"projection, unfreeze or lora of towers.{of['text']}"
            )


def named_classes(
    recipe: AlignRecipe, towers: dict[str, Tower], of: dict[str, str], modality: str, tell: Tell
) -> Tensor | None:
    """Return the vectors of what a classifier's classes are called, (C, embed_dim); None without names.

    Raises:
        ConfigError: If the classifier has another number of classes.
    """
    wanted, tower = recipe.towers[of[modality]], towers[of[modality]]
    if not wanted.names or modality == "text":
        return None
    names = read_names(wanted.names, recipe.folder)
    widths = tower.widths if isinstance(tower, LayeredTower) and wanted.classifier else (tower.feature_dim(modality),)
    if len(names) != widths[-1]:
        what = f"classifier {wanted.classifier!r}" if wanted.classifier else "rows"
        raise ConfigError(
            f"towers.{of[modality]}: {len(names)} names of classes in {wanted.names}, its {what} gives {widths[-1]} "
            "numbers; the list must be that of the classifier"
        )
    encoder, folder = TowerEncoder(towers[of["text"]], "text"), recipe.folder / recipe.features
    return class_vectors(names, lambda texts: caption_rows(encoder, texts, folder, tell))


def make_projections(
    recipe: AlignRecipe,
    towers: dict[str, Tower],
    of: dict[str, str],
    rows: dict[str, TowerRows],
    texts: Texts,
    splits: dict[Split, list[Items]],
    classes: dict[str, Tensor | None],
) -> dict[str, Projection]:
    """Make the projections: those with a formula are solved, others begin by the seed, standardised by the rows."""
    embed_dim = recipe.embed_dim or towers[of["text"]].feature_dim("text")
    train, validation = ({items.modality: items for items in splits[split]} for split in ("train", "validation"))
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
        named = classes.get(modality)
        if wanted.kind == "kernel":
            made = fit_kernel(train[modality], validation.get(modality), texts, wanted, named)
            projections[modality] = made
            continue
        made = Projection(_sizes(wanted, width, embed_dim, named))
        if named is not None:
            made.class_vectors.copy_(named)
        own = rows[modality].rows if modality in rows else texts.rows.numpy()
        made.standardise(torch.from_numpy(np.asarray(own, np.float32)))
        projections[modality] = made
    return projections


def _sizes(wanted: ProjectionRecipe, width: int, embed_dim: int, named: Tensor | None) -> ProjectionConfig:
    """Return the sizes of a projection that is trained step by step."""
    kind: Literal["linear", "mlp"] = "linear" if wanted.kind == "linear" else "mlp"
    return ProjectionConfig(
        kind, width, embed_dim, wanted.hidden_dim, wanted.dropout, classes=0 if named is None else len(named),
        temperature=wanted.temperature, top_k=wanted.top_k,
    )  # fmt: skip
