"""The algebra of composed queries: signed sums of unit rows, centred where they mix modalities. Numpy only.

One function serves a query's terms, (terms, embed_dim), and a suite's many queries of one shape,
(terms, queries, embed_dim): search, generation and measurements compose alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from embedspace.modality import named_or_beside

__all__ = ["centre_terms", "compose_rows", "phrase_row", "unit_rows", "weighted_sum"]

Rows = NDArray[np.float64]


def centre_terms(
    rows: Sequence[NDArray[np.float32]], modalities: Sequence[str], means: Mapping[str, NDArray[np.float32]]
) -> tuple[Rows, bool]:
    """Take the modality means out where the terms mix modalities; within one modality its mean stays.

    Args:
        rows: For each term its unit row (embed_dim,), or one per query (Q, embed_dim).
        modalities: Which encoder made each term's.
        means: Modality -> (embed_dim,) mean; a missing one counts as zero.

    Returns:
        (terms, embed_dim) or (terms, Q, embed_dim) float64, and whether the means were taken out.
    """
    stacked = np.stack(rows).astype(np.float64)
    centred = len(set(modalities)) > 1
    if centred:
        for row, modality in zip(stacked, modalities, strict=True):
            mean = named_or_beside(means, modality)
            row -= 0.0 if mean is None else np.asarray(mean, np.float64)
    return stacked, centred


def weighted_sum(weights: Sequence[float] | NDArray[np.float64], rows: Rows) -> Rows:
    """Return sum_i weights[i] rows[i] over the first axis of (terms, ..., embed_dim)."""
    total: Rows = np.tensordot(np.asarray(weights, np.float64), rows, axes=1)
    return total


def unit_rows(total: Rows) -> NDArray[np.float32]:
    """Return (..., embed_dim) float32 rows of unit norm; NaN where a row is zero or not a number."""
    norms = np.linalg.norm(total, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        unit: NDArray[np.float32] = np.where(norms > 0, total / norms, np.nan).astype(np.float32)
    return unit


def phrase_row(shares: Sequence[float], rows: NDArray[np.float32]) -> Rows:
    """Return the unit row (embed_dim,) of a text with several readings: the mean of theirs by their shares.

    Args:
        shares: Shares of each reading; they sum to one.
        rows: (readings, embed_dim) unit rows.
    """
    mean = np.asarray(shares, np.float64) @ np.asarray(rows, np.float64)
    row: Rows = mean / np.linalg.norm(mean)
    return row


def compose_rows(
    terms: Sequence[tuple[float, str, NDArray[np.float32]]], means: Mapping[str, NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Compose many queries of the same shape at once.

    Args:
        terms: For each term its weight, its modality and its (Q, embed_dim) unit rows, one row per query.
        means: Modality -> (embed_dim,) mean; taken out where the terms mix modalities, absent ones count as zero.

    Returns:
        (Q, embed_dim) unit rows; NaN where a term is missing or the terms cancel.
    """
    rows, _ = centre_terms([own for _, _, own in terms], [modality for _, modality, _ in terms], means)
    return unit_rows(weighted_sum([weight for weight, _, _ in terms], rows))
