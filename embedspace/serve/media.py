"""The media of items: which file may be given out, and what of it was shown before."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from embedspace.catalog import Catalog, StoredItem
from embedspace.catalog.originals import Originals
from embedspace.catalog.places import name_of
from embedspace.errors import MediaError, MediaGoneError
from embedspace.modality import kind_of_modality
from embedspace.serve.errors import ApiError, not_found

__all__ = ["KeptBytes", "MediaFiles", "content_type", "frame_time", "links", "name_of"]

_TYPES = {
    ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".jpe": "image/jpeg", ".jfif": "image/jpeg",
    ".webp": "image/webp", ".gif": "image/gif", ".bmp": "image/bmp", ".avif": "image/avif", ".wav": "audio/wav",
    ".flac": "audio/flac", ".ogg": "audio/ogg", ".oga": "audio/ogg", ".opus": "audio/ogg", ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4", ".aac": "audio/aac", ".mp4": "video/mp4", ".m4v": "video/mp4", ".webm": "video/webm",
    ".mov": "video/quicktime", ".mkv": "video/x-matroska", ".avi": "video/x-msvideo",
    ".txt": "text/plain; charset=utf-8", ".md": "text/plain; charset=utf-8", ".rst": "text/plain; charset=utf-8",
}  # fmt: skip
"""Suffix -> type of what a browser may show; everything else is a file to save."""


def content_type(path: str) -> str | None:
    """Return the type of a file that a browser may show; None for one that is only to be saved."""
    return _TYPES.get(os.path.splitext(path)[1].lower())


def frame_time(start: float | None) -> float:
    """Return the seconds at which a video is shown for a hit that begins at `start`."""
    return round(start or 0.0, 2)


def links(content_id: str, kind: str, modality: str, start: float | None = None) -> dict[str, str | None]:
    """Return the addresses of what an item looks and sounds like; of a video the frame at `start` seconds."""
    base = f"/api/items/{content_id}"
    at = f"?at={frame_time(start)}" if kind == "video" and start else ""
    seen = kind in ("image", "video")
    heard = kind == "audio" or (kind == "video" and kind_of_modality(modality) == "audio")
    return {
        "thumbnail": f"{base}/thumbnail{at}" if seen else None,
        "waveform": f"{base}/waveform" if heard else None,
        "media": f"{base}/media",
    }


class MediaFiles:
    """Which files may be given out."""

    def __init__(self, catalog: Catalog) -> None:
        self._originals = Originals(catalog)

    def file(self, item: StoredItem) -> Path:
        """Return the file of an item, which comes from the catalog.

        Raises:
            ApiError: 404 where it has no file, or its path leads out of the folders that were indexed; 410 where the
                file changed since.
        """
        try:
            return self._originals.file(item)
        except MediaGoneError as error:
            raise ApiError(410, str(error)) from None
        except MediaError as error:
            raise not_found(str(error)) from None


@dataclass(slots=True)
class _Kept:
    content: bytes
    about: dict[str, object]


class KeptBytes:
    """What was made of items, for the next who asks: the least recently used goes first."""

    def __init__(self, most: int) -> None:
        """Keep so many bytes."""
        self._most, self._held = most, 0
        self._kept: OrderedDict[tuple[object, ...], _Kept] = OrderedDict()

    def get(self, key: tuple[object, ...]) -> tuple[dict[str, object], bytes] | None:
        """Return what is kept under a key."""
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found.about, found.content

    def put(self, key: tuple[object, ...], about: dict[str, object], content: bytes) -> None:
        """Keep something, unless it would take a quarter of the room."""
        size = len(content) + 1000
        if size > self._most // 4 or key in self._kept:
            return
        self._kept[key] = _Kept(content, about)
        self._held += size
        while self._held > self._most:
            _, gone = self._kept.popitem(last=False)
            self._held -= len(gone.content) + 1000
