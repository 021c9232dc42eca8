"""Recordings of any length, part by part: decode some windows, prepare them, hand them on, forget them."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.encoders.contract import Encoders, MediaEncoder, Piece, content_bytes
from embedspace.encoders.timing.windows import Recut
from embedspace.errors import EmptyMediaError, MediaError, UnknownModalityError
from embedspace.media.audio import Extent, iter_audio, resample_waveform, windows
from embedspace.media.waveform import SILENCE, check_waveform
from embedspace.modality import Modality
from embedspace.segment import Decoded

__all__ = ["SOUND", "Part", "decode_recording", "require_encoder", "sound_parts", "started"]

Window = tuple[float, float, NDArray[np.float32]]
"""Start and end in seconds, and the samples at the rate of who listens."""
Part = tuple[list[Piece], float]
"""Pieces, perhaps none, and the second of the recording that they reach."""

_PART = 10
"""Windows of a part."""
_AHEAD, _AHEAD_BYTES = 3, 48 << 20
"""Parts, and bytes, that are decoded at once; what is longer follows while the item is encoded."""
SOUND = (Modality.AUDIO, Modality.SPEECH, Modality.VOICE, Modality.ONSET)


def decode_recording(source: Any, encoders: Encoders, as_modality: str | None) -> Decoded:  # noqa: ANN401
    """Decode a recording into windows: sound segments, and speech segments that count if the router hears speech.

    How long they are and at which rate, the encoders say; speech segments span as many sound segments as their encoder
    takes. A space without one of the two makes segments of the other alone.

    Args:
        source: A file, the bytes of one, or a pair (waveform, sample_rate).
        encoders: Gives the encoder of a modality.
        as_modality: "audio" makes no speech segments, "speech", "voice" and "onset" nothing else.

    Raises:
        EmptyMediaError: If it is silent; of a recording longer than some minutes only when the rest is decoded.
        MediaError: If it cannot be decoded.
        UnknownModalityError: If it is wanted as something else.
    """
    if as_modality not in (None, *SOUND):
        raise UnknownModalityError(
            f"{source}: a recording is audio, speech, voice or onset, not {as_modality!r}; change as_modality (--as)"
        )
    require_encoder(encoders, as_modality, SOUND[:2], source)
    facts: dict[str, Any] = {}
    return started("audio", source, facts, lambda: sound_parts(source, encoders, as_modality, facts))


def require_encoder(encoders: Encoders, as_modality: str | None, any_of: tuple[str, ...], source: Any) -> None:  # noqa: ANN401
    """Refuse what no encoder of the space takes, before anything is decoded."""
    wanted = any_of if as_modality is None else (as_modality,)
    if not any(name in encoders for name in wanted):
        name = source if isinstance(source, str | Path) else "the recording"
        raise UnknownModalityError(
            f"{name}: this space has no {' or '.join(wanted)} encoder; it has: {', '.join(encoders)}"
        )


def started(kind: str, source: Any, facts: dict[str, Any], parts: Callable[[], Generator[Part]]) -> Decoded:  # noqa: ANN401
    """Decode what comes first; what is longer stays to be decoded."""
    before = _state(source)
    inputs: list[Piece] = []
    taken = held = 0
    running = parts()
    with contextlib.closing(running):
        for pieces, _ in running:
            inputs += pieces
            taken, held = taken + 1, held + sum(content_bytes(piece.content) for piece in pieces)
            if taken == _AHEAD or held >= _AHEAD_BYTES:
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


def _windows_of(source: Any, seconds: float, rate: int, extent: Extent) -> Iterator[Window]:  # noqa: ANN401
    """Yield all windows of a file, or of a pair (waveform, sample_rate) in memory, at a rate; silent ones as well."""
    if not isinstance(source, tuple):
        yield from iter_audio(source, rate, seconds, seconds, skip_silent=False, extent=extent)
        return
    waveform, own_rate = source
    if not own_rate or not 1_000 <= own_rate <= 400_000:
        raise MediaError(f"a waveform in memory needs its sample_rate in Hz, 1000 to 400000; got {own_rate!r}")
    sound = resample_waveform(check_waveform(waveform, own_rate), int(own_rate), rate)
    if np.abs(sound).max(initial=0.0) < SILENCE:
        raise EmptyMediaError(f"<waveform>: silent below {rate // 2} Hz, which is all that is listened to")
    extent.seconds = len(sound) / rate
    for first, last in windows(len(sound), rate, seconds, seconds):
        yield first / rate, last / rate, sound[first:last]


def sound_parts(
    source: Any,  # noqa: ANN401
    encoders: Encoders,
    as_modality: str | None,
    facts: dict[str, Any],
) -> Generator[Part]:
    """Yield the parts of a recording; `facts` has its duration, at the end the true one."""
    extent = Extent()
    before = facts.get("duration", 0.0)  # of the pictures of a video
    whole = as_modality is None
    if as_modality in (Modality.VOICE, Modality.ONSET):
        parts = _spoken(source, {as_modality: encoders(as_modality)}, extent)
    elif as_modality == Modality.SPEECH or Modality.AUDIO not in encoders:
        heard = [name for name in SOUND[1:3] if name == Modality.SPEECH or (whole and name in encoders)]
        parts = _spoken(source, {name: encoders(name) for name in heard}, extent)
    else:
        speech = encoders(Modality.SPEECH) if whole and Modality.SPEECH in encoders else None
        voice = encoders(Modality.VOICE) if speech is not None and Modality.VOICE in encoders else None
        onset = encoders(Modality.ONSET) if whole and Modality.ONSET in encoders else None
        parts = _heard(source, encoders(Modality.AUDIO), speech, voice, onset, extent)
    for part in parts:
        facts["duration"] = round(max(before, extent.expected or 0.0, extent.seconds), 3)
        yield part
    facts["duration"] = round(max(before, extent.seconds), 3)


def _spoken(source: Any, listeners: Mapping[str, MediaEncoder], extent: Extent) -> Generator[Part]:  # noqa: ANN401
    """Yield segments of speech, or of voices, alone, or of both; the first listener says how long they are."""
    pieces: list[Piece] = []
    leading = next(iter(listeners.values()))
    for number, (start, end, waveform) in enumerate(
        _windows_of(source, leading.window_seconds, leading.sample_rate, extent), 1
    ):
        if not _silent(waveform):
            for name, encoder in listeners.items():
                sound = resample_waveform(waveform, leading.sample_rate, encoder.sample_rate)
                pieces.append(Piece(name, encoder.prepare(sound), start, end))
        if number % (_PART // 2) == 0:
            yield pieces, end
            pieces = []
    if pieces:
        yield pieces, pieces[-1].end or 0.0


def _both(
    source: Any,  # noqa: ANN401
    audio: MediaEncoder,
    speech: MediaEncoder | None,
    extent: Extent,
) -> Iterator[tuple[Window, Window | None]]:
    """Yield the windows of sound, and the same stretches as the speech encoder hears them: at its own rate."""
    spans = _windows_of(source, audio.window_seconds, audio.sample_rate, extent)
    if speech is None or speech.sample_rate == audio.sample_rate:
        return ((span, span if speech else None) for span in spans)
    # The recording is read twice; rounding may cost one of the two its last, shortest window.
    pairs = itertools.zip_longest(spans, _unless_silent(source, audio.window_seconds, speech.sample_rate))
    return ((span, other) for span, other in pairs if span is not None)


def _unless_silent(source: Any, seconds: float, rate: int) -> Iterator[Window]:  # noqa: ANN401
    """Yield windows at a rate at which there may be nothing to hear: all of the sound may lie above its range."""
    with contextlib.suppress(EmptyMediaError):
        yield from _windows_of(source, seconds, rate, Extent())


def _heard(
    source: Any,  # noqa: ANN401
    audio: MediaEncoder,
    speech: MediaEncoder | None,
    voice: MediaEncoder | None,
    onset: MediaEncoder | None,
    extent: Extent,
) -> Generator[Part]:
    """Yield the sound segments, and among them the speech segments, and beside those the voices; onsets in between.

    Those span as many windows of sound as the speech encoder takes at once, or end at silence; a window that is too
    long for it is divided evenly.
    """
    pieces: list[Piece] = []
    pending: list[Window] = []
    joined = 1 if speech is None else max(1, int(speech.window_seconds / audio.window_seconds + 1e-6))
    windows_seen = 0
    struck = None if onset is None else Recut(onset.window_seconds, onset.sample_rate)

    def strike(found: Iterable[Window]) -> None:
        if onset is not None:
            own = [(first, last, part) for first, last, part in found if not _silent(part)]
            pieces.extend(Piece(Modality.ONSET, onset.prepare(part), first, last) for first, last, part in own)

    def speak() -> None:
        if pending and speech is not None:
            pieces.extend(_speech_pieces(pending, speech, voice))
        pending.clear()

    for (start, end, waveform), spoken in _both(source, audio, speech, extent):
        windows_seen += 1
        if struck is not None:
            strike(struck.add(start, resample_waveform(waveform, audio.sample_rate, struck.rate)))
        if _silent(waveform):
            speak()
        else:
            pieces.append(Piece(Modality.AUDIO, audio.prepare(waveform), start, end))
            if spoken is not None:
                pending.append(spoken)
        if len(pending) == joined:
            speak()
        if windows_seen >= _PART and not pending:
            yield pieces, end
            pieces, windows_seen = [], 0
    speak()
    strike(() if struck is None else struck.end())
    if pieces:
        yield pieces, max(piece.end or 0.0 for piece in pieces)


def _speech_pieces(pending: list[Window], encoder: MediaEncoder, voice: MediaEncoder | None) -> list[Piece]:
    """Prepare a stretch of windows as one speech segment, or as several even ones where it is too long.

    Of each, who speaks is prepared as well where a voice is listened to.
    """
    waveform = np.concatenate([window for _, _, window in pending])
    start, end = pending[0][0], pending[-1][1]
    count = max(1, math.ceil(len(waveform) / (encoder.window_seconds * encoder.sample_rate) - 1e-6))
    parts = np.array_split(waveform, count)
    edges = [start + (end - start) * k / count for k in range(count)] + [end]
    pieces = []
    for k, part in enumerate(parts):
        if count == 1 or not _silent(part):
            pieces.append(Piece(Modality.SPEECH, encoder.prepare(part), edges[k], edges[k + 1], optional=True))
            if voice is not None:
                sound = resample_waveform(part, encoder.sample_rate, voice.sample_rate)
                own = voice.prepare(sound)
                pieces.append(Piece(Modality.VOICE, own, edges[k], edges[k + 1], beside=Modality.SPEECH))
    return pieces


def _silent(waveform: NDArray[np.float32]) -> bool:
    return float(np.abs(waveform).max(initial=0.0)) < SILENCE
