"""The modalities, and which file suffix holds which."""

from __future__ import annotations

import enum
from pathlib import Path

from embedspace.errors import UnknownModalityError

__all__ = ["NOT_READ", "SUFFIXES", "Modality", "modality_of"]


class Modality(enum.StrEnum):
    """A kind of media that has an encoder into the shared space.

    `AUDIO` is what a recording sounds like, `SPEECH` what is said in it; a recording can have both.
    """

    IMAGE = "image"
    AUDIO = "audio"
    TEXT = "text"
    SPEECH = "speech"


SUFFIXES: dict[str, str] = {
    **dict.fromkeys(
        (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"), "image"
    ),
    **dict.fromkeys((".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac", ".aiff", ".aif"), "audio"),
    **dict.fromkeys((".txt", ".md", ".rst"), "text"),
    **dict.fromkeys((".mp4", ".m4v", ".mkv", ".webm", ".mov", ".avi"), "video"),
}
"""File suffix (lower case, with its dot) -> media kind: the value of a `Modality`, or "video" (frames plus sound)."""


NOT_READ: dict[str, str] = {
    **dict.fromkeys(
        (".heic", ".heif"), "HEIC pictures are not read; convert them to JPEG, for example: heif-convert a.heic a.jpg"
    ),
}
"""File suffix of well-known media that have no decoder here -> what to do."""


def modality_of(path: str | Path) -> str:
    """Return the media kind of a file by its suffix.

    Args:
        path: A file name; it need not exist.

    Returns:
        "image", "audio", "text" or "video". A recording is "audio" here: whether it also holds speech is decided
        by its content (`embedspace.encoders.router`).

    Raises:
        UnknownModalityError: If the suffix is not in `SUFFIXES`.
    """
    suffix = Path(path).suffix.lower()
    try:
        return SUFFIXES[suffix]
    except KeyError:
        if suffix in NOT_READ:
            raise UnknownModalityError(f"{path}: {NOT_READ[suffix]}") from None
        known = " ".join(sorted(SUFFIXES))
        raise UnknownModalityError(
            f"{path}: unknown file suffix {suffix or '(none)'!r}; known: {known}; or say the modality with --as"
        ) from None
