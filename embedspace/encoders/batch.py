"""What `EmbeddingSpace` does with items: tell what one is, encode decoded ones together, pool an item's segments."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedspace.encoders.contract import Encoders, MediaEncoder, Piece, Turn
from embedspace.encoders.film.pooled import FrameWindow
from embedspace.errors import InputError, MediaError, UnknownModalityError
from embedspace.modality import (
    Modality,
    holds_several,
    is_modality,
    kind_of,
    leading,
    modality_names,
    modality_of,
    modality_spec,
)
from embedspace.segment import Decoded, Segment, mean_vector
from embedspace.stages import stage

__all__ = ["encode_items", "pool_segments", "progress_bar", "resolve_item"]

_SPEAKS = 0.5

Tell = Callable[[int, int], None]
Part = tuple[list[Any], float]


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
        if len(item) != 1 or not is_modality(next(iter(item))):
            known = ", ".join(modality_names())
            raise InputError(f"an item given as a dict has one key, its modality ({known}); got {list(item)}")
        ((modality, item),) = item.items()
    if modality is not None and not is_modality(modality):
        raise UnknownModalityError(f"unknown modality {modality!r}; known: {', '.join(modality_names())}")
    if modality is not None:
        return _taken_as(item, str(modality))
    if not isinstance(item, str | Path):
        return item, Modality.IMAGE.value, None
    if isinstance(item, Path) or _is_file(item):
        return Path(item), modality_of(item), None
    return item, Modality.TEXT.value, None


def _taken_as(item: Any, wanted: str) -> tuple[Any, str, str | None]:  # noqa: ANN401
    """Return what an item is whose modality is said: a file of another kind may hold it, as videos hold pictures."""
    kind = modality_spec(wanted).kind or wanted
    own = kind_of(item) if kind != Modality.TEXT and isinstance(item, str | Path) else None
    if own is not None and own != kind and wanted in modality_spec(own).held:
        return item, own, wanted
    if kind == Modality.AUDIO and not isinstance(item, str | Path | bytes | tuple):
        raise InputError(f"a recording is a file, or samples and their rate; got {type(item).__name__}: {item!r:.60}")
    return item, kind, wanted if holds_several(kind) else None


def _is_file(text: str) -> bool:
    try:
        return kind_of(text) is not None and Path(text).is_file()
    except (OSError, ValueError):  # too long for a path, or a null character
        return False


def encode_items(items: list[Decoded], encoders: Encoders) -> list[list[Segment]]:
    """Encode decoded items together; result i holds the segments of items[i], whatever the other items are.

    What follows in long recordings is then decoded, encoded and dropped part by part.

    Args:
        items: Decoded by `embedspace.encoders.decode`.
        encoders: Gives the encoder of a modality.
    """
    segments = _encode_inputs([item.inputs for item in items], encoders, [item.is_query for item in items])
    for item, found in zip(items, segments, strict=True):
        for inputs, reached in _ahead(item.rest()) if item.rest is not None else ():
            found.extend(_encode_inputs([inputs], encoders, [item.is_query])[0])
            if item.progress is not None:
                item.progress(reached, item.metadata.get("duration"))
    return [_joined(own, encoders) for own in segments]


def _ahead(parts: Iterator[Part]) -> Iterator[Part]:
    """Yield the parts of a long item, of which the next one is decoded in a thread while one is encoded."""
    with ThreadPoolExecutor(1, thread_name_prefix="decode") as thread:
        waiting = thread.submit(next, parts, None)
        while (found := waiting.result()) is not None:
            waiting = thread.submit(next, parts, None)
            yield found


def _joined(segments: list[Segment], encoders: Encoders) -> list[Segment]:
    """Return an item's segments, with the turns of those modalities whose encoder joins them."""
    for modality in dict.fromkeys(segment.modality for segment in segments):
        join = getattr(encoders(modality), "join_turns", None)
        if join is not None:
            others = [segment for segment in segments if segment.modality != modality]
            segments = [*others, *join([segment for segment in segments if segment.modality == modality])]
    return segments


