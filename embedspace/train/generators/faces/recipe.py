"""The [faces] table of a recipe."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["FaceRecipe"]


@dataclass(frozen=True)
class FaceRecipe:
    """What makes faces from voices.

    Attributes:
        pairs: A manifest of recordings and pictures (`embedspace.train.generators.faces.pairs`): CSV, JSONL or parquet.
        families: Name -> network, in a file the settings of its family's `Config`; one alone.
        mirror: Pictures are mirrored in half of the draws.
        about: What the weights were learnt from, in a sentence; it goes into their configuration.
    """

    pairs: str = "build/faces/pairs.jsonl"
    families: dict[str, Any] = field(default_factory=dict)
    mirror: bool = True
    about: str = ""
