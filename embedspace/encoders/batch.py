"""What `EmbeddingSpace` does with items: tell what one is, encode decoded ones together, pool an item's segments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.encoders.base import Piece
from embedspace.encoders.decode import Encoders
from embedspace.errors import InputError, MediaError, UnknownModalityError
from embedspace.modality import SUFFIXES, Modality, modality_of
from embedspace.segment import Decoded, Segment

__all__ = ["content_bytes", "encode_items", "pool_segments", "progress_bar", "resolve_item"]

_SPEAKS = 0.5
_LEADING = (Modality.IMAGE, Modality.TEXT, Modality.SPEECH, Modality.AUDIO)
"""Whose segments stand for an item that has several kinds: of a talk what is said, of a video what is seen."""

Tell = Callable[[int, int], None]


def resolve_item(item: Any, modality: str | None) -> tuple[Any, str, str | None]:  # noqa: ANN401
    """Tell what an item is.

    Args:
        item: As `EmbeddingSpace.encode` takes it.
        modality: Take it as this one; a dict says its own.

    Returns:
        (source, kind, as_modality) for `EmbeddingSpace.decode`.

    Raises:
        InputError: If a dict is not one modality with one item.
        UnknownModalityError: If there is no such modality, or a path's suffix tells nothing.
    """
    if isinstance(item, Mapping):
        if len(item) != 1 or next(iter(item)) not in set(Modality):
            known = ", ".join(Modality)
            raise InputError(f"an item given as a dict has one key, its modality ({known}); got {list(item)}")
        ((modality, item),) = item.items()
    if modality is not None and modality not in set(Modality):
        raise UnknownModalityError(f"unknown modality {modality!r}; known: {', '.join(Modality)}")
    wanted = None if modality is None else str(modality)
    if wanted == Modality.TEXT:
        return item, "text", None
    if wanted is not None and isinstance(item, str | Path) and SUFFIXES.get(Path(item).suffix.lower()) == "video":
        return item, "video", wanted
    if wanted in (Modality.AUDIO, Modality.SPEECH):
        if not isinstance(item, str | Path | bytes | tuple):
            raise InputError(
                f"a recording is a file, or samples and their rate; got {type(item).__name__}: {item!r:.60}"
            )
        return item, "audio", wanted
    if wanted == Modality.IMAGE or not isinstance(item, str | Path):
        return item, "image", None
    if isinstance(item, Path) or _is_file(item):
        return Path(item), modality_of(item), None
    return item, "text", None


def _is_file(text: str) -> bool:
    try:
        return Path(text).suffix.lower() in SUFFIXES and Path(text).is_file()
    except (OSError, ValueError):  # too long for a path, or a null character
        return False


def encode_items(items: list[Decoded], encoders: Encoders) -> list[list[Segment]]:
    """Encode decoded items together; result i holds the segments of items[i], whatever the other items are.

    What follows in long recordings is then decoded, encoded and dropped part by part.

    Args:
        items: Decoded by `embedspace.encoders.decode`.
        encoders: Gives the encoder of a modality.
    """
    segments = _encode_inputs([item.inputs for item in items], encoders)
    for item, found in zip(items, segments, strict=True):
        for inputs, reached in item.rest() if item.rest is not None else ():
            found.extend(_encode_inputs([inputs], encoders)[0])
            if item.progress is not None:
                item.progress(reached, item.metadata.get("duration"))
    return segments


def _encode_inputs(inputs: list[list[Piece]], encoders: Encoders) -> list[list[Segment]]:
    """Encode the pieces of some items together."""
    flat: list[tuple[int, Piece]] = [(index, piece) for index, pieces in enumerate(inputs) for piece in pieces]
    rows: dict[int, NDArray[np.float32]] = {}
    texts: dict[int, str] = {}  # what was recognised
    talks: dict[int, list[Piece]] = {}  # item -> its sound segments in which the router heard speech
    for modality in (Modality.IMAGE, Modality.TEXT, Modality.AUDIO):
        where = [k for k, (_, piece) in enumerate(flat) if piece.modality == modality]
        if not where:
            continue
        encoder: Any = encoders(modality)
        contents = [flat[k][1].content for k in where]
        if modality == Modality.AUDIO:
            vectors, probabilities = encoder.encode_and_route(contents)
            for k, probability in zip(where, probabilities.tolist(), strict=True):
                if probability >= _SPEAKS:
                    talks.setdefault(flat[k][0], []).append(flat[k][1])
        else:
            vectors = encoder.encode(contents)
        rows.update(zip(where, vectors, strict=True))
    spoken = [
        k
        for k, (index, piece) in enumerate(flat)
        if piece.modality == Modality.SPEECH and (not piece.optional or _overlaps(piece, talks.get(index, ())))
    ]
    if spoken:
        listener: Any = encoders(Modality.SPEECH)
        vectors, said = listener.encode_and_transcribe([flat[k][1].content for k in spoken])
        rows.update(zip(spoken, vectors, strict=True))
        texts.update(zip(spoken, said, strict=True))
    segments: list[list[Segment]] = [[] for _ in inputs]
    for k, (index, p) in enumerate(flat):
        if k in rows:
            segments[index].append(Segment(p.modality, rows[k], p.start, p.end, p.text or texts.get(k, ""), p.label))
    return segments


def _overlaps(piece: Piece, others: Sequence[Piece]) -> bool:
    start, end = piece.start or 0.0, piece.end or 0.0
    return any((other.start or 0.0) < end and (other.end or 0.0) > start for other in others)


def pool_segments(
    segments: list[Segment],
    wanted: str | None,
    source: Any,  # noqa: ANN401
    normalize: bool,
) -> NDArray[np.float32]:
    """Return one (embed_dim,) row for an item: the mean of its segments of one modality.

    Args:
        segments: Of the item.
        wanted: The modality; None takes the leading one that is there.
        source: The item, for messages.
        normalize: Unit norm.

    Raises:
        MediaError: If no segment is of that modality.
    """
    present = {s.modality for s in segments}
    modality = wanted or next((m.value for m in _LEADING if m.value in present), "")
    rows = [s.vector for s in segments if s.modality == modality]
    if not rows:
        raise MediaError(f"{source}: nothing in it could be encoded as {modality or 'any modality'}")
    mean: NDArray[np.float64] = np.mean(rows, axis=0, dtype=np.float64)
    if normalize:
        mean = mean / np.linalg.norm(mean)
    return mean.astype(np.float32)


def content_bytes(content: Any) -> int:  # noqa: ANN401
    """Return the memory that prepared content holds, tensors and arrays within tuples and lists included."""
    if isinstance(content, list | tuple):
        return sum(content_bytes(part) for part in content)
    return int(getattr(content, "nbytes", 8))


@contextmanager
def progress_bar(total: int, draw: bool, also: Tell | None) -> Iterator[Tell]:
    """Give a function to be told (done, total); it draws a bar on stderr if wanted, and tells `also`."""
    if not draw:
        yield also or (lambda done, of: None)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("encode", total=total)

        def tell(done: int, of: int) -> None:
            bar.update(task, completed=done)
            if also is not None:
                also(done, of)

        yield tell
