"""Small pictures of pictures and videos, for people and programs that look through many."""

from __future__ import annotations

import io
import math
from pathlib import Path

from PIL import Image

from embedspace.errors import MediaError
from embedspace.media.image import decoded_image, flatten, open_image
from embedspace.media.video import iter_frames

__all__ = ["small_picture", "thumbnail", "webp_bytes"]


def small_picture(path: Path, side: int) -> Image.Image:
    """Return a picture (RGB, upright) with at most `side` pixels each way.

    Raises:
        MediaError: If it cannot be decoded.
    """
    with decoded_image(path, min_side=_shorter_side(path, side)) as found:
        picture = Image.fromarray(flatten(found.image))
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return picture


def _shorter_side(path: Path, side: int) -> int:
    """Return the shorter side in pixels of a picture whose longer one is made `side`: less has to be decoded then."""
    try:
        with open_image(path) as header:
            width, height = header.size
    except Exception:  # decoding it tells what is wrong
        return side
    return max(1, math.ceil(side * min(width, height) / max(width, height, 1)))


def thumbnail(path: Path, kind: str, side: int, at: float = 0.0) -> bytes:
    """Return a small picture as WebP.

    Args:
        path: The file.
        kind: "image", or "video" for the frame at a time.
        side: Pixels each way, at most.
        at: Seconds.

    Raises:
        MediaError: If it cannot be decoded, or has no frame at that time.
    """
    if kind != "video":
        return webp_bytes(small_picture(path, side))
    picture = _frame_at(path, at)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return webp_bytes(picture)


def webp_bytes(picture: Image.Image, quality: int = 78) -> bytes:
    """Return a picture as the bytes of a WebP file."""
    written = io.BytesIO()
    picture.save(written, "WEBP", quality=quality, method=2)
    return written.getvalue()


def _frame_at(path: Path, at: float) -> Image.Image:
    for _, end, picture in iter_frames(path, max(at, 1.0)):
        if end > at:
            return picture
    raise MediaError("no picture at that time")
