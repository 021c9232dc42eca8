"""Videos of any length, part by part: windows of frames, a picture every ten seconds, and the windows of the sound.

Frames are decoded once. A picture is one of the frames that its window is made of, so that it is encoded once as well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

from embedspace.encoders.contract import Encoders, MediaEncoder, Piece
from embedspace.encoders.film.moving import SIDE, smaller
from embedspace.encoders.recordings import SOUND, Part, require_encoder, sound_parts, started
from embedspace.encoders.timing.profiles import GRID
from embedspace.encoders.timing.windows import GreyWindows, SeenWindow, moves
from embedspace.errors import EmptyMediaError, UnknownModalityError
from embedspace.media.film import Film, Moment, Watch, iter_greys, iter_moments
from embedspace.media.video import iter_frames
from embedspace.modality import Modality
from embedspace.segment import Decoded

__all__ = ["PICTURE_SECONDS", "decode_video"]

PICTURE_SECONDS = 10.0
"""A video's pictures are taken this far apart."""
_PART_PICTURES = 10
_PART_FRAMES = 96
"""Frames after which a part ends, wherever it is; one mostly ends where a window and a picture begin."""
_SHORTEST_WINDOW = 0.25
"""Of a window's length: what is left at the end of a video and is shorter makes none, unless it is all there is."""


def decode_video(source: Any, encoders: Encoders, as_modality: str | None) -> Decoded:  # noqa: ANN401
    """Decode a video into windows of frames, pictures, and the windows of its sound.

    Args:
        source: A file, or a `Film`, which has no sound.
        encoders: Gives the encoder of a modality.
        as_modality: Takes only segments of this modality.

    Raises:
        EmptyMediaError: If there is nothing to see or hear in it.
        MediaError: If it cannot be decoded.
        UnknownModalityError: If it is wanted as something else.
    """
    whole = (Modality.VIDEO, Modality.IMAGE, *SOUND, Modality.MOTION)
    if as_modality not in (None, *whole):
        raise UnknownModalityError(f"{source}: a video holds {', '.join(whole)}, not {as_modality!r}")
    require_encoder(encoders, as_modality, whole[:-3], source)
    facts: dict[str, Any] = {}
    return started("video", source, facts, lambda: _video_parts(source, encoders, as_modality, facts))


def _video_parts(
    source: Any,  # noqa: ANN401
    encoders: Encoders,
    as_modality: str | None,
    facts: dict[str, Any],
) -> Generator[Part]:
    """Yield what is seen first, then sound; either may be missing."""
    facts.pop("duration", None)
    wanted = [name for name in encoders if as_modality in (None, name)]
    ways: list[Callable[[], Generator[Part]]] = []
    if Modality.VIDEO in wanted:
        ways.append(lambda: _seen_parts(source, encoders, wanted, facts))
    elif as_modality == Modality.MOTION:
        ways.append(lambda: _motion_parts(source, encoders(Modality.MOTION), facts))
    elif Modality.IMAGE in wanted:
        ways.append(lambda: _picture_parts(source, encoders(Modality.IMAGE), facts))
    if not isinstance(source, Film) and any(name in wanted for name in SOUND):
        ways.append(lambda: sound_parts(source, encoders, as_modality, facts))
    problem: EmptyMediaError | None = None
    found = False
    for way in ways:
        try:
            for part in way():
                found = found or bool(part[0])
                yield part
        except EmptyMediaError as error:
            problem = error
    if not found and problem is not None:
        raise problem


def _pictures(source: Any) -> Iterator[tuple[float, float, Any]]:  # noqa: ANN401
    if not isinstance(source, Film):
        yield from iter_frames(source, PICTURE_SECONDS)
        return
    found = [moment for moment in source.moments if moment.is_picture]
    ends = [*(moment.start for moment in found[1:]), source.seconds]
    yield from ((moment.start, end, moment.image) for moment, end in zip(found, ends, strict=True))


def _picture_parts(source: Any, encoder: MediaEncoder, facts: dict[str, Any]) -> Generator[Part]:  # noqa: ANN401
    """Yield the pictures of a video alone; `facts` has how far they reach."""
    pieces: list[Piece] = []
    for start, end, frame in _pictures(source):
        pieces.append(Piece(Modality.IMAGE, encoder.prepare(frame), start, end))
        facts["duration"] = round(end, 3)
        if len(pieces) == _PART_PICTURES:
            yield pieces, end
            pieces = []
    if pieces:
        yield pieces, pieces[-1].end or 0.0


