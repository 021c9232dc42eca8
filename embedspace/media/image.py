"""Decode images: upright, first frame, RGB or RGBA, never more pixels than allowed."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from embedspace.errors import EmptyMediaError, MediaError, MediaTooLargeError
from embedspace.media.memory import DECODING, MAX_DECODING_BYTES
from embedspace.media.pixels import flatten, reduced, reduction, to_colour
from embedspace.media.source import check_file, describe, one_line

__all__ = ["FORMATS", "MAX_PIXELS", "ImageSource", "Picture", "decoded_image", "flatten", "load_image", "open_image"]

ImageSource = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]

MAX_PIXELS = 178_000_000
"""Default limit: 4 bytes a pixel keep the decoded image under 0.7 GiB."""

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
"""What is opened, by Pillow's names: other plug-ins run programs (EPS) or are seldom tested with hostile files."""

_FEW_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
"""Bytes a pixel in memory by mode; four in all others."""
_EXTRA_BYTES = {"WEBP": 16, "AVIF": 16, "TIFF": 3}
"""Bytes a pixel that a format's decoder holds beside them: whole frames, or a strip as large as the picture."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what brings it upright."""
_BLOCK = 64 << 20
"""Bytes that Pillow takes at a time: what is over 32 MiB, glibc gives back to the system when it is freed; of Pillow's
own 16 MiB it would keep some in each thread."""
_opening = threading.Lock()


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image.

    Attributes:
        image: Upright, mode "RGB", or "RGBA" where there is transparency; perhaps with fewer pixels than the original.
        width: Pixels of the original, upright.
        height: As `width`.
    """

    image: Image.Image
    width: int
    height: int


def load_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS, min_side: int | None = None) -> Image.Image:
    """Decode the first frame of an image; arguments, result and errors as `decoded_image`'s picture has them."""
    with decoded_image(source, max_pixels=max_pixels, min_side=min_side) as picture:
        return picture.image


@contextlib.contextmanager
def decoded_image(
    source: ImageSource, *, max_pixels: int = MAX_PIXELS, min_side: int | None = None
) -> Iterator[Picture]:
    """Decode the first frame of an image, turned upright by its EXIF orientation.

    Other threads may decode at the same time for as long as that takes little memory: prepare the pixels before the
    block ends.

    Args:
        source: A file, the bytes of one, a PIL image, or an array (H, W), (H, W, 3) or (H, W, 4) uint8.
        max_pixels: Refuse images with more pixels, before anything is decompressed.
        min_side: The image may be made smaller as long as its shorter side keeps at least so many pixels: a JPEG is
            decoded at 1/2, 1/4 or 1/8 of its size (several times faster), others above 32 megapixels are reduced.

    Yields:
        The picture and the size of the original.

    Raises:
        MediaTooLargeError: If it has more than `max_pixels` pixels, or decoding takes too much memory.
        EmptyMediaError: If the file has no bytes or every pixel is transparent.
        MediaError: If it cannot be decoded.
    """
    name = describe(source)
    image = _open(source, name)
    try:
        width, height = _check_size(image, name, max_pixels)
        need = _draft(image, min_side)
        if need > MAX_DECODING_BYTES and image is not source:
            raise MediaTooLargeError(
                f"{name}: decoding {width} x {height} pixels of {image.format} takes {need / 1e9:.1f} GB of memory, at "
                f"most {MAX_DECODING_BYTES / 1e9:.1f} are used; scale it down, or convert it to PNG"
            )
        with DECODING.hold(need):
            upright, turned = _decode(image, name, min_side)
            if upright is source:
                upright = upright.copy()  # the caller's stays the caller's
            elif upright is not image and image is not source:
                image.close()  # its pixels are freed before another thread is let in
            if upright.mode == "RGBA" and upright.getchannel("A").getbbox() is None:
                raise EmptyMediaError(f"{name}: every pixel is transparent; nothing is to be seen")
            yield Picture(upright, height if turned else width, width if turned else height)
    finally:
        if image is not source:
            _close_file(image)


