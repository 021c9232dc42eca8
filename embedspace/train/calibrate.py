"""After training: the modalities' means, the background of each pair, and what a cosine is worth as a probability."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration import Calibration, PairCalibration
from embedspace.calibration_fit import fit_pair

__all__ = ["Anchored", "calibrate"]


@dataclass(frozen=True)
class Anchored:
    """Items of one modality that were not trained on.

    Attributes:
        vectors: (N, embed_dim) unit rows.
        concepts: (N,) what each shows; equal strings belong together.
    """

    vectors: NDArray[np.float32]
    concepts: NDArray[np.str_]


def calibrate(anchored: Mapping[str, Anchored], seed: int = 0) -> Calibration:
    """Measure means and pairs.

    Args:
        anchored: Modality -> items of validation splits, with the concepts they show.
        seed: Of the sampled background pairs.

    Returns:
        A calibration with every ordered pair that has at least 20 matching and 20 other pairs; others keep the default.
    """
    anchored = {m: a for m, a in anchored.items() if len(a.vectors)}
    means = {m: a.vectors.mean(axis=0).astype(np.float32) for m, a in anchored.items()}
    random = np.random.default_rng(seed)
    pairs: dict[str, PairCalibration] = {}
    for left, a in anchored.items():
        for right, b in anchored.items():
            scores = a.vectors @ b.vectors.T
            same = a.concepts[:, None] == b.concepts[None, :]
            if left == right:
                np.fill_diagonal(same, False)
            match, other = scores[same], scores[~same]
            if left == right:
                other = other[other < 0.9999]  # an item with itself, or an exact copy
            if min(len(match), len(other)) < _FEWEST:
                continue
            other = random.choice(other, min(len(other), _BACKGROUND), replace=False)
            pairs[f"{left}>{right}"] = fit_pair(match, other, ridge=RIDGE)
    return Calibration(means, pairs)


RIDGE = 1e-5  # the classes overlap and are large: it only guards against separable toys
_FEWEST = 20
_BACKGROUND = 200_000
