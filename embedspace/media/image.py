"""Decode images: upright, first frame, RGB or RGBA, never more pixels than allowed."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from embedspace.errors import EmptyMediaError, MediaError, MediaTooLargeError
from embedspace.media.source import check_file, describe, one_line

__all__ = ["MAX_PIXELS", "ImageSource", "flatten", "load_image"]

ImageSource = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]

MAX_PIXELS = 178_000_000
"""Default limit: 4 bytes a pixel keep the decoded image under 0.7 GiB."""

_SCALED_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I", "F"})
_ALPHA_MODES = frozenset({"RGBA", "LA", "La", "PA", "RGBa"})
_opening = threading.Lock()


def load_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS, min_side: int | None = None) -> Image.Image:
    """Decode the first frame of an image, turned upright by its EXIF orientation.

    Args:
        source: A file, the bytes of one, a PIL image, or an array (H, W), (H, W, 3) or (H, W, 4) uint8.
        max_pixels: Refuse images with more pixels, before anything is decompressed.
        min_side: A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size (several times faster) as long as its shorter
            side keeps at least so many pixels.

    Returns:
        An image of mode "RGB", or "RGBA" where there is transparency.

    Raises:
        MediaTooLargeError: If it has more than `max_pixels` pixels.
        EmptyMediaError: If the file has no bytes or every pixel is transparent.
        MediaError: If it cannot be decoded.
    """
    name = describe(source)
    image = _open(source, name)
    try:
        width, height = image.size
        if width * height > max_pixels:
            raise MediaTooLargeError(
                f"{name}: {width} x {height} = {width * height:,} pixels, "
                f"at most {max_pixels:,} are read; scale it down"
            )
        if width * height == 0:
            raise EmptyMediaError(f"{name}: the image has no pixels ({width} x {height})")
        if min_side is not None and image.format == "JPEG":
            image.draft(None, (min_side, min_side))
        image.load()
        upright = _colour(_upright(image), name)
        if upright is source:
            upright = upright.copy()  # the caller's stays the caller's
    except MediaError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged input
        raise MediaError(f"{name}: damaged or truncated image ({one_line(error)}); restore or remove it") from error
    finally:
        if image is not source:
            _close_file(image)
    if upright.mode == "RGBA" and upright.getchannel("A").getbbox() is None:
        raise EmptyMediaError(f"{name}: every pixel is transparent; nothing is to be seen")
    return upright


def flatten(image: Image.Image, background: tuple[int, int, int] = (255, 255, 255)) -> NDArray[np.uint8]:
    """Return the pixels with transparency laid over a background.

    Args:
        image: Mode "RGB" or "RGBA", as `load_image` returns it.
        background: Colour seen through transparent pixels.

    Returns:
        (H, W, 3) uint8, contiguous, writable.
    """
    if image.mode == "RGBA":
        base = Image.new("RGB", image.size, background)
        base.paste(image, mask=image.getchannel("A"))
        image = base
    elif image.mode != "RGB":
        image = image.convert("RGB")
    return np.array(image, dtype=np.uint8)


def _open(source: ImageSource, name: str) -> Image.Image:
    """Read the header only."""
    if isinstance(source, Image.Image):
        return source
    try:
        if isinstance(source, np.ndarray):
            return _from_array(source, name)
        stream: Path | io.BytesIO
        if isinstance(source, bytes | bytearray | memoryview):
            if len(source) == 0:
                raise EmptyMediaError(f"{name}: no bytes to decode")
            stream = io.BytesIO(source)
        else:
            stream = check_file(source)
        return _open_unlimited(stream)
    except MediaError:
        raise
    except Exception as error:  # as above: UnidentifiedImageError, SyntaxError, struct.error, ...
        raise MediaError(f"{name}: not an image that can be read ({_reason(error)}); convert it to PNG") from error


def _open_unlimited(stream: Path | io.BytesIO) -> Image.Image:
    # Pillow warns or raises by a process-wide limit; `load_image` has its own, checked before anything is decoded.
    with _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(stream)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "unknown format"
    return one_line(error)


def _from_array(pixels: NDArray[np.uint8], name: str) -> Image.Image:
    shape_ok = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))
    if pixels.dtype != np.uint8 or not shape_ok or pixels.size == 0:
        raise MediaError(
            f"{name}: array of shape {pixels.shape} and type {pixels.dtype}; give uint8 (H, W), (H, W, 3) or (H, W, 4)"
        )
    return Image.fromarray(np.ascontiguousarray(pixels))


def _upright(image: Image.Image) -> Image.Image:
    try:
        if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
            return image  # `exif_transpose` would copy it, and of a huge one there is no room for two
        return ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF must not cost a good picture: show it as stored
        return image


def _colour(image: Image.Image, name: str) -> Image.Image:
    """Convert any mode to RGB or RGBA."""
    if image.mode in _SCALED_MODES:
        return _scaled(image, name)
    if image.mode in _ALPHA_MODES or image.has_transparency_data:
        if image.mode == "La":
            image = image.convert("LA")
        converted = image if image.mode == "RGBA" else image.convert("RGBA")
    elif image.mode == "RGB":
        converted = image
    else:
        converted = image.convert("RGB")
    return converted.copy() if isinstance(converted, Image.Image) and converted.readonly else converted


def _scaled(image: Image.Image, name: str) -> Image.Image:
    """Bring 16-bit, 32-bit and floating-point grey to 8 bits; Pillow's own conversion would clip at 255."""
    grey = np.asarray(image).astype(np.float32)
    if not np.isfinite(grey).all():
        raise MediaError(f"{name}: pixels hold NaN or infinity; repair or remove it")
    peak = float(grey.max())
    if image.mode == "F":
        full = 1.0 if peak <= 1.0 else max(peak, 255.0)
    else:
        full = 65535.0 if peak <= 65535.0 and image.mode != "I" else max(peak, 255.0)
        if image.mode == "I" and 255.0 < peak <= 65535.0:
            full = 65535.0
    grey8 = np.clip(grey * (255.0 / full) + 0.5, 0, 255).astype(np.uint8)
    return Image.fromarray(grey8).convert("RGB")


def _close_file(image: Image.Image) -> None:
    """Let go of the file at once; the pixels stay."""
    file = getattr(image, "fp", None)
    if file is not None and getattr(image, "_exclusive_fp", False):
        file.close()
        image.fp = None  # type: ignore[attr-defined]
