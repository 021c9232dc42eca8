"""What the training items of a generator look like: the vectors of the pictures themselves, not of their names."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from embedspace.encoders.quantize import from_rows
from embedspace.errors import WeightsError
from embedspace.media.source import one_line

__all__ = ["FILE", "load_looks"]

FILE = Path("looks") / "looks.safetensors"
"""Within a generator's folder."""


def load_looks(folder: Path, count: int, embed_dim: int) -> Tensor | None:
    """Return (count, embed_dim) centred unit rows, one per training item; None where the folder has none.

    Raises:
        WeightsError: If the file is damaged, or of other training items.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        rows: Tensor = from_rows(load_file(path))["looks"].float()
    except (SafetensorError, KeyError, RuntimeError, ValueError, OSError) as error:
        raise WeightsError(f"{path}: damaged: {one_line(error)}") from error
    if tuple(rows.shape) != (count, embed_dim):
        raise WeightsError(
            f"{path}: has rows of {tuple(rows.shape)}, the generator {count} training items and vectors of "
            f"{embed_dim}; take it out of the folder, or make it anew"
        )
    return F.normalize(rows, dim=1)


def best_looking(looks: Tensor, vector: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
    """Return training items by how well what they show fits, and the cosines, best first.

    Args:
        looks: (M, embed_dim) of all training items.
        vector: (embed_dim,) centred unit row of what is wanted.
        near: (P,) numbers of the items to choose from.
    """
    cosines = looks[near] @ vector
    order = cosines.argsort(descending=True, stable=True)
    return near[order], cosines[order]
