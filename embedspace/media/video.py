"""Take single frames from a video; its sound is read by `embedspace.media.audio`."""

from __future__ import annotations

import contextlib
import math
import os
from collections import deque
from collections.abc import Iterator
from typing import Any

from PIL import Image

from embedspace.errors import EmptyMediaError, MediaError, MediaTooLargeError
from embedspace.media.memory import DECODING
from embedspace.media.sound import check_decoder, open_container
from embedspace.media.source import check_file, one_line

__all__ = ["MAX_FRAME_PIXELS", "EvenTimes", "OpenVideo", "Sieve", "iter_frames", "open_video", "rotation_of", "upright"]

MAX_FRAME_PIXELS = 36_000_000
"""Default limit, a little over 8K."""
_FRAME_BYTES = 20 * 3 // 2
"""Bytes a pixel: a decoder keeps up to some twenty frames, each with half of the colour."""

_SEEK_SECONDS = 10.0  # decoding through a shorter gap is no slower than starting again at the key frame before it
_BACK_SECONDS = 1.0  # stamps that fall back by more than this begin anew, as where two recordings were joined
_AHEAD_SECONDS = 600.0  # a leap that is longer, and leads beyond the declared end, is a broken stamp
_USUAL_STEP = 1 / 25
_PACKETS_AHEAD = 32
"""Packets that are known before one is decoded: more than any codec lets frames be out of order."""
_GAP_SECONDS = 1.0
"""Seconds between neighbouring packets from which their stamps are not believed: then every frame is decoded."""


