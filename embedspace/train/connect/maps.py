"""The maps between two sets of rows that have a formula, and the window of a trained one's negatives."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["negatives_outside", "procrustes", "ridge"]


def procrustes(x: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the (in_dim, embed_dim) map R with orthonormal rows or columns that minimises |x R - y|.

    Args:
        x: (N, in_dim) rows of the source.
        y: (N, embed_dim) rows of the target; the widths may differ.
        weights: (N,) how much each row counts; alike where None.

    Source:
        Schönemann 1966, eq. 1.3 to 1.6: R = U V^T where x^T y = U S V^T.
    """
    given = x.double() if weights is None else x.double() * weights[:, None]
    left, _, right = torch.linalg.svd(given.T @ y.double(), full_matrices=False)
    rotation: Tensor = (left @ right).to(x.dtype)
    return rotation


def ridge(x: Tensor, y: Tensor, strength: float, weights: Tensor | None = None) -> Tensor:
    """Return the (in_dim, embed_dim) map W that minimises |x W - y|^2 + strength * N / in_dim * |W|^2.

    Args:
        x: (N, in_dim) unit rows of the source, whose dimensions have the mean variance 1 / in_dim.
        y: (N, embed_dim) rows of the target.
        strength: Multiple of that variance.
        weights: (N,) how much each row counts, 1 on average; alike where None.

    Source:
        Hoerl and Kennard 1970, eq. 2.1.
    """
    given, wanted = x.double(), y.double()
    count, width = given.shape
    weighted = given if weights is None else given * weights[:, None]
    left = weighted.T @ given + strength * count / width * torch.eye(width, dtype=torch.float64)
    solution: Tensor = torch.linalg.solve(left, weighted.T @ wanted).to(x.dtype)
    return solution


def negatives_outside(similarity: Tensor, window: tuple[float, float]) -> Tensor:
    """Return which pairs of a batch take no part: negatives that are too easy, or so close that they may be true.

    Args:
        similarity: (B, B) cosines; the diagonal holds the positives.
        window: Lowest and highest similarity of a negative, as shares of its row's positive.

    Returns:
        (B, B) boolean, never True on the diagonal.

    Source:
        TextME 2026 (negatives between 0.1 and 0.9 of the positive), after Moreira et al. 2024, NV-Retriever.
    """
    positive = similarity.diagonal()[:, None].clamp(min=0)
    outside = (similarity < window[0] * positive) | (similarity > window[1] * positive)
    outside.fill_diagonal_(False)
    return outside
