"""What the integrations share: opening the space that is named, and refusing another one than a store was made with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import FingerprintMismatchError
from embedspace.space import EmbeddingSpace

__all__ = ["check_revision", "encode_words", "opened_space", "revision"]


def opened_space(space: EmbeddingSpace | str | Path | None, device: str = "cpu") -> EmbeddingSpace:
    """Return a space that is given, or open the one that is named; None is the shipped one. Nothing is downloaded."""
    return space if isinstance(space, EmbeddingSpace) else EmbeddingSpace.from_pretrained(space, device=device)


def revision(space: EmbeddingSpace) -> str:
    """Return a short digest of all the space's weights and settings; rows of two that differ do not compare."""
    return hashlib.sha256("".join(sorted(space.fingerprints().values())).encode()).hexdigest()[:16]


def check_revision(space: EmbeddingSpace, stored: str, name: str) -> None:
    """Refuse a space whose vectors do not fit those that are stored.

    Args:
        space: The space at hand.
        stored: `revision` of the space that made the stored vectors; empty where none was noted.
        name: What the message calls the store.

    Raises:
        FingerprintMismatchError: If they differ.
    """
    found = revision(space)
    if stored and stored != found:
        raise FingerprintMismatchError(
            f"{name}: its vectors were made by space {stored}, this is {found} ({space.folder}); open it with the "
            "space that made them, or encode everything again"
        )


def encode_words(
    space: EmbeddingSpace, texts: Sequence[str], *, is_query: bool = False, batch_size: int = 32
) -> NDArray[np.float32]:
    """Encode texts, none of which is read as a path.

    Returns:
        (N, embed_dim) unit rows.

    Raises:
        EmptyMediaError: If one has no words.
    """
    encode = space.encode_query if is_query else space.encode_document
    return encode([{"text": str(text)} for text in texts], batch_size=batch_size)
