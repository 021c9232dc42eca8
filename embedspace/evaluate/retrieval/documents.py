"""Search documents with a query and its readings, as a catalog does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration.background import background_of
from embedspace.calibration.model import Calibration, shared_log_odds

__all__ = ["document_search"]


def document_search(
    queries: NDArray[np.float32],
    readings: NDArray[np.float32],
    gallery: NDArray[np.float32],
    calibration: Calibration,
    modality: str,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the log-odds that documents match, as rows whose inner products they are.

    A document is as good as its best field, and keeps the best of its log-odds by the query and by each reading.

    Args:
        queries: (Q, embed_dim) unit rows; NaN where a query is missing.
        readings: (Q, K, embed_dim) the same as `EmbeddingSpace.for_documents` gives them.
        gallery: (N, embed_dim) or (N, fields, embed_dim) unit rows; NaN where a field is missing.
        calibration: Calibration of the space.
        modality: Modality of the queries.

    Returns:
        (Q, N) log-odds and (N, N) the identity; NaN where a query or a document is missing.
    """
    fields = gallery if gallery.ndim == 3 else gallery[:, None]
    whole: NDArray[np.bool_] = np.asarray(np.isfinite(fields).all(axis=2))  # (N, fields)
    present: NDArray[np.bool_] = np.asarray(whole.any(axis=1))
    known = np.nan_to_num(fields[present], nan=0.0)
    lacking = ~whole[present]
    odds = np.zeros((len(queries), len(fields)), np.float32)
    for place, (query, read) in enumerate(zip(queries, readings, strict=True)):
        if not np.isfinite(query).all():
            odds[place] = np.nan
            continue
        lengths = np.linalg.norm(read, axis=1)
        rows = np.concatenate([query[None], read[lengths > 0] / lengths[lengths > 0, None]])
        scores = np.where(lacking[..., None], -np.inf, known @ rows.T).max(axis=1).T  # (1 + K, documents)
        shares = [1.0, *np.minimum(lengths[lengths > 0], 1.0).tolist()]
        best = np.full(len(known), -np.inf)
        for own, share, background in zip(scores, shares, background_of(scores, len(known)), strict=True):
            order = np.argsort(-own, kind="stable")
            found = calibration.log_odds(own[order], modality, "text", background)
            best[order] = np.maximum(best[order], shared_log_odds(found, share))
        odds[place, present] = best
    identity = np.eye(len(fields), dtype=np.float32)
    identity[~present] = np.nan
    return odds, identity
