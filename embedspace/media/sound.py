"""Open any sound as a stream of blocks at its own rate: by libsndfile where it knows the format, else by FFmpeg."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import EmptyMediaError, MediaError
from embedspace.media.source import check_file, describe, one_line

__all__ = ["CONTAINERS", "RATES", "AudioSource", "Sound", "check_decoder", "open_container", "open_sound"]

AudioSource = str | os.PathLike[str] | bytes

RATES = (1_000, 400_000)
"""Lowest and highest sample rate in Hz that is read."""

CONTAINERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,eac3,flac,flv,gif,matroska,mov,mp3,mp4,mpeg,mpegts,mpegvideo,"
    "m4v,h264,hevc,ivf,obu,ogg,opus,rm,tta,voc,w64,wav,webm,wv"
)
"""FFmpeg formats that may be opened. Play lists are not among them: they would read other files or the network."""

_BLOCK = 1 << 17  # samples of one channel
_SNDFILE_MARKS = (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"FORM", b"caff", b".snd", b"riff")


@dataclass(frozen=True, slots=True)
class Sound:
    """An open recording.

    Attributes:
        name: How messages call it.
        sample_rate: Its own rate in Hz.
        channels: Number of channels.
        seconds: Duration from `start` on as its header gives it, None where it doesn't.
        blocks: (n, channels) float32 in order; to be read once, while it is open.
    """

    name: str
    sample_rate: int
    channels: int
    seconds: float | None
    blocks: Iterator[NDArray[np.float32]]


@contextlib.contextmanager
def open_sound(source: AudioSource, start: float = 0.0, duration: float | None = None) -> Iterator[Sound]:
    """Open a recording, or the sound of a video, as a stream.

    Args:
        source: A file or the bytes of one.
        start: Seconds to skip.
        duration: Seconds to read, None for all.

    Yields:
        The open `Sound`.

    Raises:
        EmptyMediaError: If the file has no bytes, or no sound track.
        MediaError: If it cannot be decoded, or its sample rate is outside `RATES`.
    """
    name = describe(source)
    with contextlib.ExitStack() as stack:
        sound: Sound | None = None
        head, stream = _head(source, name)
        if head.startswith(_SNDFILE_MARKS):
            sound = _open_sndfile(stack, stream, name, start, duration)
        if sound is None:
            sound = _open_ffmpeg(stack, stream, name, start, duration)
        low, high = RATES
        if not low <= sound.sample_rate <= high:
            raise MediaError(f"{name}: sample rate {sound.sample_rate} Hz; {low} to {high} Hz are read: resample it")
        yield sound


def _head(source: AudioSource, name: str) -> tuple[bytes, Path | bytes]:
    if isinstance(source, bytes | bytearray | memoryview):
        if len(source) == 0:
            raise EmptyMediaError(f"{name}: no bytes to decode")
        return bytes(source[:12]), bytes(source)
    path = check_file(source)
    try:
        with path.open("rb") as file:
            return file.read(12), path
    except OSError as error:
        raise MediaError(f"{name}: cannot be read: {one_line(error)}") from error


def _open_sndfile(
    stack: contextlib.ExitStack, stream: Path | bytes, name: str, start: float, duration: float | None
) -> Sound | None:
    """Return None where libsndfile doesn't know the format (an AVI also begins with RIFF, a Theora video with OggS)."""
    import soundfile

    target = io.BytesIO(stream) if isinstance(stream, bytes) else str(stream)
    try:
        file = stack.enter_context(soundfile.SoundFile(target))
        first = round(start * file.samplerate)
        total = file.frames if 0 <= file.frames < 1 << 60 else None
        if first and total is not None:
            file.seek(min(first, total))
    except (soundfile.LibsndfileError, TypeError, ValueError):
        return None
    rate = file.samplerate
    left = None if total is None else max(total - first, 0)
    if duration is not None:
        wanted = round(duration * rate)
        left = wanted if left is None else min(left, wanted)
    seconds = None if left is None or rate == 0 else left / rate
    return Sound(name, rate, file.channels, seconds, _sndfile_blocks(file, name, left, start))


def _sndfile_blocks(file: Any, name: str, left: int | None, start: float) -> Iterator[NDArray[np.float32]]:  # noqa: ANN401
    import soundfile

    got = 0
    size = 2 * _BLOCK // max(file.channels, 2)  # a thousand channels must not take a thousand times the memory
    while left is None or got < left:
        count = size if left is None else min(size, left - got)
        try:
            block = file.read(count, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            at = start + got / file.samplerate
            raise MediaError(f"{name}: damaged at {at:.1f} s ({one_line(error)}); restore or re-encode it") from error
        if len(block) == 0:
            return
        got += len(block)
        yield block


def open_container(stream: Path | bytes, name: str) -> Any:  # noqa: ANN401 - av's container types are not exported
    """Open a media container for reading with FFmpeg.

    Raises:
        MediaError: If FFmpeg knows no format of it.
    """
    import av

    # "file:" keeps a name with a colon from being read as a protocol
    target: Any = io.BytesIO(stream) if isinstance(stream, bytes) else f"file:{stream}"
    try:
        return av.open(target, metadata_errors="replace", options={"format_whitelist": CONTAINERS})
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"{name}: not a recording or video that can be read ({_ffmpeg_reason(error)}); "
            "convert it to WAV, FLAC or MP4, or remove it"
        ) from error


