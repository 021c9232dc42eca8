"""Recordings and videos of any length, part by part: decode some windows, prepare them, hand them on, forget them."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.encoders.base import Encoder, Piece
from embedspace.errors import EmptyMediaError, MediaError, UnknownModalityError
from embedspace.media.audio import SILENCE, Extent, check_waveform, iter_audio, resample_waveform, windows
from embedspace.media.video import iter_frames
from embedspace.modality import Modality
from embedspace.segment import Decoded

__all__ = ["decode_recording", "decode_video"]

Encoders = Callable[[Modality], Encoder]
Window = tuple[float, float, NDArray[np.float32]]
"""Start and end in seconds, and the samples at `RATE`."""
Part = tuple[list[Piece], float]
"""Pieces, perhaps none, and the second of the recording that they reach."""

AUDIO_WINDOW, SPEECH_WINDOWS = 6.0, 2
"""Seconds of a sound segment, and how many of them make one speech segment."""
RATE = 16_000
"""Of what both encoders of sound listen to, in Hz."""
FRAME_SECONDS = 10.0
"""A video's pictures are taken this far apart."""
_PART = 10
"""Windows, or pictures, of a part."""
_AHEAD = 3
"""Parts that are decoded at once; what is longer follows while the item is encoded."""


def decode_recording(source: Any, encoders: Encoders, as_modality: str | None) -> Decoded:  # noqa: ANN401
    """Decode a recording into windows: sound segments, and speech segments that count if the router hears speech.

    Args:
        source: A file, the bytes of one, or a pair (waveform, sample_rate).
        encoders: Gives the encoder of a modality.
        as_modality: "audio" makes no speech segments, "speech" nothing else.

    Raises:
        EmptyMediaError: If it is silent; of a recording longer than some minutes only when the rest is decoded.
        MediaError: If it cannot be decoded.
        UnknownModalityError: If it is wanted as something else.
    """
    if as_modality not in (None, Modality.AUDIO, Modality.SPEECH):
        raise UnknownModalityError(f"{source}: a recording is audio or speech, not {as_modality!r}; change --as")
    facts: dict[str, Any] = {}
    return _start("audio", source, facts, lambda: _sound_parts(source, encoders, as_modality, facts))


def decode_video(source: Any, encoders: Encoders, as_modality: str | None) -> Decoded:  # noqa: ANN401
    """Decode a video into pictures and the windows of its sound; arguments and errors as `decode_recording`."""
    if as_modality not in (None, Modality.IMAGE, Modality.AUDIO, Modality.SPEECH):
        raise UnknownModalityError(f"{source}: a video holds images, audio and speech, not {as_modality!r}")
    facts: dict[str, Any] = {}
    return _start("video", source, facts, lambda: _video_parts(source, encoders, as_modality, facts))


def _start(kind: str, source: Any, facts: dict[str, Any], parts: Callable[[], Generator[Part]]) -> Decoded:  # noqa: ANN401
    """Decode what comes first; what is longer stays to be decoded."""
    before = _state(source)
    inputs: list[Piece] = []
    taken = 0
    running = parts()
    with contextlib.closing(running):
        for pieces, _ in running:
            inputs += pieces
            taken += 1
            if taken == _AHEAD:
                break
        else:
            return Decoded(kind, inputs, facts)

    def rest() -> Generator[Part]:
        yield from itertools.islice(parts(), taken, None)
        if _state(source) != before:
            raise MediaError(f"{source}: changed while it was read; index it again")

    return Decoded(kind, inputs, facts, rest=rest)


def _state(source: Any) -> tuple[int, ...]:  # noqa: ANN401
    """Return what changes with a file's content."""
    if not isinstance(source, str | Path):
        return ()
    try:
        facts = os.stat(source)
    except OSError:
        return ()
    return facts.st_size, facts.st_mtime_ns, facts.st_ino


def _windows_of(source: Any, seconds: float, extent: Extent) -> Iterator[Window]:  # noqa: ANN401
    """Yield all windows of a file, or of a pair (waveform, sample_rate) in memory, at `RATE`; silent ones as well."""
    if not isinstance(source, tuple):
        yield from iter_audio(source, RATE, seconds, seconds, skip_silent=False, extent=extent)
        return
    waveform, own_rate = source
    if not own_rate or not 1_000 <= own_rate <= 400_000:
        raise MediaError(f"a waveform in memory needs its sample_rate in Hz, 1000 to 400000; got {own_rate!r}")
    sound = resample_waveform(check_waveform(waveform, own_rate), int(own_rate), RATE)
    if np.abs(sound).max(initial=0.0) < SILENCE:
        raise EmptyMediaError(f"<waveform>: silent below {RATE // 2} Hz, which is all that is listened to")
    extent.seconds = len(sound) / RATE
    for first, last in windows(len(sound), RATE, seconds, seconds):
        yield first / RATE, last / RATE, sound[first:last]


