"""The space as a catalog's vectors were made: choices of a run, which the fingerprints of the catalog tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, cast

from embedspace.modality import Modality
from embedspace.space.space import EmbeddingSpace

__all__ = ["fitted", "with_extras"]

Space = TypeVar("Space")


def fitted(space: Space, fingerprints: Mapping[str, str]) -> Space:
    """Return a space as the vectors of a catalog were made.

    Without the recogniser if its speech was, with voices and with timing if it has them, else as it is.

    Args:
        space: A space; any other than an `EmbeddingSpace` is returned as it is.
        fingerprints: Modality -> digest, as the catalog has them.

    Raises:
        ConfigError: If the catalog has voices or timing, which the space has no room for.
    """
    if not isinstance(space, EmbeddingSpace):
        return space
    its = _as_heard(space, fingerprints.get(Modality.SPEECH))
    its = with_extras(its, voices=Modality.VOICE in fingerprints, timing=Modality.MOTION in fingerprints)
    return cast(Space, its)


def with_extras(space: EmbeddingSpace, *, voices: bool = False, timing: bool = False) -> EmbeddingSpace:
    """Return the space with voices and with timing where they are wanted.

    Raises:
        ConfigError: If it has no room for them.
    """
    space = space.with_voices() if voices else space
    return space.with_timing() if timing else space


def _as_heard(space: EmbeddingSpace, speech: str | None) -> EmbeddingSpace:
    """Return the space without the recogniser if a catalog's speech was made so."""
    if speech is None or not space.has_recogniser or space.fingerprints()[Modality.SPEECH] == speech:
        return space
    other = space.without_recogniser()
    return other if other.fingerprints()[Modality.SPEECH] == speech else space
