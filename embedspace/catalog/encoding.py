"""Encoding a batch so that one bad item costs only itself."""

from __future__ import annotations

from embedspace.errors import EmbedspaceError, InputError, MissingExtraError
from embedspace.segment import Decoded, Segment, SegmentEncoder

__all__ = ["encode_each", "is_fatal", "reason_of"]


def is_fatal(error: BaseException) -> bool:
    """Return whether an error is about the installation or the disk, rather than about one file."""
    return isinstance(error, EmbedspaceError) and not isinstance(error, (InputError, MissingExtraError))


def reason_of(error: BaseException) -> str:
    """Return an error as one line for a list of failures."""
    if isinstance(error, EmbedspaceError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"cannot read it: {error.strerror}"
    return f"{type(error).__name__}: {error}".splitlines()[0]


def encode_each(encoder: SegmentEncoder, batch: list[Decoded]) -> list[list[Segment] | str]:
    """Encode a batch; where that fails, try item by item.

    Returns:
        For each item its segments, or why it has none.

    Raises:
        EmbedspaceError: If it is about the installation (weights, configuration), not about an item.
    """
    if not batch:
        return []
    try:
        return [segments or "the encoder found nothing in it" for segments in encoder.encode_decoded(batch)]
    except Exception as error:
        if is_fatal(error):
            raise
        if len(batch) == 1:
            return [reason_of(error)]
        return [result for one in batch for result in encode_each(encoder, [one])]
