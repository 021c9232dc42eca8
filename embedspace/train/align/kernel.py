"""Projections that have a formula: kernel regression of captions on rows of frozen towers, for some thousand pairs."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from embedspace.encoders.projections import KernelProjection
from embedspace.encoders.trained import Projection, ProjectionConfig
from embedspace.errors import ConfigError
from embedspace.train.align.batches import Items, Texts
from embedspace.train.align.recipe import ProjectionRecipe
from embedspace.train.kernel_regression import KernelItems, aimed_at, fit_regression
from embedspace.train.ranks import target_ranks

__all__ = ["MOST_ITEMS", "fit_kernel"]

MOST_ITEMS = 20_000
"""The fit solves as many equations: more take minutes and gigabytes, and are enough for an MLP."""
_BALANCE = 0.3
"""An item whose first caption n items share weighs n to the power of minus this."""


@torch.no_grad()
def fit_kernel(
    train: Items, validation: Items | None, texts: Texts, wanted: ProjectionRecipe, classes: Tensor | None
) -> Projection:
    """Return the projection whose settings find validation items best; the first of each setting where there are none.

    Args:
        train: Items with rows of a frozen tower; views beyond the first teach and are not kept.
        validation: The same; None or empty: nothing is chosen.
        texts: The captions, whose rows are the space.
        wanted: What to choose from.
        classes: (C, embed_dim) vectors of the names of classes, whose scores end the rows; None: they are all features.

    Raises:
        ConfigError: If there are too many items.
    """
    if len(train) > MOST_ITEMS:
        raise ConfigError(
            f"projections.{train.modality}: a kernel is for at most {MOST_ITEMS:,} items, not {len(train):,}; "
            'use kind = "mlp"'
        )
    assert train.rows is not None
    width, count = train.rows.shape[1], 0 if classes is None else len(classes)
    config = ProjectionConfig(
        "kernel", width, texts.rows.shape[1], classes=count, temperature=wanted.temperature, top_k=wanted.top_k,
        items=len(train), basis_dim=min(wanted.basis_dim, len(train), width - count or width),
    )  # fmt: skip
    items = _items(train, texts, config.seen_dim)
    shares = wanted.prior_shares if count else (0.0,)
    settings = list(itertools.product(wanted.bandwidths, wanted.ridges))
    found, best = None, -1.0
    choosing = validation is not None and len(validation) > 0
    for bandwidth, ridge in settings if choosing else settings[:1]:
        fitted = fit_regression(items, config.basis_dim, bandwidth=bandwidth, ridge=ridge)
        for share in shares if choosing else shares[:1]:
            made = _projection(config, fitted, share, classes)
            quality = _quality(made, validation, texts) if validation is not None and choosing else 0.0
            if quality > best:
                found, best = made, quality
    assert found is not None
    return found


def _projection(config: ProjectionConfig, fitted: KernelProjection, share: float, classes: Tensor | None) -> Projection:
    """Return a projection of its own with the tensors of a fit."""
    made = Projection(dataclasses.replace(config, bandwidth=fitted.bandwidth, prior_share=share))
    made.layers.load_state_dict(fitted.state_dict())
    if classes is not None:
        made.class_vectors.copy_(classes)
    return made.requires_grad_(False).eval()


def _items(train: Items, texts: Texts, width: int) -> KernelItems:
    """Return rows and targets as the fit takes them."""
    assert train.rows is not None
    rows = train.rows[:, :width].float()
    said = F.normalize(texts.rows.float(), dim=-1)
    targets = aimed_at([said[torch.from_numpy(own)] for own in train.captions])
    _, same, count = np.unique([own[0] for own in train.captions], return_inverse=True, return_counts=True)
    weights = torch.from_numpy(count[same].astype(np.float32) ** -_BALANCE)
    more = [(item, view) for item, views in enumerate(train.views) for view in views[1:]]
    return KernelItems(
        rows[torch.tensor([int(views[0]) for views in train.views])],
        targets,
        weights / weights.mean(),
        rows[torch.tensor([int(view) for _, view in more], dtype=torch.long)],
        torch.tensor([item for item, _ in more], dtype=torch.long),
    )


def _quality(projection: Projection, validation: Items, texts: Texts) -> float:
    """Return the mean reciprocal rank of validation items' first captions among all of theirs."""
    assert validation.rows is not None
    firsts = np.array([own[0] for own in validation.captions])
    distinct, targets = np.unique(firsts, return_inverse=True)
    rows = validation.rows[torch.tensor([int(views[0]) for views in validation.views])].float()
    said = F.normalize(texts.rows[torch.from_numpy(distinct)].float(), dim=-1)
    ranks = target_ranks(projection(rows) @ said.T, torch.from_numpy(targets))
    return float((1 / ranks.double()).mean())
