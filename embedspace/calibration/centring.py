"""Take the modality gap out: vectors of each modality sit around a mean of their own, which says nothing of an item.

Source: Liang et al. 2022, "Mind the Gap", section 3; Zhang et al. 2024 (C3, https://arxiv.org/abs/2401.08567),
section 4, for centring before vectors of different modalities are exchanged. Numpy only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import InputError
from embedspace.modality import is_modality, modality_names, named_or_beside

__all__ = ["MIXED", "centre"]

MIXED = "mixed"
"""The modality of a vector whose means are out already: a composed query's."""


def centre(
    vectors: NDArray[np.float32], modalities: str | Sequence[str], means: Mapping[str, NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Take each modality's mean out.

    Args:
        vectors: (N, embed_dim) rows of the space.
        modalities: Modality of all rows or of each; `MIXED` rows have no mean left in them.
        means: Modality -> (embed_dim,) mean of its unit vectors; a missing one counts as zero.

    Returns:
        (N, embed_dim) float32 unit rows.

    Raises:
        InputError: If a modality is unknown, a row is not finite, or nothing is left of one.
    """
    rows = np.atleast_2d(np.asarray(vectors, np.float64))
    names = [modalities] * len(rows) if isinstance(modalities, str) else list(modalities)
    if len(names) != len(rows):
        raise InputError(f"{len(rows)} vectors and {len(names)} modalities; give one modality for all, or one each")
    unknown = sorted(name for name in set(names) - {MIXED} if not is_modality(name))
    if unknown:
        raise InputError(f"unknown modality {', '.join(unknown)}; known: {', '.join(modality_names())}, {MIXED}")
    zero = np.zeros(rows.shape[1])
    known = {name: named_or_beside(means, name) for name in set(names)}
    taken = [zero if (mean := known[name]) is None else np.asarray(mean, np.float64) for name in names]
    rows = rows - np.stack(taken).reshape(rows.shape)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(norms) & (norms > 1e-6)).all():
        raise InputError("a vector to generate from is zero or not a number; encode the source again")
    unit: NDArray[np.float32] = (rows / norms).astype(np.float32)
    return unit