def _encode_inputs(inputs: list[list[Piece]], encoders: Encoders, queries: Sequence[bool]) -> list[list[Segment]]:
    """Encode the pieces of some items together; `queries` says which items are searched with."""
    flat: list[tuple[int, Piece]] = [(index, piece) for index, pieces in enumerate(inputs) for piece in pieces]
    own = len(flat)
    windows = {k for k, (_, piece) in enumerate(flat) if isinstance(piece.content, FrameWindow)}
    flat += _frames_of([flat[k] for k in sorted(windows)], flat, encoders)
    rows: dict[int, NDArray[np.float32]] = {}
    texts: dict[int, str] = {}  # what was recognised
    turns: dict[int, list[Turn]] = {}  # what is stored in place of a piece of several
    talks: dict[int, list[Piece]] = {}  # item -> its sound segments in which somebody speaks
    doubtful: set[int] = set()  # items of whose sound nobody says that

    def encode(chosen: list[int]) -> None:
        for modality in sorted({flat[k][1].modality for k in chosen}):
            for query in (False, True):
                where = [k for k in chosen if flat[k][1].modality == modality and queries[flat[k][0]] == query]
                if where:
                    encoder = encoders(modality)
                    with stage(f"encode {modality}"):
                        contents = [flat[k][1].content for k in where]
                        alike = functools.partial(_encode_alike, contents, encoder, query)
                        trial = None if query else encoders.half
                        found = alike() if trial is None else trial.encode(modality, encoder, alike)
                    rows.update(zip(where, found.rows, strict=True))
                    turns.update(zip(where, found.turns, strict=False))
                    texts.update(zip(where, found.said, strict=False))
                    _note_talk([flat[k] for k in where], found.speaks, talks, doubtful)

    at_once = (k for k, (_, piece) in enumerate(flat) if not piece.optional and not piece.beside)
    encode([k for k in at_once if k not in windows])
    rows.update(_pooled(flat, windows, rows, encoders))
    spoken = [k for k, (index, p) in enumerate(flat) if p.optional and _overlaps(p, talks.get(index, ()))]
    unsure = [k for k in spoken if flat[k][0] in doubtful]
    chances = _speech_chances([flat[k][1] for k in unsure], encoders)
    silent = {k for k, chance in zip(unsure, chances, strict=True) if chance < _SPEAKS}
    spoken = [k for k in spoken if k not in silent]
    encode(spoken)
    for k in spoken:
        if flat[k][0] in doubtful and texts.get(k) == "":  # who listens for words heard none
            del rows[k]
    encode(
        [k for k, (index, p) in enumerate(flat) if p.beside and _overlaps(p, _found_of(flat, rows, index, p.beside))]
    )
    segments: list[list[Segment]] = [[] for _ in inputs]
    for k, (index, p) in enumerate(flat[:own]):
        start = p.start or 0.0
        for turn in turns.get(k, ()):
            segments[index].append(Segment(p.modality, turn.row, start + turn.start, start + turn.end, p.text, p.label))
        if k in rows and k not in turns:
            segments[index].append(Segment(p.modality, rows[k], p.start, p.end, p.text or texts.get(k, ""), p.label))
    return segments


def _found_of(
    flat: Sequence[tuple[int, Piece]], rows: Mapping[int, NDArray[np.float32]], index: int, modality: str
) -> list[Piece]:
    """Return the pieces of an item and a modality that are kept."""
    return [piece for k, (own, piece) in enumerate(flat) if own == index and piece.modality == modality and k in rows]


def _frames_of(
    windows: Sequence[tuple[int, Piece]], others: Sequence[tuple[int, Piece]], encoders: Encoders
) -> list[tuple[int, Piece]]:
    """Return as pieces the frames of windows, each once, without those that are pieces of the same item already."""
    seen = {(index, id(piece.content)) for index, piece in others}
    found: list[tuple[int, Piece]] = []
    for index, piece in windows:
        for key, frame in piece.content.distinct.items():
            if (index, key) not in seen:
                seen.add((index, key))
                found.append((index, Piece(encoders(piece.modality).pools, frame)))
    return found