def check_decoder(track: Any, name: str) -> None:  # noqa: ANN401 - av.AudioStream or av.VideoStream
    """Refuse a track that FFmpeg cannot decode.

    Raises:
        MediaError: If it has no decoder.
    """
    if track.codec_context is None:
        raise MediaError(f"{name}: damaged, or of a codec that FFmpeg does not know; re-encode it")


def _open_ffmpeg(
    stack: contextlib.ExitStack, stream: Path | bytes, name: str, start: float, duration: float | None
) -> Sound:
    container = stack.enter_context(open_container(stream, name))
    if not container.streams.audio:
        raise EmptyMediaError(f"{name}: has no sound track; index it as pictures, or give another file")
    track = container.streams.audio[0]
    check_decoder(track, name)
    rate = int(track.rate or 0)
    seconds = None
    if track.duration is not None and track.time_base is not None:
        seconds = max(float(track.duration * track.time_base) - start, 0.0)
    elif container.duration is not None:
        seconds = max(container.duration / 1e6 - start, 0.0)
    if duration is not None:
        seconds = duration if seconds is None else min(seconds, duration)
    blocks = _ffmpeg_blocks(container, track, name, start, duration)
    return Sound(name, rate, int(track.channels or 1), seconds, blocks)


def _ffmpeg_blocks(
    container: Any,  # noqa: ANN401 - as above
    track: Any,  # noqa: ANN401
    name: str,
    start: float,
    duration: float | None,
) -> Iterator[NDArray[np.float32]]:
    """Decode packet by packet; a damaged packet is passed over, as players do, unless nothing at all decodes."""
    import av

    rate = int(track.rate or 0)
    origin = float((track.start_time or 0) * track.time_base)
    if start > 1.0:
        with contextlib.suppress(av.FFmpegError):
            container.seek(int((start + origin - 0.5) / track.time_base), stream=track, backward=True)
    wanted = None if duration is None else round(duration * rate)
    skip: int | None = None
    channels = int(track.channels or 1)
    got, count = 0, 0
    problem: Exception | None = None
    held: list[NDArray[np.float32]] = []
    for frame in _ffmpeg_frames(container, track):
        if isinstance(frame, Exception):
            problem = frame
            continue
        if skip is None:  # the first frame says where the seek has landed
            at = origin if frame.pts is None else float(frame.pts * frame.time_base)
            skip = max(round((start - (at - origin)) * rate), 0)
        if frame.sample_rate != rate:  # only a damaged header changes the rate on the way
            problem = ValueError(f"a frame of {frame.sample_rate} Hz among {rate} Hz")
            continue
        block = _float_block(frame, channels)[skip:]
        skip = max(skip - frame.samples, 0)
        if wanted is not None:
            block = block[: wanted - got]
        got += len(block)
        held.append(block)
        if (count := count + len(block)) >= _BLOCK // 4:  # frames are short; what follows costs by the call
            yield np.concatenate(held)
            held, count = [], 0
        if wanted is not None and got >= wanted:
            break
    if count:
        yield np.concatenate(held)
    if got == 0 and problem is not None:
        raise MediaError(f"{name}: damaged, no sound decodes ({_ffmpeg_reason(problem)}); restore it") from problem


def _float_block(frame: Any, channels: int) -> NDArray[np.float32]:  # noqa: ANN401 - av.AudioFrame
    """Return a frame's samples as (n, channels) float32 in [-1, 1]."""
    samples: NDArray[Any] = frame.to_ndarray()  # (channels, n), or (1, n * channels) where they are interleaved
    if not frame.format.is_planar:
        samples = samples.reshape(-1, len(frame.layout.channels)).T
    if samples.shape[0] != channels:  # a damaged header again
        samples = np.repeat(samples[:1], channels, axis=0)
    block = np.ascontiguousarray(samples.T, np.float32)
    if samples.dtype == np.uint8:
        return (block - 128.0) / 128.0
    return block / -float(np.iinfo(samples.dtype).min) if samples.dtype.kind == "i" else block


def _ffmpeg_frames(container: Any, track: Any) -> Iterator[Any]:  # noqa: ANN401 - frames, or the errors between them
    import av

    packets = container.demux(track)
    while True:
        try:
            packet = next(packets)
            frames = packet.decode()
        except StopIteration:
            return
        except av.EOFError:
            return
        except (av.FFmpegError, ValueError) as error:
            yield error
            if isinstance(error, av.InvalidDataError):
                continue
            return
        yield from frames


def _ffmpeg_reason(error: BaseException) -> str:
    reason = getattr(error, "strerror", None)
    return str(reason) if reason else one_line(error)
