"""How alike two sets of things are, by the features of a judge; all exact, in double precision, numpy alone.

Features are rows (N, D). `real` is always the reference, `generated` what is compared with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import InputError

__all__ = [
    "copy_threshold",
    "diversity",
    "frechet_distance",
    "kernel_distance",
    "near_copies",
    "precision_recall_density_coverage",
]

Rows = NDArray[np.float32] | NDArray[np.float64]

_CHUNK = 512


def _checked(real: Rows, generated: Rows, least: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(real, np.float64), np.asarray(generated, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise InputError(f"features must be (N, D) with one D, got {a.shape} and {b.shape}")
    if min(len(a), len(b)) < least:
        raise InputError(f"at least {least} items a side are needed, got {len(a)} and {len(b)}")
    return a, b


def kernel_distance(real: Rows, generated: Rows) -> tuple[float, float]:
    """Return the unbiased squared maximum mean discrepancy with a cubic kernel, KID, and its standard error.

    Args:
        real: (N, D).
        generated: (M, D).

    Returns:
        The distance, around 0 (also below it) where both come from one distribution, and its jackknife standard
        error over the items of both sides.

    Raises:
        InputError: If a side has fewer than 3 items, or the widths differ.

    Source: Bińkowski et al. 2018 (https://arxiv.org/abs/1801.01401), section 3 and equation 3, with the kernel
    (x . y / D + 1)^3; Gretton et al. 2012, equation 4, of which this is the unequal-sizes form (their lemma 6).
    """
    a, b = _checked(real, generated, 3)
    n, m = len(a), len(b)
    own_a = _kernel_sums(a, a, skip_self=True)  # (N,) of row i: the sum over j != i
    own_b = _kernel_sums(b, b, skip_self=True)
    cross_a, cross_b = _kernel_sums(a, b), _kernel_sums(b, a)
    total_a, total_b, total = own_a.sum(), own_b.sum(), cross_a.sum()
    value = total_a / (n * (n - 1)) + total_b / (m * (m - 1)) - 2 * total / (n * m)
    without_a = (
        (total_a - 2 * own_a) / ((n - 1) * (n - 2)) + total_b / (m * (m - 1)) - 2 * (total - cross_a) / ((n - 1) * m)
    )
    without_b = (
        total_a / (n * (n - 1)) + (total_b - 2 * own_b) / ((m - 1) * (m - 2)) - 2 * (total - cross_b) / (n * (m - 1))
    )
    variance = (n - 1) / n * ((without_a - without_a.mean()) ** 2).sum()
    variance += (m - 1) / m * ((without_b - without_b.mean()) ** 2).sum()
    return float(value), float(np.sqrt(variance))


def _kernel_sums(a: NDArray[np.float64], b: NDArray[np.float64], *, skip_self: bool = False) -> NDArray[np.float64]:
    """Return (N,) sums over b of the kernel with each row of a."""
    out = np.empty(len(a))
    for start in range(0, len(a), _CHUNK):
        part = (a[start : start + _CHUNK] @ b.T / a.shape[1] + 1.0) ** 3
        out[start : start + _CHUNK] = part.sum(axis=1)
    if skip_self:
        out -= ((a * a).sum(axis=1) / a.shape[1] + 1.0) ** 3
    return out


def precision_recall_density_coverage(real: Rows, generated: Rows, k: int = 5) -> dict[str, float]:
    """Return how much of what is made lies where real things lie, and how much of the real it reaches.

    Args:
        real: (N, D).
        generated: (M, D).
        k: A ball around each item reaches to its k-th nearest neighbour on its own side.

    Returns:
        precision: share of `generated` within a ball of `real`; recall: share of `real` within a ball of `generated`;
        density: balls of `real` that hold an item of `generated`, over k, around 1 for one distribution; coverage:
        share of the balls of `real` that hold an item of `generated`.

    Raises:
        InputError: If a side has no more than k items, or the widths differ.

    Source: Kynkäänniemi et al. 2019 (https://arxiv.org/abs/1904.06991), equations 1 to 3; Naeem et al. 2020
    (https://arxiv.org/abs/2002.09797), equations 5 and 7.
    """
    a, b = _checked(real, generated, k + 1)
    ball_a, ball_b = _radii(a, k), _radii(b, k)
    between = _distances(a, b)  # (N, M), squared
    inside = between <= ball_a[:, None]
    return {
        "precision": float(inside.any(axis=0).mean()),
        "recall": float((between <= ball_b[None, :]).any(axis=1).mean()),
        "density": float(inside.sum() / (k * len(b))),
        "coverage": float(inside.any(axis=1).mean()),
    }


def _distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (N, M) squared distances."""
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None, :] - 2.0 * (a @ b.T)
    found: NDArray[np.float64] = np.maximum(squares, 0.0)
    return found


def _radii(rows: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Return (N,) squared distance of each row to its k-th nearest other row."""
    own = _distances(rows, rows)
    np.fill_diagonal(own, np.inf)
    radii: NDArray[np.float64] = np.partition(own, k - 1, axis=1)[:, k - 1]
    return radii


def frechet_distance(real: Rows, generated: Rows) -> float:
    """Return the Fréchet distance of two normal distributions with the sides' means and covariances.

    With features of a sound network it is the Fréchet audio distance, FAD. It is biased upwards by few items: compare
    only sides of like size, and with what real things of that number give.

    Args:
        real: (N, D).
        generated: (M, D).

    Raises:
        InputError: If a side has fewer than 2 items, or the widths differ.

    Source: Dowson and Landau 1982, equation 4; Kilgour et al. 2019 (https://arxiv.org/abs/1812.08466), equation 1.
    """
    a, b = _checked(real, generated, 2)
    covariance_a, covariance_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    values, vectors = np.linalg.eigh(covariance_a)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    # the trace of (A B)^(1/2) is that of the symmetric (A^(1/2) B A^(1/2))^(1/2)
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ covariance_b @ root), 0.0)).sum()
    gap = a.mean(axis=0) - b.mean(axis=0)
    return float(gap @ gap + np.trace(covariance_a) + np.trace(covariance_b) - 2.0 * shared)


def diversity(groups: Sequence[Rows]) -> NDArray[np.float64]:
    """Return for each prompt how far its samples lie from one another: the mean cosine distance of pairs, in [0, 2].

    Args:
        groups: For each prompt (S, D) features of its samples; one with a single sample gives NaN.
    """
    out = np.full(len(groups), np.nan)
    for number, rows in enumerate(groups):
        x = np.asarray(rows, np.float64)
        if len(x) < 2:
            continue
        x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
        cosines = x @ x.T
        out[number] = 1.0 - (cosines.sum() - np.trace(cosines)) / (len(x) * (len(x) - 1))
    return out


def copy_threshold(held: NDArray[np.float32] | NDArray[np.float64], share: float = 0.05) -> float:
    """Return the similarity to a training item above which a thing counts as a near-copy.

    Args:
        held: (N,) similarities of real things that were never trained on to their nearest training item.
        share: Share of them that lie above it: what is near by chance, or because things of one kind look alike.
    """
    return float(np.quantile(np.asarray(held, np.float64), 1.0 - share))


def near_copies(similarities: NDArray[np.float32] | NDArray[np.float64], threshold: float) -> NDArray[np.bool_]:
    """Return (N,) which things lie nearer to a training item than `copy_threshold` allows."""
    found: NDArray[np.bool_] = np.asarray(similarities, np.float64) > threshold
    return found
