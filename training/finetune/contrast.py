"""The loss that pictures' networks are tuned by: each picture among all training captions, not only its batch's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from embedspace.train.losses import info_nce, soft_targets

__all__ = ["drawn_captions", "loss_among_all"]

_SAME, _NEAR = 0.97, 0.9
"""Captions this close are one caption; between the two they are no honest negatives of each other."""
_FIRST = 0.7
"""Chance of an item's first caption; else it is one of all."""


def drawn_captions(captions: Sequence[Sequence[int]], rng: np.random.Generator) -> list[int]:
    """Return one caption row for each item, mostly its first."""
    return [its[0] if rng.random() < _FIRST else its[rng.integers(len(its))] for its in captions]


def loss_among_all(
    pictures: Tensor, said: tuple[Tensor, Tensor], corpus: tuple[Tensor, Tensor], scale: Tensor
) -> Tensor:
    """Return the loss of a batch: picture to caption among all captions, and both ways within the batch.

    Args:
        pictures: (B, embed_dim) unit rows.
        said: (B, feature_dim) caption features of each picture, and their (B, embed_dim) unit rows.
        corpus: The same of all C training captions, (C, feature_dim) and (C, embed_dim).
        scale: Inverse temperature, a scalar.
    """
    (features, rows), (all_features, all_rows) = said, corpus
    targets, ignored = soft_targets(features @ features.T, positive_above=_SAME, ignore_above=_NEAR)
    near = features @ all_features.T > _NEAR
    others = (scale * pictures @ all_rows.T).masked_fill(near, float("-inf"))
    own = scale * (pictures * rows).sum(dim=1, keepdim=True)
    among_all = (torch.cat([own, others], dim=1).logsumexp(dim=1) - own[:, 0]).mean()
    return info_nce(pictures, rows, scale, targets, ignored) + among_all
