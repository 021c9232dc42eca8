"""Unit rows of a tower to the vectors of pictures that a decoder was trained on: their length, and their place.

A decoder takes vectors as its tower made them, not at unit length, and those of pictures, which lie around another mean
than those of texts. A row of a picture is only brought to length. Any other row's own mean is taken out, and what is
left is put around the mean of pictures, as far from it as pictures are.

Source: Ramesh et al. 2022 (unCLIP, https://arxiv.org/abs/2204.06125), section 2, for decoders of image vectors; Zhang
et al. 2024 (C3, https://arxiv.org/abs/2401.08567), section 4, for the exchange of means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from embedspace.calibration.centring import MIXED, centre
from embedspace.generate.pretrained.base import HeadSpace
from embedspace.generate.pretrained.fitting import Way
from embedspace.modality import Modality

__all__ = ["PICTURED", "Spread", "as_pictures", "spread_of"]

_SPOKEN = (
    "a dog", "a red flower", "rain on a roof", "a violin", "two people in a street", "a green hill", "an old house",
    "a plate of food", "a car at night", "a cat on a sofa", "the sea", "a child with a drum", "a tall tree", "a bird",
    "an aeroplane", "a book on a table",
)  # fmt: skip
"""Texts whose mean stands for that of texts, in a space without calibration."""
PICTURED = frozenset({"image", "video"})
"""Modalities whose rows lie where those of pictures lie: a video's is the mean of its frames'."""
_TEXT = Modality.TEXT.value


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """Where a tower's vectors of pictures lie, not brought to unit length.

    Attributes:
        mean: (width,) float32 their mean.
        radius: Root of their mean squared distance from it.
        length: Root of their mean squared length.
    """

    mean: NDArray[np.float32]
    radius: float
    length: float


def spread_of(mean: Tensor, std: Tensor) -> Spread:
    """Return the spread that a head stores as mean and standard deviation of each entry, (1, width) both."""
    centre_row = mean.detach().float().cpu().numpy().ravel()
    variance = float((std.detach().float().cpu() ** 2).sum())
    return Spread(centre_row, variance**0.5, float((centre_row**2).sum() + variance) ** 0.5)


def as_pictures(
    vectors: NDArray[np.float32], modalities: Sequence[str], space: HeadSpace, way: Way, spread: Spread
) -> tuple[NDArray[np.float32], list[str]]:
    """Turn rows of the space into vectors as the head's tower makes them of pictures.

    Args:
        vectors: (N, embed_dim) float32 unit rows of the space.
        modalities: Which encoder made each.
        space: The space.
        way: From `way_to`.
        spread: Where vectors of pictures lie.

    Returns:
        (N, width) float32, and what became of each row: "picture" brought to length, or "means" exchanged, behind a
        "connector" where one was needed.
    """
    rows, how = np.empty((len(vectors), len(spread.mean)), np.float32), []
    for number, (vector, modality) in enumerate(zip(vectors, modalities, strict=True)):
        if way.connector is not None:
            around = way.connector.target_centre.cpu().numpy()
            left = centre(way.rows(vector[None]), _TEXT, {_TEXT: around})[0]
            how.append("connector")
        elif modality in PICTURED:
            rows[number] = spread.length * vector
            how.append("picture")
            continue
        else:
            left = centre(vector[None], _TEXT, {_TEXT: _mean(space, modality)})[0]
            how.append("means")
        rows[number] = spread.mean + spread.radius * left
    return rows, how


def _mean(space: HeadSpace, modality: str) -> NDArray[np.float32]:
    """Return the mean of a modality's rows; a connected tower's lie where texts lie."""
    means = space.calibration.means
    if modality == MIXED and means:
        return np.zeros(space.embed_dim, np.float32)
    found = means.get(modality, means.get(_TEXT))
    if found is None and space.supports(_TEXT):
        found = space.encode_text(list(_SPOKEN)).mean(axis=0)
    return np.zeros(space.embed_dim, np.float32) if found is None else np.asarray(found, np.float32)
