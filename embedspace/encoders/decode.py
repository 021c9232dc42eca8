"""From a file, a text or a waveform to the pieces that encoders take: decode once, cut into segments, prepare."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from embedspace.encoders.contract import Encoders, Piece
from embedspace.encoders.passages import passages
from embedspace.errors import EmptyMediaError, UnknownModalityError
from embedspace.media.text import read_text
from embedspace.modality import Modality, kind_of_modality
from embedspace.segment import Decoded

__all__ = ["cuts_of", "decode_image", "decode_text", "decode_whole", "text_pieces"]

_OVERLAP = 20  # words that a passage shares with the one before
_SHOWN = 500  # characters of a passage that a hit can show


def decode_image(source: Any, encoders: Encoders, as_modality: str | None) -> Decoded:  # noqa: ANN401
    """Decode a picture: a file, the bytes of one, a PIL image or an array.

    Raises:
        MediaError: If it cannot be decoded.
        UnknownModalityError: If it is wanted as something else, or the space has no encoder of images.
    """
    from embedspace.media.image import decoded_image

    _only(as_modality, Modality.IMAGE, "an image")
    encoder = encoders(Modality.IMAGE)
    with decoded_image(source, min_side=encoder.min_side) as picture:
        piece = Piece(Modality.IMAGE, encoder.prepare(picture.image))
        return Decoded("image", [piece], {"width": picture.width, "height": picture.height})


def text_pieces(text: str, encoders: Encoders, name: str, label: str = "") -> list[Piece]:
    """Cut a text into passages and prepare each.

    Raises:
        EmptyMediaError: If there are no words in it.
    """
    encoder = encoders(Modality.TEXT)
    most = encoder.passage_words
    found = passages(text, most, min(_OVERLAP, most // 4), encoder.fits)
    if not found:
        raise EmptyMediaError(f"{name}: no words in it; give a text that says something")
    return [
        Piece(Modality.TEXT, encoder.prepare(words), float(start), float(end), words[:_SHOWN], label)
        for start, end, words in found
    ]


def decode_text(source: Any, encoders: Encoders, as_modality: str | None) -> Decoded:  # noqa: ANN401
    """Decode a text: a file (`Path`), a `str`, or a mapping field -> text.

    Raises:
        EmptyMediaError: If there are no words in it.
        MediaError: If its file cannot be read.
        UnknownModalityError: If it is wanted as something else, or the space has no encoder of text.
    """
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


def decode_whole(modality: str, read: Callable[[Any], Any]) -> Callable[[Any, Encoders, str | None], Decoded]:
    """Make the decoder of a modality whose items are encoded in one piece, from what reads one.

    Args:
        modality: Its name.
        read: Takes a path, or what a caller gives in its place, and returns what `Encoder.prepare` takes; raises
            `MediaError` where it cannot.
    """

    def decode(source: Any, encoders: Encoders, as_modality: str | None) -> Decoded:  # noqa: ANN401
        _only(as_modality, modality, f"a file of {modality}")
        encoder = encoders(modality)
        return Decoded(modality, [Piece(modality, encoder.prepare(read(source)))])

    return decode


def cuts_of(pieces: Sequence[Piece]) -> list[int]:
    """Return where an item may be divided: sound and speech of one stretch of time stay together.

    Args:
        pieces: In order of time within each of: pictures, texts, sounds together with speech.

    Returns:
        Ascending positions; the pieces before one do not depend on those from it on.
    """
    sounds = [
        kind_of_modality(piece.modality) == Modality.AUDIO and piece.modality != Modality.ONSET for piece in pieces
    ]
    starts = [(piece.start or 0.0) if sound else math.inf for piece, sound in zip(pieces, sounds, strict=True)]
    earliest = list(itertools.accumulate(reversed(starts), min))[::-1]  # of this piece and all that follow
    ends = [(piece.end or 0.0) if sound else -math.inf for piece, sound in zip(pieces, sounds, strict=True)]
    latest = list(itertools.accumulate(ends, max))  # of this piece and all before it
    return [at for at in range(1, len(pieces)) if latest[at - 1] <= earliest[at] + 1e-3]


def _only(as_modality: str | None, modality: str, what: str) -> None:
    if as_modality not in (None, modality):
        raise UnknownModalityError(f"{what} cannot be taken as {as_modality!r}; leave as_modality (--as) away")
