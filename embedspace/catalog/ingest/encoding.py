"""Encoding a batch so that one bad item costs only itself, and a long one neither all memory nor all patience."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from embedspace.errors import EmbedspaceError, InputError, MissingExtraError
from embedspace.segment import Decoded, Segment, SegmentEncoder

__all__ = ["PART", "encode_each", "encode_long", "groups", "is_fatal", "reason_of"]

PART = 64
"""Inputs that meet the networks at a time: their memory stays small, and a part takes seconds, not minutes."""
_NOTHING = "the encoder found nothing in it"


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
    if len(batch) > 1 and any(item.rest is not None for item in batch):  # hours of work are not to be done twice
        return [result for one in batch for result in encode_each(encoder, [one])]
    try:
        return [segments or _NOTHING for segments in encoder.encode_decoded(batch)]
    except Exception as error:
        if is_fatal(error):
            raise
        if len(batch) == 1:
            return [reason_of(error)]
        return [result for one in batch for result in encode_each(encoder, [one])]


def groups(sizes: Sequence[int], most: int = PART) -> Iterator[range]:
    """Yield runs of neighbours that have at most so many inputs together, or are one long item alone."""
    first = total = 0
    for number, size in enumerate(sizes):
        if total and total + size > most:
            yield range(first, number)
            first, total = number, 0
        total += size
    if sizes:
        yield range(first, len(sizes))


def encode_long(encoder: SegmentEncoder, item: Decoded, tell: Callable[[float], None]) -> list[Segment] | str:
    """Encode an item of many inputs part by part.

    Args:
        encoder: Encodes the parts.
        item: Has `cuts` where it may be divided.
        tell: Told the share that is done after every part.

    Returns:
        As `encode_each` for one item.

    Raises:
        EmbedspaceError: As `encode_each`.
    """
    segments: list[Segment] = []
    done = 0
    for part in item.parts(PART):
        try:
            segments.extend(encoder.encode_decoded([part])[0])
        except Exception as error:
            if is_fatal(error):
                raise
            return reason_of(error)
        done += len(part.inputs)
        tell(done / len(item.inputs))
    return segments or _NOTHING
