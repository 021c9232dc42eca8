"""From a file, a text or a waveform to the pieces that encoders take: decode once, cut into segments, prepare."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from embedspace.encoders.base import Piece
from embedspace.encoders.recordings import Encoders, decode_recording, decode_video
from embedspace.errors import EmptyMediaError, UnknownModalityError
from embedspace.media.image import decoded_image
from embedspace.media.text import passages, read_text
from embedspace.modality import Modality
from embedspace.segment import Decoded

__all__ = ["DECODERS", "Encoders", "cuts_of", "text_pieces"]

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


def _only(as_modality: str | None, modality: Modality, what: str) -> None:
    if as_modality not in (None, modality):
        raise UnknownModalityError(f"{what} cannot be taken as {as_modality!r}; leave --as away")


DECODERS: dict[str, Callable[[Any, Encoders, str | None], Decoded]] = {
    "image": _image,
    "text": _text,
    "audio": decode_recording,
    "video": decode_video,
}
"""Media kind -> its decoder."""
