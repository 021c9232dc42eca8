"""Take single frames from a video; its sound is read by `embedspace.media.audio`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from PIL import Image

from embedspace.errors import EmptyMediaError, MediaError, MediaTooLargeError
from embedspace.media.memory import DECODING
from embedspace.media.sound import check_decoder, open_container
from embedspace.media.source import check_file, one_line

__all__ = ["MAX_FRAME_PIXELS", "iter_frames"]

MAX_FRAME_PIXELS = 36_000_000
"""Default limit, a little over 8K."""
_FRAME_BYTES = 20 * 3 // 2
"""Bytes a pixel: a decoder keeps up to some twenty frames, each with half of the colour."""

_SEEK_SECONDS = 10.0  # decoding through a shorter gap is no slower than starting again at the key frame before it


def iter_frames(
    path: str | os.PathLike[str], every_seconds: float, *, max_pixels: int = MAX_FRAME_PIXELS
) -> Iterator[tuple[float, float, Image.Image]]:
    """Decode a frame every so many seconds.

    Args:
        path: A video file.
        every_seconds: Distance of the wanted frames; the first is the video's first.
        max_pixels: Refuse larger pictures.

    Yields:
        (start, end, image): seconds from the start of the video to this picture and to the next one, or to the end of
        the video; and an upright RGB image.

    Raises:
        ValueError: If `every_seconds` is not positive.
        MediaTooLargeError: If a frame has more than `max_pixels` pixels.
        EmptyMediaError: If the file has no pictures.
        MediaError: If it cannot be decoded at all; damage in the middle ends the frames early.
    """
    if not every_seconds > 0:
        raise ValueError(f"every_seconds must be positive, got {every_seconds}")
    file = check_file(path)
    with open_container(file, str(file)) as container:
        if not container.streams.video:
            raise EmptyMediaError(f"{file}: has no pictures; index it as sound, or give another file")
        track = container.streams.video[0]
        check_decoder(track, str(file))
        width, height = track.codec_context.width, track.codec_context.height
        if width * height > max_pixels:
            raise MediaTooLargeError(
                f"{file}: {width} x {height} pixels a frame, at most {max_pixels:,} are read; scale it down"
            )
        track.thread_type = "AUTO"
        empty = True
        with DECODING.hold(width * height * _FRAME_BYTES):
            for start, end, frame in _sample(container, track, str(file), every_seconds):
                empty = False
                yield start, end, _picture(frame)
        if empty:
            raise EmptyMediaError(f"{file}: no frame decodes; it is truncated or empty")


def _sample(container: Any, track: Any, name: str, every: float) -> Iterator[tuple[float, float, Any]]:  # noqa: ANN401
    """Yield (start, end, frame) for the first frame at or after each multiple of `every`."""
    import av

    origin: float | None = None
    wanted, reached = 0.0, 0.0
    frames = container.decode(track)
    seekable = True
    held: tuple[float, Any] | None = None  # until it is known when the next one comes
    while True:
        try:
            frame = next(frames, None)
        except (av.FFmpegError, ValueError) as error:
            if held is not None:
                break
            raise MediaError(f"{name}: damaged, no frame decodes ({one_line(error)}); restore it") from error
        if frame is None:
            break
        stamp = float(frame.time) if frame.time is not None else wanted
        origin = stamp if origin is None else origin
        time = max(stamp - origin, 0.0)
        reached = max(reached, time + _seconds(frame, track))
        if time < wanted - 1e-6:
            continue
        if held is not None:
            yield held[0], time, held[1]
        held = (time, frame)
        wanted = (time // every + 1) * every
        if wanted - time < 1e-6:
            wanted += every
        if seekable and wanted - time > _SEEK_SECONDS:
            seekable = False
            with contextlib.suppress(av.FFmpegError):
                container.seek(int((wanted + origin) / track.time_base), stream=track, backward=True)
                frames = container.decode(track)
                seekable = True
    if held is not None:
        yield held[0], reached, held[1]


def _seconds(frame: Any, track: Any) -> float:  # noqa: ANN401 - av.VideoFrame, av.VideoStream
    """Return how long a frame is shown."""
    if frame.duration and frame.time_base:
        return float(frame.duration * frame.time_base)
    return float(1 / track.average_rate) if track.average_rate else 0.0


def _picture(frame: Any) -> Image.Image:  # noqa: ANN401 - av.VideoFrame
    image: Image.Image = frame.to_image()
    turn = int(getattr(frame, "rotation", 0) or 0)  # degrees counter-clockwise that bring it upright
    return image.rotate(turn, expand=True) if turn % 360 else image
