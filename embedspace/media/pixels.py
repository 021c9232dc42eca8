"""Bring the pixels of any mode to RGB or RGBA: whole, or in strips and with fewer pixels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedspace.errors import MediaError

__all__ = ["cropped", "flatten", "reduced", "reduction", "to_colour"]

LARGE = 32_000_000
"""Pixels from which a picture is worked on in strips and made smaller."""
_SCALED_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I", "F"})
_ALPHA_MODES = frozenset({"RGBA", "LA", "La", "PA", "RGBa"})
_STRIP = 1_000_000  # pixels
_MARGIN = 0.04  # of the longer side of what is kept


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


def reduction(size: tuple[int, int], min_side: int) -> int:
    """Return by how much a picture of this (width, height) is made smaller: 1 unless it is `LARGE`, at most 8."""
    factor = 1
    while factor < 8 and size[0] * size[1] > LARGE * factor**2 and min(size) >= 2 * factor * min_side:
        factor *= 2
    return factor


def reduced(image: Image.Image, factor: int, name: str) -> Image.Image:
    """Convert a loaded picture to RGB or RGBA with 1 / factor of its width and height (mean over blocks).

    In strips, so that beside the picture itself little memory is needed.

    Args:
        image: Any mode, at least `factor` pixels wide and high.
        factor: As `reduction` gives it.
        name: What messages call it.

    Raises:
        MediaError: If its pixels are no numbers.
    """
    full = _full_scale(image, name) if image.mode in _SCALED_MODES else 0.0
    canvas: Image.Image | None = None
    for top, part in _strips(image, factor):
        small = (_grey8(part, full) if full else to_colour(part, name)).reduce(factor)
        if canvas is None:
            height = -(-image.height // factor)
            canvas = Image.new(small.mode, (small.width, height))
        canvas.paste(small, (0, top // factor))
    assert canvas is not None
    return canvas


def to_colour(image: Image.Image, name: str) -> Image.Image:
    """Convert a picture of any mode to RGB or RGBA.

    Args:
        image: Loaded or not.
        name: What messages call it.

    Raises:
        MediaError: If its pixels are no numbers.
    """
    if image.mode in _SCALED_MODES:
        return _grey8(image, _full_scale(image, name))
    if image.mode in _ALPHA_MODES or image.has_transparency_data:
        if image.mode == "La":
            image = image.convert("LA")
        converted = image if image.mode == "RGBA" else image.convert("RGBA")
    elif image.mode == "RGB":
        converted = image
    else:
        converted = image.convert("RGB")
    return converted.copy() if isinstance(converted, Image.Image) and converted.readonly else converted


def _strips(image: Image.Image, factor: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """Yield (top, strip) of a multiple of `factor` rows."""
    rows = max(_STRIP // image.width // factor, 1) * factor
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _full_scale(image: Image.Image, name: str) -> float:
    """Return the value that is white in a 16-bit, 32-bit or floating-point grey picture."""
    peak = -np.inf
    for _, part in _strips(image):
        grey = np.asarray(part)
        if grey.dtype.kind == "f" and not np.isfinite(grey).all():
            raise MediaError(f"{name}: pixels hold NaN or infinity; repair or remove it")
        peak = max(peak, float(grey.max()))
    if image.mode == "F":
        return 1.0 if peak <= 1.0 else max(peak, 255.0)
    if image.mode == "I" and peak <= 255.0:
        return 255.0
    return max(peak, 65535.0)


def _grey8(image: Image.Image, full: float) -> Image.Image:
    """Scale grey pixels to 8 bits; Pillow's own conversion would clip at 255."""
    grey = np.asarray(image).astype(np.float32)
    return Image.fromarray(np.clip(grey * (255.0 / full) + 0.5, 0, 255).astype(np.uint8)).convert("RGB")


def cropped(image: Image.Image) -> Image.Image:
    """Composite on white and cut away the empty border of a picture with transparency.

    A cut-out that fills a tenth of its canvas would otherwise meet a network as a speck.

    Args:
        image: RGB or RGBA.

    Returns:
        RGB; the image itself if that is what it is, for a copy of a huge one would not fit.
    """
    if image.mode != "RGBA":
        return image if image.mode == "RGB" else image.convert("RGB")
    box = image.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox()
    if box is not None:
        margin = round(_MARGIN * max(box[2] - box[0], box[3] - box[1]))
        box = (
            max(0, box[0] - margin),
            max(0, box[1] - margin),
            min(image.width, box[2] + margin),
            min(image.height, box[3] + margin),
        )
        image = image.crop(box)
    canvas = Image.new("RGB", image.size, (255, 255, 255))
    canvas.paste(image, mask=image.getchannel("A"))
    return canvas
