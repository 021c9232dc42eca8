"""Sound and video in other formats, made with FFmpeg in memory: what browsers play, what clients of OpenAI ask for."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import MediaError
from embedspace.media.sound import open_container

__all__ = ["FORMATS", "encoded", "webm"]

_SIDE = 640
_AUDIO_BITS, _VIDEO_BITS = 96_000, 900_000
_RATE = 48_000


FORMATS = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "application/octet-stream",
}
"""Format of sound -> its media type; pcm is 24 kHz, 16 bits, mono, without a header."""
_CODECS = {
    "mp3": ("mp3", "libmp3lame", 24_000, "s16p", 1152),
    "opus": ("ogg", "libopus", _RATE, "flt", 960),
    "aac": ("adts", "aac", 24_000, "fltp", 1024),
    "flac": ("flac", "flac", 24_000, "s16", 4608),
    "wav": ("wav", "pcm_s16le", 24_000, "s16", 4096),
    "pcm": ("s16le", "pcm_s16le", 24_000, "s16", 4096),
}
"""Format -> container, codec, sample rate, format of the samples, samples of a frame."""


def encoded(waveform: NDArray[np.float32], sample_rate: int, name: str) -> bytes:
    """Return a mono recording (T,) in [-1, 1] in one of the `FORMATS`."""
    import av

    written = io.BytesIO()
    container_name, codec, rate, samples_as, frame_size = _CODECS[name]
    with av.open(written, "w", format=container_name) as container:
        track: Any = container.add_stream(codec, rate=rate)
        track.layout, track.format = "mono", samples_as
        if name in ("mp3", "opus", "aac"):
            track.bit_rate = _AUDIO_BITS
        resampler = av.AudioResampler(format=samples_as, layout="mono", rate=rate, frame_size=frame_size)
        samples = np.clip(waveform, -1.0, 1.0).astype(np.float32)
        step = sample_rate * 10
        for first in range(0, len(samples), step):
            frame = av.AudioFrame.from_ndarray(samples[None, first : first + step], "flt", "mono")
            frame.sample_rate, frame.pts = sample_rate, first
            for part in resampler.resample(frame):
                container.mux(track.encode(part))
        for part in resampler.resample(None):
            container.mux(track.encode(part))
        container.mux(track.encode(None))
    return written.getvalue()


def webm(path: Path, seconds: float) -> bytes:
    """Return the beginning of a video as WebM, at most 640 pixels wide or high.

    Raises:
        MediaError: If it has no pictures.
    """
    import av

    written = io.BytesIO()
    with open_container(path, path.name) as source, av.open(written, "w", format="webm") as target:
        if not source.streams.video:
            raise MediaError("it has no pictures")
        seen = source.streams.video[0]
        seen.thread_type = "NONE"
        rate = min(seen.average_rate or 25, 30)
        scale = min(1.0, _SIDE / max(seen.width, seen.height, 1))
        shown: Any = target.add_stream("libvpx", rate=rate)
        shown.width, shown.height = max(2, int(seen.width * scale) // 2 * 2), max(2, int(seen.height * scale) // 2 * 2)
        shown.pix_fmt, shown.bit_rate = "yuv420p", _VIDEO_BITS
        shown.options = {"deadline": "realtime", "cpu-used": "8"}
        heard, said, resampler = None, None, None
        if source.streams.audio:
            heard = source.streams.audio[0]
            said = target.add_stream("libopus", rate=_RATE)
            resampler = av.AudioResampler(format="flt", layout="stereo", rate=_RATE, frame_size=960)
        _copy(source, target, (seen, shown), (heard, said, resampler), seconds)
    return written.getvalue()


def _copy(source: Any, target: Any, pictures: tuple[Any, Any], sound: tuple[Any, Any, Any], seconds: float) -> None:  # noqa: ANN401
    """Decode and encode until the time is over."""
    seen, shown = pictures
    heard, said, resampler = sound
    for frame in source.decode(*[track for track in (seen, heard) if track is not None]):
        if frame.time is not None and frame.time > seconds:
            break
        if hasattr(frame, "width"):
            target.mux(shown.encode(frame.reformat(shown.width, shown.height, "yuv420p")))
        else:
            for part in resampler.resample(frame):
                target.mux(said.encode(part))
    target.mux(shown.encode(None))
    if said is not None:
        for part in resampler.resample(None):
            target.mux(said.encode(part))
        target.mux(said.encode(None))