def _sound_parts(
    source: Any,  # noqa: ANN401
    encoders: Encoders,
    as_modality: str | None,
    facts: dict[str, Any],
) -> Generator[Part]:
    """Yield the parts of a recording; `facts` has its duration, at the end the true one."""
    extent = Extent()
    before = facts.get("duration", 0.0)  # of the pictures of a video
    if as_modality == Modality.SPEECH:
        spans = _windows_of(source, AUDIO_WINDOW * SPEECH_WINDOWS, extent)
        parts = _spoken(spans, encoders)
    else:
        parts = _heard(_windows_of(source, AUDIO_WINDOW, extent), encoders, speech=as_modality is None)
    for part in parts:
        facts["duration"] = round(max(before, extent.expected or 0.0, extent.seconds), 3)
        yield part
    facts["duration"] = round(max(before, extent.seconds), 3)


def _spoken(spans: Iterator[Window], encoders: Encoders) -> Generator[Part]:
    encoder = encoders(Modality.SPEECH)
    pieces: list[Piece] = []
    for number, (start, end, waveform) in enumerate(spans, 1):
        if not _silent(waveform):
            pieces.append(Piece(Modality.SPEECH, encoder.prepare(waveform), start, end))
        if number % (_PART // SPEECH_WINDOWS) == 0:
            yield pieces, end
            pieces = []
    if pieces:
        yield pieces, pieces[-1].end or 0.0


def _heard(spans: Iterator[Window], encoders: Encoders, *, speech: bool) -> Generator[Part]:
    """Yield the sound segments, and among them the speech segments that span two of them or end at silence."""
    pieces: list[Piece] = []
    pending: list[Window] = []
    windows_seen = 0

    def speak() -> None:
        if pending:
            content = encoders(Modality.SPEECH).prepare(np.concatenate([window for _, _, window in pending]))
            pieces.append(Piece(Modality.SPEECH, content, pending[0][0], pending[-1][1], optional=True))
            pending.clear()

    for start, end, waveform in spans:
        windows_seen += 1
        if _silent(waveform):
            speak()
        else:
            pieces.append(Piece(Modality.AUDIO, encoders(Modality.AUDIO).prepare(waveform), start, end))
            if speech:
                pending.append((start, end, waveform))
        if len(pending) == SPEECH_WINDOWS:
            speak()
        if windows_seen >= _PART and not pending:
            yield pieces, end
            pieces, windows_seen = [], 0
    speak()
    if pieces:
        yield pieces, pieces[-1].end or 0.0


def _silent(waveform: NDArray[np.float32]) -> bool:
    return float(np.abs(waveform).max(initial=0.0)) < SILENCE


def _frame_parts(source: Any, encoders: Encoders, facts: dict[str, Any]) -> Generator[Part]:  # noqa: ANN401
    """Yield the pictures of a video; `facts` has how far they reach."""
    encoder = encoders(Modality.IMAGE)
    pieces: list[Piece] = []
    for start, end, frame in iter_frames(source, FRAME_SECONDS):
        pieces.append(Piece(Modality.IMAGE, encoder.prepare(frame), start, end))
        facts["duration"] = round(end, 3)
        if len(pieces) == _PART:
            yield pieces, end
            pieces = []
    if pieces:
        yield pieces, pieces[-1].end or 0.0


def _video_parts(
    source: Any,  # noqa: ANN401
    encoders: Encoders,
    as_modality: str | None,
    facts: dict[str, Any],
) -> Generator[Part]:
    """Yield pictures first, then sound; either may be missing."""
    facts.pop("duration", None)
    problem: EmptyMediaError | None = None
    found = False
    ways: list[Callable[[], Generator[Part]]] = []
    if as_modality in (None, Modality.IMAGE):
        ways.append(lambda: _frame_parts(source, encoders, facts))
    if as_modality in (None, Modality.AUDIO, Modality.SPEECH):
        ways.append(lambda: _sound_parts(source, encoders, as_modality, facts))
    for way in ways:
        try:
            for part in way():
                found = found or bool(part[0])
                yield part
        except EmptyMediaError as error:
            problem = error
    if not found and problem is not None:
        raise problem
