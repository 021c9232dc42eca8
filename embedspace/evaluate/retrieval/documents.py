"""Search documents with two vectors a query, as a catalog does, by one inner product."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["document_search"]


def document_search(
    queries: NDArray[np.float32], drawn: NDArray[np.float32], gallery: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return rows whose best inner product is the better of a query's two scores.

    A catalog judges each of the two vectors by how it scores against the whole gallery; here its cosines are
    standardised by their mean and standard deviation over all fields, so that the two can be compared.

    Args:
        queries: (Q, embed_dim) unit rows; NaN where a query is missing.
        drawn: (Q, embed_dim) the same as `EmbeddingSpace.for_documents` gives them.
        gallery: (N, embed_dim) or (N, fields, embed_dim) unit rows; NaN where a field is missing.

    Returns:
        (Q, 2 embed_dim + 2) and (N, 2 fields, 2 embed_dim + 2): each field twice, once for each vector.
    """
    fields = gallery if gallery.ndim == 3 else gallery[:, None]
    flat = fields.reshape(-1, fields.shape[2])
    flat = flat[np.isfinite(flat).all(axis=1)]
    scaled, offsets = [], []
    for rows in (queries, drawn):
        scores = rows @ flat.T
        mean, std = scores.mean(axis=1, keepdims=True), np.maximum(scores.std(axis=1, keepdims=True), 1e-6)
        scaled.append(rows / std)
        offsets.append(-mean / std)
    nothing, one = np.zeros_like(fields), np.ones_like(fields[..., :1])
    plain = np.concatenate([fields, nothing, one, 0 * one], axis=2)
    beside = np.concatenate([nothing, fields, 0 * one, one], axis=2)
    return np.concatenate([*scaled, *offsets], axis=1), np.concatenate([plain, beside], axis=1)
