"""The one place where the command line gets its embedding space; tests replace `load_space`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedspace.space import EmbeddingSpace

__all__ = ["load_space"]


def load_space(weights: Path | None = None, device: str = "cpu") -> EmbeddingSpace:
    """Return the space of `weights`, or the shipped one.

    Reads configuration and calibration only: an encoder's weights load when it is first used.

    Raises:
        WeightsError: If the weights are missing or damaged.
    """
    from embedspace.space import EmbeddingSpace

    return EmbeddingSpace.from_pretrained(weights, device=device)
