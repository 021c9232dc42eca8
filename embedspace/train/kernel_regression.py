"""Fit a `KernelProjection`: kernel ridge regression from features of items onto the vectors of what they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from embedspace.encoders.projections import KernelProjection
from embedspace.encoders.quantize import from_rows, to_rows8

__all__ = ["KernelItems", "aimed_at", "fit_regression"]

_JITTER = 1e-6
"""Added to the kernel's diagonal: two copies of one item would make it singular."""


@dataclass(frozen=True)
class KernelItems:
    """What is to be remembered.

    Attributes:
        plain: (N, feature_dim) features of the items as they are.
        targets: (N, embed_dim) unit rows.
        weights: (N,) how much each item counts; their mean is 1.
        views: (M, feature_dim) features of augmented views; they teach, but are not remembered.
        item: (M,) the item that each view shows.
    """

    plain: Tensor
    targets: Tensor
    weights: Tensor
    views: Tensor
    item: Tensor


def aimed_at(captions: Sequence[Tensor]) -> Tensor:
    """Return what items are aimed at, (N, embed_dim) unit rows.

    Args:
        captions: For each item the (C, embed_dim) unit rows of its captions, the best first; that one counts twice:
            alone, and among all that are true.
    """
    return F.normalize(torch.stack([part[0] + part.mean(dim=0) for part in captions]), dim=1)


@torch.no_grad()
def fit_regression(
    items: KernelItems, basis_dim: int, *, bandwidth: float = 2.0, ridge: float = 0.2, prior_share: float = 0.0
) -> KernelProjection:
    """Minimise the weighted squared error over all views plus `ridge` times the squared norm.

    Args:
        items: What is to be remembered.
        basis_dim: Principal directions that are kept; fewer if there are fewer items or features.
        bandwidth: Bandwidth of the kernel.
        ridge: Ridge of the regression; an item's variance of noise where a kernel's value is at most 1.
        prior_share: Kept in it; takes no part in the fit.

    Source:
        Rasmussen and Williams 2006, eq. 8.14 (subset of regressors): plain views are the regressors.
    """
    count, width = items.plain.shape
    basis_dim = min(basis_dim, count, width)
    embed_dim = items.targets.shape[1]
    fitted = KernelProjection(width, embed_dim, basis_dim, count, bandwidth=bandwidth, prior_share=prior_share)
    fitted.mean.copy_(items.plain.mean(dim=0))
    fitted.scale.copy_(1 / (items.plain.std(dim=0) + 1e-2))
    # rounded as they will be stored, so that the values make up for it
    fitted.basis.copy_(_as_stored(_principal(fitted, items.plain)))
    fitted.keys.copy_(_as_stored(fitted.coordinates(items.plain)))
    rows = fitted.coordinates(torch.cat([items.plain, items.views]))
    item = torch.cat([torch.arange(count), items.item])
    shown = torch.bincount(item, minlength=count)
    weights = (items.weights / shown)[item].double()  # an item's views share its weight
    centre = (items.weights[:, None] * items.targets).sum(dim=0) / items.weights.sum()
    targets = (items.targets - centre)[item].double()
    kernel = fitted.kernel(rows).double()  # (N + M, N)
    inner = fitted.kernel(fitted.keys).double() + _JITTER * torch.eye(count, dtype=torch.float64)
    weighted = kernel * weights[:, None]
    left = weighted.T @ kernel + ridge * inner
    fitted.values.copy_(torch.linalg.solve(left, weighted.T @ targets))
    return fitted.eval()


def _as_stored(matrix: Tensor) -> Tensor:
    """Return a matrix as it is after it was written with the weights and read again."""
    return from_rows(to_rows8({"matrix": matrix}))["matrix"].float()


def _principal(fitted: KernelProjection, features: Tensor) -> Tensor:
    """Return (basis_dim, feature_dim) orthonormal principal directions of the items' unit rows."""
    rows = F.normalize(fitted.standardise(features), dim=-1).double()
    # the smaller of the two Gram matrices; N is a thousand or two, feature_dim four
    values, vectors = torch.linalg.eigh(rows @ rows.T)
    order = values.argsort(descending=True)[: len(fitted.basis)]
    basis: Tensor = (vectors[:, order] / values[order].clamp(min=1e-12).sqrt()).T @ rows
    return basis.float()