class _Part:
    """Pieces of a video as they come to be: a window, and a picture, ends where the next one begins."""

    def __init__(self, encoders: Encoders, wanted: Collection[str]) -> None:
        self.video = encoders(Modality.VIDEO)
        self.image = encoders(Modality.IMAGE) if Modality.IMAGE in wanted else None
        self.motion = encoders(Modality.MOTION) if Modality.MOTION in wanted else None
        self._greys = GreyWindows()
        self._frames = encoders(self.video.pools) if self.video.pools else None
        self._last: Any = None  # the last frame, as the encoder of windows takes it
        self._window: list[Any] = []
        self._images: list[Any] = []  # of the window, where views are cut out of them
        self._shown: Any = None  # the last of them
        self._start = 0.0
        self._picture: tuple[Any, float] | None = None
        self.pieces: list[Piece] = []
        self.frames = 0

    def add(self, moment: Moment) -> bool:
        """Take what is seen at one moment; returns whether a part may end before it."""
        seconds = self.video.window_seconds
        begins = bool(self._window) and int(moment.start / seconds + 1e-6) > int(self._start / seconds + 1e-6)
        if begins:
            self._end_window(moment.start)
        if moment.is_picture:
            self._end_picture(moment.start)
        return begins and (moment.is_picture or self.frames >= _PART_FRAMES)

    def look(self, moment: Moment) -> None:
        """Prepare what is seen; after `add`, and after the part that ended there was handed on."""
        if moment.image is not None:
            frames = self._frames
            self._last = moment.image if frames is None else frames.prepare(moment.image)
            self.frames += 1
        if moment.is_picture and self.image is not None:
            alike = self.image is self._frames
            self._picture = (self._last if alike else self.image.prepare(moment.image), moment.start)
        if not self._window:
            self._start = moment.start
        self._window.append(self._last)
        if self.video.views:
            self._shown = self._shown if moment.image is None else smaller(moment.image)
            self._images.append(self._shown)

    def end(self, seconds: float) -> None:
        """End what has begun at the end of the video."""
        length = self.video.window_seconds
        self._move(self._greys.end(seconds))
        if self._window and (self._start < length or seconds - self._start >= _SHORTEST_WINDOW * length):
            self._end_window(seconds)
        self._end_picture(seconds)

    @property
    def watch(self) -> Watch | None:
        """Who is shown every frame: what writes the timing, where something does."""
        return None if self.motion is None else Watch(GRID, lambda time, grey: self._move(self._greys.add(time, grey)))

    def _move(self, windows: Iterable[SeenWindow]) -> None:
        if self.motion is not None:
            self.pieces += motion_pieces(windows, self.motion)

    def take(self) -> list[Piece]:
        """Return the pieces that are complete, in order of time: pictures first."""
        taken = sorted(self.pieces, key=lambda piece: (piece.modality != Modality.IMAGE, piece.start))
        self.pieces, self.frames = [], 0
        return taken

    def _end_window(self, at: float) -> None:
        window = self.video.prepare(self._window)
        if self.video.views:
            window = self.video.prepare_views(window, self._images)
        self.pieces.append(Piece(Modality.VIDEO, window, self._start, at))
        self._window, self._images = [], []

    def _end_picture(self, at: float) -> None:
        if self._picture is not None:
            content, start = self._picture
            self.pieces.append(Piece(Modality.IMAGE, content, start, at))
            self._picture = None


def motion_pieces(windows: Iterable[SeenWindow], encoder: MediaEncoder) -> list[Piece]:
    """Return the windows in which something moves, prepared for the encoder of motion."""
    return [Piece(Modality.MOTION, encoder.prepare(grey), at, end) for at, end, grey in windows if moves(grey)]


def _motion_parts(source: Any, encoder: MediaEncoder, facts: dict[str, Any]) -> Generator[Part]:  # noqa: ANN401
    """Yield the timing of a video alone; of a `Film` in memory there is none, as it has too few frames."""
    if isinstance(source, Film):
        return
    film, windows = Film(), GreyWindows()
    for time, grey in iter_greys(Path(source), film, GRID):
        if pieces := motion_pieces(windows.add(time, grey), encoder):
            yield pieces, time
    facts["duration"] = round(film.seconds, 3)
    yield motion_pieces(windows.end(film.seconds), encoder), film.seconds


def _seen_parts(
    source: Any,  # noqa: ANN401
    encoders: Encoders,
    wanted: Collection[str],
    facts: dict[str, Any],
) -> Generator[Part]:
    """Yield windows, and the pictures among their frames; `facts` has how far they reach."""
    part = _Part(encoders, wanted)
    film = source if isinstance(source, Film) else Film()
    for moment in _moments(source, film, part):
        if part.add(moment):
            facts["duration"] = round(moment.start, 3)
            yield part.take(), moment.start
        part.look(moment)
    part.end(film.seconds)
    facts["duration"] = round(film.seconds, 3)
    if part.pieces:
        yield part.take(), film.seconds


def _moments(source: Any, film: Film, part: _Part) -> Iterator[Moment]:  # noqa: ANN401
    if isinstance(source, Film):
        return iter(source.moments)
    video = part.video
    side = None if video.min_side is None else max(video.min_side, SIDE) if video.views else video.min_side
    return iter_moments(
        Path(source),
        film,
        per_second=video.frames_per_second,
        picture_seconds=PICTURE_SECONDS,
        side=side,
        still=video.still,
        watch=part.watch,
    )