def _check_size(image: Image.Image, name: str, max_pixels: int) -> tuple[int, int]:
    """Return (width, height) unless they are too large or nothing."""
    width, height = image.size
    if width * height > max_pixels:
        raise MediaTooLargeError(
            f"{name}: {width} x {height} = {width * height:,} pixels, at most {max_pixels:,} are read; scale it down"
        )
    if width * height == 0:
        raise EmptyMediaError(f"{name}: the image has no pixels ({width} x {height})")
    return width, height


def _draft(image: Image.Image, min_side: int | None) -> int:
    """Have a JPEG decoded with fewer pixels; returns the bytes that decoding and converting hold at most."""
    need = 0
    if image.format in ("JPEG", "MPO") and image.info.get("progressive"):
        need = 2 * len(image.getbands()) * image.width * image.height  # all coefficients, whatever the draft
    if min_side is not None and image.format == "JPEG":
        image.draft(None, (min_side, min_side))
    pixels = image.width * image.height
    need += pixels * (_FEW_BYTES.get(image.mode, 4) + _EXTRA_BYTES.get(image.format or "", 0))
    factor = reduction(image.size, min_side) if min_side else 1
    if factor > 1:
        return need + 12 * pixels // factor**2  # itself, cut to its content, on white
    return need if image.mode == "RGB" else need + 13 * pixels


def _decode(image: Image.Image, name: str, min_side: int | None) -> tuple[Image.Image, bool]:
    """Return the upright RGB or RGBA image, and whether width and height have changed places."""
    try:
        Image.core.set_block_size(_BLOCK)  # type: ignore[attr-defined]
        image.load()
        orientation = _orientation(image)
        factor = reduction(image.size, min_side) if min_side else 1
        if factor > 1:
            upright = reduced(image, factor, name)
        else:
            upright = to_colour(image, name)
        if orientation in _TURNS:  # else no copy: of a huge image there is no room for two
            upright = upright.transpose(_TURNS[orientation])
            upright.info.pop("exif", None)  # it would be turned again
        return upright, orientation >= 5
    except MediaError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged input
        raise MediaError(f"{name}: damaged or truncated image ({one_line(error)}); restore or remove it") from error


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
        return open_image(stream)
    except MediaError:
        raise
    except Exception as error:  # as above: UnidentifiedImageError, SyntaxError, struct.error, ...
        raise MediaError(f"{name}: not an image that can be read ({_reason(error)}); convert it to PNG") from error


def open_image(stream: Path | io.BytesIO) -> Image.Image:
    """Open an image of one of the `FORMATS` without decoding it; errors are Pillow's own."""
    # Pillow warns or raises by a process-wide limit; `load_image` has its own, checked before anything is decoded.
    with _opening:
        _quieten_libtiff()
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(stream, formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


@functools.cache
def _quieten_libtiff() -> None:
    """Keep libtiff, which knows no Python, from writing its complaints to stderr; Pillow's own errors say enough."""
    with contextlib.suppress(OSError, AttributeError):  # linked in statically
        library = ctypes.CDLL(Image.core.__file__)  # type: ignore[attr-defined]
        for setter in (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler):
            setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
            setter(None)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "none of the formats that are read: PNG, JPEG, WebP, AVIF, GIF, BMP, TIFF"
    return one_line(error)


def _from_array(pixels: NDArray[np.uint8], name: str) -> Image.Image:
    shape_ok = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))
    if pixels.dtype != np.uint8 or not shape_ok or pixels.size == 0:
        raise MediaError(
            f"{name}: array of shape {pixels.shape} and type {pixels.dtype}; give uint8 (H, W), (H, W, 3) or (H, W, 4)"
        )
    return Image.fromarray(np.ascontiguousarray(pixels))


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where broken EXIF must not cost a good picture."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        return orientation if orientation in _TURNS else 1
    except Exception:
        return 1


def _close_file(image: Image.Image) -> None:
    """Let go of the file at once; the pixels stay."""
    file = getattr(image, "fp", None)
    if file is not None and getattr(image, "_exclusive_fp", False):
        file.close()
        image.fp = None  # type: ignore[attr-defined]
