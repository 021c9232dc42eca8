"""What a tower is given of an item: decoded and cut as a catalog would, and prepared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from embedspace.encoders.contract import Encoders
from embedspace.encoders.tower import TowerEncoder
from embedspace.errors import MediaError
from embedspace.modality import kind_of_modality, modality_spec

__all__ = ["prepared_of"]

_STRETCHES = 8
"""Of a recording or a long text that training sees, at most."""


def prepared_of(encoder: TowerEncoder, media: Path | bytes | str) -> list[Any]:
    """Return what `Tower.encode` takes, a part per stretch of the item.

    Args:
        encoder: Says how media are cut for its tower.
        media: A file, its bytes, or a text.

    Raises:
        MediaError: If it cannot be decoded.
    """
    modality = encoder.modality
    decode = modality_spec(kind_of_modality(modality)).decode()
    if decode is None:
        raise MediaError(f"nothing decodes {modality}")
    decoded = decode(media, Encoders((modality,), lambda name: encoder), modality)
    pieces = [piece.content for piece in decoded.inputs if piece.modality == modality]
    if not pieces:
        raise MediaError(f"no {modality} in it")
    return pieces[:_STRETCHES]
