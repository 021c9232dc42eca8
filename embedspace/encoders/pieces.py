"""From a file, a text or a waveform to the pieces that encoders take: decode once, cut into segments, prepare."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.encoders.base import Encoder, Piece
from embedspace.errors import EmptyMediaError, MediaError, UnknownModalityError
from embedspace.media.audio import SILENCE, check_waveform, iter_audio, resample_waveform, windows
from embedspace.media.image import decoded_image
from embedspace.media.text import passages, read_text
from embedspace.media.video import iter_frames
from embedspace.modality import Modality
from embedspace.segment import Decoded

__all__ = ["DECODERS", "Encoders", "audio_pieces", "cuts_of", "text_pieces"]

Encoders = Callable[[Modality], Encoder]
AUDIO_WINDOW, SPEECH_WINDOWS = 6.0, 2
"""Seconds of a sound segment, and how many of them make one speech segment."""
RATE = 16_000
"""Of what both encoders of sound listen to, in Hz."""
FRAME_SECONDS = 10.0
"""A video's pictures are taken this far apart."""
_MIN_SIDE = 288  # the largest backbone looks at 260 pixels
_SHOWN = 500  # characters of a passage that a hit can show


def _image(source: Any, encoders: Encoders, as_modality: str | None) -> Decoded:  # noqa: ANN401
    _only(as_modality, Modality.IMAGE, "an image")
    encoder = encoders(Modality.IMAGE)
    with decoded_image(source, min_side=_MIN_SIDE) as picture:
        piece = Piece(Modality.IMAGE, encoder.prepare(picture.image))
        return Decoded("image", [piece], {"width": picture.width, "height": picture.height})


def text_pieces(text: str, encoders: Encoders, name: str, label: str = "") -> list[Piece]:
    """Cut a text into passages and prepare each.

    Raises:
        EmptyMediaError: If there are no words in it.
    """
    encoder = encoders(Modality.TEXT)
    found = passages(text)
    if not found:
        raise EmptyMediaError(f"{name}: no words in it; give a text that says something")
    return [
        Piece(Modality.TEXT, encoder.prepare(words), float(start), float(end), words[:_SHOWN], label)
        for start, end, words in found
    ]


def _text(source: Any, encoders: Encoders, as_modality: str | None) -> Decoded:  # noqa: ANN401
    _only(as_modality, Modality.TEXT, "a text")
    if isinstance(source, Mapping):
        fields = {str(k): str(v).strip() for k, v in source.items() if str(v).strip()}
        labels = fields if len(fields) > 1 else dict.fromkeys(fields, "")
        pieces = [
            p for name, words in fields.items() for p in text_pieces(words, encoders, name, labels[name] and name)
        ]
        if not pieces:
            raise EmptyMediaError("a row without any text; name its text columns")
        return Decoded("text", pieces, {"characters": max(map(len, fields.values()))})
    text = read_text(source) if isinstance(source, Path) else str(source)
    name = str(source) if isinstance(source, Path) else "the text"
    return Decoded("text", text_pieces(text, encoders, name), {"characters": len(text)})


def audio_pieces(
    spans: Iterator[tuple[float, float, NDArray[np.float32]]], encoders: Encoders, as_modality: str | None
) -> list[Piece]:
    """Prepare windows of sound: sound segments, and optional speech segments, encoded if the router hears speech.

    Args:
        spans: (start, end, waveform) windows of `AUDIO_WINDOW` seconds at 16 kHz.
        encoders: Gives the encoder of a modality.
        as_modality: "audio" makes no speech segments; None makes them optional.
    """
    pieces: list[Piece] = []
    pending: list[tuple[float, float, NDArray[np.float32]]] = []

    def speak() -> None:
        if pending:
            joined = np.concatenate([w for _, _, w in pending])
            content = encoders(Modality.SPEECH).prepare(joined)
            pieces.append(Piece(Modality.SPEECH, content, pending[0][0], pending[-1][1], optional=True))
            pending.clear()

    for start, end, waveform in spans:
        pieces.append(Piece(Modality.AUDIO, encoders(Modality.AUDIO).prepare(waveform), start, end))
        if as_modality != Modality.AUDIO:
            if pending and abs(pending[-1][1] - start) > 1e-3:  # a silent stretch was skipped between
                speak()
            pending.append((start, end, waveform))
            if len(pending) == SPEECH_WINDOWS:
                speak()
    speak()
    return pieces


