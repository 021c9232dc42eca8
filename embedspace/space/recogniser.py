"""Speech with or without its recogniser: a choice of the run, which the fingerprint of a catalog's speech tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, cast

from embedspace.modality import Modality
from embedspace.space.space import EmbeddingSpace

__all__ = ["fitted"]

Space = TypeVar("Space")


def fitted(space: Space, fingerprints: Mapping[str, str]) -> Space:
    """Return a space as the vectors of a catalog were made: without the recogniser if its speech was, else as it is.

    Args:
        space: A space; any other than an `EmbeddingSpace` is returned as it is.
        fingerprints: Modality -> digest, as the catalog has them.
    """
    speech = fingerprints.get(Modality.SPEECH)
    if speech is None or not isinstance(space, EmbeddingSpace) or not space.has_recogniser:
        return space
    if space.fingerprints()[Modality.SPEECH] == speech:
        return space
    other = space.without_recogniser()
    return cast(Space, other) if other.fingerprints()[Modality.SPEECH] == speech else space