def _pooled(
    flat: Sequence[tuple[int, Piece]],
    windows: Collection[int],
    rows: Mapping[int, NDArray[np.float32]],
    encoders: Encoders,
) -> dict[int, NDArray[np.float32]]:
    """Return the rows of the windows at some positions, made of those of their frames."""
    known = {(flat[k][0], id(flat[k][1].content)): row for k, row in rows.items()}
    found: dict[int, NDArray[np.float32]] = {}
    for k in windows:
        index, piece = flat[k]
        frames = {key: known[index, key] for key in piece.content.distinct}
        found[k] = encoders(piece.modality).pool([piece.content], frames)[0]
    return found


def _speech_chances(pieces: Sequence[Piece], encoders: Encoders) -> Sequence[float]:
    """Return how likely somebody speaks in each piece, as the encoder of speech says; 1 where it cannot say."""
    judge = getattr(encoders(pieces[0].modality), "speech_probability", None) if pieces else None
    return [1.0] * len(pieces) if judge is None else list(judge([piece.content for piece in pieces]))


class _Encoded(NamedTuple):
    """Rows (N, embed_dim); where the encoder tells: what is said in each, whether somebody speaks, parts of each."""

    rows: NDArray[np.float32]
    said: Sequence[str] = ()
    speaks: NDArray[np.float32] | None = None
    turns: Sequence[list[Turn]] = ()


def _encode_alike(contents: list[Any], encoder: MediaEncoder, query: bool) -> _Encoded:
    """Encode contents of one modality; a long batch in parts, which the encoder may run side by side."""
    size = encoder.together or len(contents)
    parts = [contents[first : first + size] for first in range(0, len(contents), size)]
    found = encoder.map_parts(lambda part: _encode_part(part, encoder, query), parts)
    if len(found) == 1:
        return found[0]
    speaks = [part.speaks for part in found if part.speaks is not None]
    return _Encoded(
        np.concatenate([part.rows for part in found]),
        [text for part in found for text in part.said],
        np.concatenate(speaks) if speaks else None,
        [turns for part in found for turns in part.turns],
    )


def _encode_part(contents: list[Any], encoder: Any, query: bool) -> _Encoded:  # noqa: ANN401 - optional methods
    if (route := getattr(encoder, "encode_and_route", None)) is not None:
        rows, speaks = route(contents)
        return _Encoded(rows, speaks=speaks)
    if (transcribe := getattr(encoder, "encode_and_transcribe", None)) is not None:
        rows, said = transcribe(contents)
        return _Encoded(rows, said)
    if (divide := getattr(encoder, "encode_turns", None)) is not None:
        turns = divide(contents)
        return _Encoded(np.stack([own[0].row for own in turns]), turns=turns)
    return _Encoded(encoder.encode_query(contents) if query else encoder.encode(contents))


def _note_talk(
    encoded: list[tuple[int, Piece]],
    speaks: NDArray[np.float32] | None,
    talks: dict[int, list[Piece]],
    doubtful: set[int],
) -> None:
    """Remember in which sound segments somebody speaks; where the encoder of sound cannot say, it may be in all."""
    for number, (index, piece) in enumerate(encoded):
        if piece.modality != Modality.AUDIO:
            continue
        if speaks is None:
            doubtful.add(index)
        if speaks is None or speaks[number] >= _SPEAKS:
            talks.setdefault(index, []).append(piece)


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
        segments: Segments of the item.
        wanted: The modality; None takes the leading one that is there.
        source: The item, for messages.
        normalize: Unit norm.

    Raises:
        MediaError: If no segment is of that modality.
    """
    present = leading({s.modality for s in segments})
    modality = wanted or (present[0] if present else "")
    mean = mean_vector(segments, modality)
    if mean is None:
        raise MediaError(f"{source}: nothing in it could be encoded as {modality or 'any modality'}")
    if normalize:
        mean = mean / np.linalg.norm(mean)
    return mean.astype(np.float32)


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
