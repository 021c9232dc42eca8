"""The program that decodes: one file after the other, within limits, with nothing to gain for who breaks it.

It opens the file that it is told, and answers with a JSON line and raw bytes: pixels, samples, WebP, peaks. It writes
no file, and the server ends it when a file takes too long or too much memory.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import EmbedspaceError, MediaError, MediaTooLargeError
from embedspace.media import thumbnail as small
from embedspace.media.audio import iter_audio, load_audio
from embedspace.media.film import Film, iter_moments
from embedspace.media.image import decoded_image
from embedspace.media.video import MAX_FRAME_PIXELS, open_video
from embedspace.serve.processes.transcode import encoded, webm

__all__ = ["main"]

_RATE = 16_000
_PICTURE_SECONDS = 10.0
_MOMENTS, _SIDE = 64, 288
"""Moments of a video, beside its pictures, and the shorter side of those in pixels: 64 take 28 MB."""
_PREVIEW_SIDE = 1600
_PREVIEW_SECONDS = 600.0
_VIDEO_SECONDS = 60.0

Answer = tuple[dict[str, Any], bytes]


def image(path: Path, *, min_side: int | None, max_pixels: int) -> Answer:
    """Return the pixels of a picture as an encoder wants them."""
    with decoded_image(path, min_side=min_side, max_pixels=max_pixels) as picture:
        pixels = picture.image
        about = {"width": picture.width, "height": picture.height, "mode": pixels.mode, "size": pixels.size}
        return about, pixels.tobytes()


def audio(path: Path, *, seconds: float) -> Answer:
    """Return the samples of a recording, mono, at its own rate or 48 kHz at most."""
    sound = load_audio(path, duration=seconds)
    if sound.sample_rate > 48_000:
        sound = load_audio(path, duration=seconds, sample_rate=48_000)
    return {"rate": sound.sample_rate, "seconds": round(sound.seconds, 3)}, sound.waveform.astype("<f4").tobytes()


def video(path: Path, *, seconds: float, max_pixels: int, per_second: float, still: float) -> Answer:
    """Return what is seen in a video at each moment, at most 640 pixels wide or high, and its sound where it has any.

    Args:
        path: The file.
        seconds: So much from its start.
        max_pixels: Larger frames are refused.
        per_second: Moments per second; fewer in a long video.
        still: As `iter_moments` takes it.
    """
    most = min(max_pixels, MAX_FRAME_PIXELS)
    with open_video(path, most) as opened:
        length = min(opened.declared, seconds)
    rate = min(per_second, max(_MOMENTS / max(length, 1e-3), 1 / _PICTURE_SECONDS))
    moments: list[dict[str, Any]] = []
    parts: list[bytes] = []
    film = Film()
    for moment in iter_moments(
        path, film, per_second=rate, picture_seconds=_PICTURE_SECONDS, side=_SIDE, still=still, max_pixels=most
    ):
        if moment.start >= seconds:
            break
        size = None
        if moment.image is not None:
            moment.image.thumbnail((640, 640))
            size = moment.image.size
            parts.append(moment.image.convert("RGB").tobytes())
        moments.append({"start": moment.start, "size": size, "picture": moment.is_picture})
    seen = min(film.seconds, seconds)
    try:
        about, samples = audio(path, seconds=seconds)
    except MediaError:  # silent, or without sound
        about, samples = {"rate": 0, "seconds": seen}, b""
    return {**about, "moments": moments, "seen": seen}, b"".join([*parts, samples])


def thumbnail(path: Path, *, kind: str, size: int, at: float) -> Answer:
    """Return a small picture as WebP: of a video the one at a time."""
    return {"type": "image/webp"}, small.thumbnail(path, kind, size, at)


def waveform(path: Path, *, count: int) -> Answer:
    """Return the loudest sample of each of `count` stretches of a recording, 0 to 1."""
    peaks: list[float] = []
    length = 0
    for part in _blocks(path):
        length += len(part)
        step = _RATE // 50
        whole = np.abs(np.pad(part, (0, -len(part) % step))).reshape(-1, step).max(axis=1)
        peaks.extend(whole.tolist())
    if not peaks:
        raise MediaError("no sound in it")
    edges = np.linspace(0, len(peaks), min(count, len(peaks)) + 1).astype(int)
    found = np.maximum.reduceat(np.asarray(peaks), edges[:-1])
    loudest = max(float(found.max()), 1e-9)
    about = {"peaks": [round(float(peak / loudest), 3) for peak in found], "duration": round(length / _RATE, 3)}
    return about, b""


def preview(path: Path, *, kind: str) -> Answer:
    """Return what every browser shows or plays: WebP, Opus, or WebM of the first minute."""
    if kind == "image":
        return {"type": "image/webp"}, small.webp_bytes(small.small_picture(path, _PREVIEW_SIDE), 85)
    if kind == "video":
        return {"type": "video/webm"}, webm(path, _VIDEO_SECONDS)
    sound = load_audio(path, duration=_PREVIEW_SECONDS, sample_rate=48_000)
    return {"type": "audio/ogg"}, encoded(sound.waveform, sound.sample_rate, "opus")


def _blocks(path: Path) -> Iterator[NDArray[np.float32]]:
    for _, _, part in iter_audio(path, _RATE, 30.0, 30.0, skip_silent=False):
        yield part


_TASKS: dict[str, Callable[..., Answer]] = {
    "image": image,
    "audio": audio,
    "video": video,
    "thumbnail": thumbnail,
    "waveform": waveform,
    "preview": preview,
}


def _restrict(address_space: int) -> None:
    """Bound the memory; no file is written, and none is left behind by a crash."""
    for what, most in (
        (resource.RLIMIT_AS, address_space),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        resource.setrlimit(what, (most, most))


def _answer(task: dict[str, Any]) -> Answer:
    path = Path(task.pop("path"))
    try:
        return _TASKS[task.pop("task")](path, **task)
    except EmbedspaceError as error:
        message = str(error).replace(str(path), "the file")  # where it lies is nobody's business
        return {"error": message, "too_large": isinstance(error, MediaTooLargeError)}, b""
    except MemoryError:
        return {"error": "decoding it takes too much memory", "too_large": True}, b""
    except Exception as error:  # decoders raise nearly anything on damaged input
        return {"error": f"cannot be decoded ({type(error).__name__})"}, b""


def main() -> None:
    """Answer one task per line of standard input until it ends."""
    _restrict(int(sys.argv[1]))
    out = sys.stdout.buffer
    sys.stdout = sys.stderr  # a library that prints must not be taken for an answer
    for line in sys.stdin.buffer:
        about, content = _answer(json.loads(line))
        out.write(json.dumps({**about, "bytes": len(content)}).encode() + b"\n")
        out.write(content)
        out.flush()


if __name__ == "__main__":
    main()
