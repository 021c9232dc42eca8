"""Look at a video several times per second, but only once at what does not move."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedspace.errors import EmptyMediaError
from embedspace.media.video import MAX_FRAME_PIXELS, EvenTimes, OpenVideo, open_video, rotation_of, upright

__all__ = ["Film", "Moment", "Watch", "iter_greys", "iter_moments"]

_GRID = (32, 18)
"""Width and height of the small pictures that tell whether anything has changed."""


Grey = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is shown every frame, small and grey, while a video is decoded for another reason.

    Attributes:
        size: Width and height of what they are shown, whatever shape the video has.
        show: Told the seconds and the (height, width) grey levels, upright.
    """

    size: tuple[int, int]
    show: Callable[[float, Grey], None]


@dataclass(frozen=True, slots=True)
class Moment:
    """What is seen at one time.

    Attributes:
        start: Seconds from the start of the video.
        image: An upright RGB image; None where it hardly differs from the last one that was given.
        is_picture: It stands for a stretch of the video by itself, and is as large as the video.
    """

    start: float
    image: Image.Image | None
    is_picture: bool = False


@dataclass(slots=True)
class Film:
    """A video in memory, or how far one has been read.

    Attributes:
        moments: In order of time, the first with an image.
        seconds: How long it lasts.
    """

    moments: Sequence[Moment] = field(default_factory=tuple)
    seconds: float = 0.0


def iter_moments(
    path: str | os.PathLike[str],
    film: Film,
    *,
    per_second: float,
    picture_seconds: float = math.inf,
    side: int | None = None,
    still: float = 0.0,
    watch: Watch | None = None,
    max_pixels: int = MAX_FRAME_PIXELS,
) -> Iterator[Moment]:
    """Decode a video, whatever its frame rate, with one frame in memory.

    Args:
        path: A video file.
        film: Told how far it has been read.
        per_second: Moments per second; fewer where the video has fewer frames.
        picture_seconds: Distance of the pictures among them; by default there is only the first.
        side: Images other than pictures are made smaller, their shorter side to so many pixels; None: none is.
        still: Root mean square difference, of pixels from 0 to 1, below which a frame looks like the one before.
        watch: Is shown every frame before it is yielded.
        max_pixels: Refuse larger frames.

    Yields:
        The first frame at or after each multiple of 1 / `per_second`, and those at or after each multiple of
        `picture_seconds`.

    Raises:
        ValueError: If a rate is not positive.
        MediaTooLargeError: If a frame has more than `max_pixels` pixels.
        EmptyMediaError: If the file has no pictures.
        MediaError: If nothing of it decodes; what is damaged within it is passed over.
    """
    wanted, pictures = EvenTimes(1 / per_second), EvenTimes(picture_seconds)
    before: NDArray[np.float32] | None = None
    with open_video(path, max_pixels) as video:
        for time, frame in video.frames(None if watch else _step(per_second, picture_seconds)):
            film.seconds = video.seconds
            if watch is not None:
                watch.show(time, _grey(video, frame, watch.size))
            is_picture = pictures.wants(time)
            if not wanted.wants(time) and not is_picture:
                continue
            grid = _grid(video, frame)
            moved = before is None or float(np.sqrt(np.square(grid - before).mean())) >= still
            if not moved and not is_picture:
                yield Moment(time, None)
                continue
            before = grid
            shown = frame if is_picture else _smaller(video, frame, side)
            yield Moment(time, upright(shown, rotation_of(frame)), is_picture)
        _require_frames(video, before)


def _step(per_second: float, picture_seconds: float) -> float | None:
    """Return the seconds of which only the first frame is wanted; None where pictures are wanted at other times."""
    between = math.isinf(picture_seconds) or float(picture_seconds * per_second).is_integer()
    return 1 / per_second if between else None


def iter_greys(
    path: str | os.PathLike[str], film: Film, size: tuple[int, int], max_pixels: int = MAX_FRAME_PIXELS
) -> Iterator[tuple[float, Grey]]:
    """Yield the seconds and the upright (height, width) grey levels of every frame of a video, all of one size.

    Args:
        path: A video file.
        film: Told how far it has been read.
        size: Width and height, whatever shape the video has.
        max_pixels: Refuse larger frames.

    Raises:
        MediaTooLargeError: If a frame has more than `max_pixels` pixels.
        EmptyMediaError: If the file has no pictures.
        MediaError: If nothing of it decodes; what is damaged within it is passed over.
    """
    seen = False
    with open_video(path, max_pixels) as video:
        for time, frame in video.frames():
            film.seconds, seen = video.seconds, True
            yield time, _grey(video, frame, size)
        if not seen:
            raise EmptyMediaError(f"{video.name}: no frame decodes; it is truncated or empty")


def _require_frames(video: OpenVideo, last: NDArray[np.float32] | None) -> None:
    if last is None:
        raise EmptyMediaError(f"{video.name}: no frame decodes; it is truncated or empty")


def _grid(video: OpenVideo, frame: Any) -> NDArray[np.float32]:  # noqa: ANN401 - av.VideoFrame
    """Return a frame as a few pixels, (18, 32, 3) in [0, 1]."""
    scaled: NDArray[np.float32] = video.scaled(frame, _GRID, "rgb24").to_ndarray().astype(np.float32) / 255.0
    return scaled


def _grey(video: OpenVideo, frame: Any, size: tuple[int, int]) -> Grey:  # noqa: ANN401 - av.VideoFrame
    turn = rotation_of(frame) % 360
    across = turn % 180 == 90  # lies on its side
    scaled: Grey = video.scaled(frame, size[::-1] if across else size, "gray").to_ndarray()
    return np.ascontiguousarray(np.rot90(scaled, turn // 90)) if turn else scaled


def _smaller(video: OpenVideo, frame: Any, side: int | None) -> Any:  # noqa: ANN401 - av.VideoFrame
    """Return a frame whose shorter side is `side`, or the frame where it is no longer."""
    shorter = min(frame.width, frame.height)
    if side is None or shorter <= side:
        return frame
    size = max(1, round(frame.width * side / shorter)), max(1, round(frame.height * side / shorter))
    return video.scaled(frame, size, "rgb24")
