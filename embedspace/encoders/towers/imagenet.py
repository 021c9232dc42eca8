"""What the 1000 classes of the image backbones are called. No torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

__all__ = ["ImageClass", "imagenet_classes"]

_FILE = Path(__file__).resolve().parents[2] / "weights" / "imagenet_classes.json"


@dataclass(frozen=True, slots=True)
class ImageClass:
    """One class.

    Attributes:
        name: Plain English name.
        synonyms: Other names, from WordNet.
        hypernyms: What it is a kind of, the most special first, at most 5.
        wnid: Its number in WordNet 3.0, "n" and 8 digits.
    """

    name: str
    synonyms: tuple[str, ...]
    hypernyms: tuple[str, ...]
    wnid: str


@lru_cache(maxsize=1)
def imagenet_classes() -> tuple[ImageClass, ...]:
    """Return the 1000 classes in the order of the backbones' logits."""
    rows = json.loads(_FILE.read_text(encoding="utf-8"))
    return tuple(ImageClass(row["name"], tuple(row["synonyms"]), tuple(row["hypernyms"]), row["wnid"]) for row in rows)