class EvenTimes:
    """Says which frames are wanted: the first at or after each multiple of a number of seconds."""

    def __init__(self, every: float) -> None:
        """Want the first frame of all.

        Raises:
            ValueError: If `every` is not positive.
        """
        if not every > 0:
            raise ValueError(f"every_seconds must be positive, got {every}")
        self.every, self.next = every, 0.0

    def wants(self, time: float) -> bool:
        """Return whether the frame at a time is the next one, and go on to the one after it."""
        if time < self.next - 1e-6:
            return False
        self.next = (time // self.every + 1) * self.every
        if self.next - time < 1e-6:
            self.next += self.every
        return True


class OpenVideo:
    """A video that is being decoded.

    Attributes:
        name: How messages call it.
        declared: How long it lasts in seconds, as its header says; infinite where it says nothing.
        seconds: How far the frames reach that were decoded so far.
    """

    def __init__(self, container: Any, track: Any, name: str) -> None:  # noqa: ANN401 - av's containers are not typed
        """Begin at the first frame."""
        from av.video.reformatter import VideoReformatter

        self._scaler = VideoReformatter()  # a frame's own would be set up anew for each
        self.name, self.seconds = name, 0.0
        self._container, self._track = container, track
        self._step = float(1 / track.average_rate) if track.average_rate else _USUAL_STEP
        self.declared = container.duration / 1e6 if container.duration else math.inf
        self._origin: float | None = None
        self._last: float | None = None
        self._seekable = True

    def frames(self, every: float | None = None) -> Iterator[tuple[float, Any]]:
        """Yield (seconds from the start, av.VideoFrame) in order; what is damaged is passed over, as players do.

        Args:
            every: Only the first frame of each so many seconds is wanted: others may be missing, which saves decoding
                those that nothing is predicted from.

        Raises:
            MediaError: If nothing decodes.
        """
        problem: Exception | None = None
        sieve = None if every is None else Sieve(self._track, every)
        for frame in _decoded(self._container, self._track, sieve):
            if isinstance(frame, Exception):
                problem = frame
                continue
            time = self._time(frame)
            self.seconds = max(self.seconds, time + _seconds(frame, self._track))
            yield time, frame
        if self._origin is None and problem is not None:
            raise MediaError(f"{self.name}: damaged, no frame decodes ({one_line(problem)}); restore it") from problem

    def scaled(self, frame: Any, size: tuple[int, int], pixels: str) -> Any:  # noqa: ANN401 - av.VideoFrame
        """Return a frame at a width and height, as "rgb24" or "gray" pixels: each is the mean of those it covers."""
        width, height = size
        return self._scaler.reformat(frame, width=width, height=height, format=pixels, interpolation="AREA")

    def seek(self, time: float) -> bool:
        """Go on at the key frame before a time; returns whether that worked: then `frames` begins there."""
        if not self._seekable or self._origin is None:
            return False
        import av

        self._seekable = False
        with contextlib.suppress(av.FFmpegError):
            at = int((time + self._origin) / self._track.time_base)
            self._container.seek(at, stream=self._track, backward=True)
            self._seekable, self._last = True, None
        return self._seekable

    def _time(self, frame: Any) -> float:  # noqa: ANN401 - av.VideoFrame
        """Return when a frame is shown; where its stamp is missing or impossible, a step after the one before."""
        following = 0.0 if self._last is None else self._last + self._step
        stamp = None if frame.time is None else float(frame.time)
        if self._origin is None:
            self._origin = stamp or 0.0
        time = following if stamp is None else stamp - self._origin
        if self._last is not None and stamp is not None:
            leaps = time - self._last > _AHEAD_SECONDS and time > self.declared + 1.0
            if leaps or time < self._last - _BACK_SECONDS:
                self._origin, time = stamp - following, following
            time = max(time, self._last)
        self._last = max(time, 0.0)
        return self._last


@contextlib.contextmanager
def open_video(path: str | os.PathLike[str], max_pixels: int = MAX_FRAME_PIXELS) -> Iterator[OpenVideo]:
    """Open the pictures of a video.

    Args:
        path: A video file.
        max_pixels: Refuse larger pictures.

    Raises:
        MediaTooLargeError: If a frame has more than `max_pixels` pixels.
        EmptyMediaError: If the file has no pictures.
        MediaError: If it cannot be opened.
    """
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
        with DECODING.hold(width * height * _FRAME_BYTES):
            yield OpenVideo(container, track, str(file))


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
        MediaError: If nothing of it decodes; what is damaged within it is passed over.
    """
    wanted = EvenTimes(every_seconds)
    with open_video(path, max_pixels) as video:
        held: tuple[float, Any] | None = None  # until it is known when the next one comes
        frames = video.frames()
        while (found := next(frames, None)) is not None:
            time, frame = found
            if not wanted.wants(time):
                continue
            if held is not None:
                yield held[0], time, upright(held[1], rotation_of(held[1]))
            held = (time, frame)
            if wanted.next - time > _SEEK_SECONDS and video.seek(wanted.next):
                frames = video.frames()
        if held is None:
            raise EmptyMediaError(f"{video.name}: no frame decodes; it is truncated or empty")
        yield held[0], video.seconds, upright(held[1], rotation_of(held[1]))


def rotation_of(frame: Any) -> int:  # noqa: ANN401 - av.VideoFrame
    """Return the degrees counter-clockwise that bring a decoded frame upright; a scaled one does not know them."""
    return int(getattr(frame, "rotation", 0) or 0)


def upright(frame: Any, turn: int) -> Image.Image:  # noqa: ANN401 - av.VideoFrame
    """Return a frame as an RGB image, turned by degrees counter-clockwise."""
    image: Image.Image = frame.to_image()
    return image.rotate(turn, expand=True) if turn % 360 else image


def _decoded(container: Any, track: Any, sieve: Sieve | None) -> Iterator[Any]:  # noqa: ANN401 - frames and errors
    import av

    packets = container.demux(track)
    packets = packets if sieve is None else sieve.told(packets)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            frames = packet.decode()
        except av.EOFError:
            return
        except (av.FFmpegError, ValueError) as error:
            yield error
            if isinstance(error, av.InvalidDataError):
                continue
            return
        yield from frames


def _seconds(frame: Any, track: Any) -> float:  # noqa: ANN401 - av.VideoFrame, av.VideoStream
    """Return how long a frame is shown."""
    if frame.duration and frame.time_base:
        return float(frame.duration * frame.time_base)
    return float(1 / track.average_rate) if track.average_rate else 0.0


class Sieve:
    """Tells a decoder, packet by packet, whether its frame is wanted: the first one of each so many seconds is.

    Of a film at 25 frames per second that is looked at four times per second, about half of all frames, and a quarter
    of the time of decoding, are left out: those that nobody wants and no other is predicted from. Where stamps are
    missing or leap, and at the end of the video, every frame is wanted.
    """

    def __init__(self, track: Any, every: float) -> None:  # noqa: ANN401 - av.VideoStream
        """Take a track that is about to be decoded from its start.

        Args:
            track: Of the container.
            every: Seconds.
        """
        self._context, self._base, self._every = track.codec_context, track.time_base, every
        self._first: dict[int, int] = {}  # number of the stretch -> the earliest stamp in it
        self._origin: int | None = None
        self._before: int | None = None
        self._trusted = bool(self._base)

    def told(self, packets: Iterator[Any]) -> Iterator[Any]:
        """Yield the packets, some late, each after the decoder was told whether its frame is wanted."""
        waiting: deque[Any] = deque()
        for packet in packets:
            self._look(packet)
            waiting.append(packet)
            if len(waiting) <= _PACKETS_AHEAD:
                continue
            if self._origin is None:
                self._begin(waiting)
            yield self._tell(waiting.popleft())
        self._context.skip_frame = "DEFAULT"
        yield from waiting

    def _look(self, packet: Any) -> None:  # noqa: ANN401 - av.Packet
        stamp = packet.pts
        if stamp is None or (self._before is not None and abs(stamp - self._before) * self._base > _GAP_SECONDS):
            self._trusted = self._trusted and stamp is None and not packet.size  # the one that ends a track has none
        if stamp is None:
            return
        self._before = stamp
        if self._origin is not None:
            self._note(stamp)

    def _begin(self, waiting: deque[Any]) -> None:
        stamps = [packet.pts for packet in waiting if packet.pts is not None]
        self._origin = min(stamps, default=0)
        for stamp in stamps:
            self._note(stamp)

    def _note(self, stamp: int) -> None:
        number = self._number(stamp)
        self._first[number] = min(stamp, self._first.get(number, stamp))
        if len(self._first) > 2 * _PACKETS_AHEAD:
            del self._first[min(self._first)]

    def _number(self, stamp: int) -> int:
        assert self._origin is not None
        return math.floor((float((stamp - self._origin) * self._base) + 1e-6) / self._every)

    def _tell(self, packet: Any) -> Any:  # noqa: ANN401 - av.Packet
        wanted = not self._trusted or packet.pts is None or self._first.get(self._number(packet.pts)) == packet.pts
        self._context.skip_frame = "DEFAULT" if wanted else "NONREF"
        return packet
