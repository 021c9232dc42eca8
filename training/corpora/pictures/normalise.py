"""Normalise pictures of any source to one form: PNG, RGBA, at most `MAX_SIDE` pixels on the long side."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from embedspace.errors import MediaError, MissingExtraError
from embedspace.media.image import open_image

__all__ = ["MAX_SIDE", "Conversion", "convert", "convert_all", "convert_named", "rasterise"]

MAX_SIDE = 320
"""Long side of a normalised picture in pixels: room for random crops of a 224-pixel input, and no more."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """One picture to normalise.

    Attributes:
        source: A file (PNG, WebP, JPEG or SVG), or the content of one.
        target: The PNG to write.
    """

    source: Path | bytes
    target: Path


def rasterise(source: Path | bytes, side: int = 2 * MAX_SIDE) -> Image.Image:
    """Render an SVG on a transparent ground and crop it to what is drawn.

    Args:
        source: An SVG file or its content.
        side: Width of the drawing's page in pixels before the crop.

    Returns:
        RGBA picture.

    Raises:
        MissingExtraError: If resvg-py is not installed.
        MediaError: If it cannot be rendered or draws nothing.
    """
    try:
        import resvg_py
    except ImportError:
        raise MissingExtraError("SVG pictures need resvg-py: pip install 'embedspace[corpora]'") from None
    # No fonts of the machine: the same picture everywhere.
    try:
        if isinstance(source, Path):
            png = resvg_py.svg_to_bytes(svg_path=str(source), width=side, dpi=96, skip_system_fonts=True)
        else:
            png = resvg_py.svg_to_bytes(svg_string=source.decode("utf-8"), width=side, dpi=96, skip_system_fonts=True)
    except (ValueError, UnicodeDecodeError) as error:
        raise MediaError(f"{_name(source)}: not an SVG that resvg can render: {error}") from None
    image = open_image(io.BytesIO(bytes(png))).convert("RGBA")
    box = image.getchannel("A").getbbox()
    if box is None:
        raise MediaError(f"{_name(source)}: the SVG draws nothing")
    return image.crop(box)


def convert(conversion: Conversion) -> str:
    """Normalise one picture.

    Returns:
        Why it failed, or "" when the target was written.
    """
    source, target = conversion.source, conversion.target
    try:
        image = rasterise(source) if _is_svg(source) else _open(source)
    except (MediaError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"{_name(source)}: {str(error) or type(error).__name__}"
    if image.getchannel("A").getbbox() is None:
        return f"{_name(source)}: fully transparent"
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f".{os.getpid()}.partial")
    image.save(partial, format="PNG")
    partial.replace(target)
    return ""


def convert_all(conversions: Iterable[Conversion], workers: int = 2) -> dict[Path, str]:
    """Normalise many pictures; those whose target exists are left as they are.

    Returns:
        Target -> reason, of those that failed.
    """
    todo = [conversion for conversion in conversions if not conversion.target.exists()]
    if not todo:
        return {}
    with ProcessPoolExecutor(workers) as pool:
        reasons = pool.map(convert, todo, chunksize=16)
        return {conversion.target: reason for conversion, reason in zip(todo, reasons, strict=True) if reason}


def convert_named(source: str, out: Path, pictures: Mapping[str, Path | bytes]) -> set[str]:
    """Normalise a source's pictures, given by their stems, into `out/files`, and print which were left out.

    Returns:
        The stems of those that failed.
    """
    targets = {out / "files" / f"{stem}.png": stem for stem in pictures}
    failed = convert_all(Conversion(pictures[stem], target) for target, stem in targets.items())
    for reason in failed.values():
        print(f"{source}: left out: {reason}")
    return {targets[target] for target in failed}


def _open(source: Path | bytes) -> Image.Image:
    with open_image(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        return image.convert("RGBA")


def _is_svg(source: Path | bytes) -> bool:
    if isinstance(source, Path):
        return source.suffix.lower() in (".svg", ".svgz")
    return b"<svg" in source[:4096]


def _name(source: Path | bytes) -> str:
    return str(source) if isinstance(source, Path) else f"{len(source)} bytes"