def cuts_of(pieces: Sequence[Piece]) -> list[int]:
    """Return where an item may be divided: sound and speech of one stretch of time stay together.

    Args:
        pieces: In order of time within each of: pictures, texts, sounds together with speech.

    Returns:
        Ascending positions; the pieces before one do not depend on those from it on.
    """
    sounds = [piece.modality in (Modality.AUDIO, Modality.SPEECH) for piece in pieces]
    starts = [(piece.start or 0.0) if sound else math.inf for piece, sound in zip(pieces, sounds, strict=True)]
    earliest = list(itertools.accumulate(reversed(starts), min))[::-1]  # of this piece and all that follow
    ends = [(piece.end or 0.0) if sound else -math.inf for piece, sound in zip(pieces, sounds, strict=True)]
    latest = list(itertools.accumulate(ends, max))  # of this piece and all before it
    return [at for at in range(1, len(pieces)) if latest[at - 1] <= earliest[at] + 1e-3]


def _windows_of(source: Any, seconds: float) -> Iterator[tuple[float, float, NDArray[np.float32]]]:  # noqa: ANN401
    """Yield the windows of a file, or of a pair (waveform, sample_rate) in memory, at `RATE`."""
    if not isinstance(source, tuple):
        yield from iter_audio(source, RATE, seconds, seconds)
        return
    waveform, own_rate = source
    if not own_rate or not 1_000 <= own_rate <= 400_000:
        raise MediaError(f"a waveform in memory needs its sample_rate in Hz, 1000 to 400000; got {own_rate!r}")
    sound = resample_waveform(check_waveform(waveform, own_rate), int(own_rate), RATE)
    if np.abs(sound).max(initial=0.0) < SILENCE:
        raise EmptyMediaError(f"<waveform>: silent below {RATE // 2} Hz, which is all that is listened to")
    for first, last in windows(len(sound), RATE, seconds, seconds):
        if np.abs(sound[first:last]).max(initial=0.0) >= SILENCE:
            yield first / RATE, last / RATE, sound[first:last]


def _sound_pieces(source: Any, encoders: Encoders, as_modality: str | None) -> list[Piece]:  # noqa: ANN401
    if as_modality == Modality.SPEECH:
        encoder = encoders(Modality.SPEECH)
        spans = _windows_of(source, AUDIO_WINDOW * SPEECH_WINDOWS)
        return [Piece(Modality.SPEECH, encoder.prepare(waveform), start, end) for start, end, waveform in spans]
    return audio_pieces(_windows_of(source, AUDIO_WINDOW), encoders, as_modality)


def _audio(source: Any, encoders: Encoders, as_modality: str | None) -> Decoded:  # noqa: ANN401
    if as_modality not in (None, Modality.AUDIO, Modality.SPEECH):
        raise UnknownModalityError(f"{source}: a recording is audio or speech, not {as_modality!r}; change --as")
    pieces = _sound_pieces(source, encoders, as_modality)
    return Decoded("audio", pieces, {"duration": round(max(p.end or 0.0 for p in pieces), 3)})


def _video(source: Any, encoders: Encoders, as_modality: str | None) -> Decoded:  # noqa: ANN401
    pieces: list[Piece] = []
    problem: MediaError | None = None
    if as_modality in (None, Modality.IMAGE):
        encoder = encoders(Modality.IMAGE)
        try:
            for time, frame in iter_frames(source, FRAME_SECONDS):
                pieces.append(Piece(Modality.IMAGE, encoder.prepare(frame), time, time + FRAME_SECONDS))
        except EmptyMediaError as error:
            problem = error
    if as_modality in (None, Modality.AUDIO, Modality.SPEECH):
        try:
            pieces += _sound_pieces(source, encoders, as_modality)
        except EmptyMediaError as error:
            problem = error
    if not pieces:
        raise problem or UnknownModalityError(f"{source}: a video holds images, audio and speech, not {as_modality!r}")
    return Decoded("video", pieces, {"duration": round(max(p.end or 0.0 for p in pieces), 3)})


def _only(as_modality: str | None, modality: Modality, what: str) -> None:
    if as_modality not in (None, modality):
        raise UnknownModalityError(f"{what} cannot be taken as {as_modality!r}; leave --as away")


DECODERS: dict[str, Callable[[Any, Encoders, str | None], Decoded]] = {
    "image": _image,
    "text": _text,
    "audio": _audio,
    "video": _video,
}
"""Media kind -> its decoder."""
