"""Write images and sounds, whole or not at all, with a note of where they come from."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from embedspace.errors import MediaError
from embedspace.files import replacing
from embedspace.media.source import one_line

__all__ = ["write_audio", "write_blocks", "write_image"]

_EXIF_DESCRIPTION = 0x010E
_SOUND_FORMATS = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS")}
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def write_image(
    path: str | os.PathLike[str], image: Image.Image | NDArray[np.uint8], metadata: Mapping[str, str] | None = None
) -> Path:
    """Write an image; an existing file is replaced only when all of the new one is on disk.

    Args:
        path: Its suffix says the format: .png, .jpg, .jpeg or .webp.
        image: A PIL image, or (H, W), (H, W, 3) or (H, W, 4) uint8.
        metadata: Kept in the file: as text fields in PNG, as "key: value" lines of the EXIF description elsewhere.

    Returns:
        The path.

    Raises:
        MediaError: If the format is unknown or it cannot be written.
    """
    target, suffix = _target(path, _IMAGE_SUFFIXES)
    picture = image if isinstance(image, Image.Image) else Image.fromarray(np.ascontiguousarray(image))
    options: dict[str, Any] = {}
    if suffix == ".png":
        info = PngInfo()
        for key, value in (metadata or {}).items():
            info.add_itxt(key, value)
        options["pnginfo"] = info
    elif metadata:
        exif = Image.Exif()
        exif[_EXIF_DESCRIPTION] = "\n".join(f"{key}: {value}" for key, value in metadata.items())
        options["exif"] = exif
    if suffix in (".jpg", ".jpeg"):
        picture = picture.convert("RGB")
        options["quality"] = 92
    _replace(target, lambda partial: picture.save(partial, **options))
    return target


def write_audio(
    path: str | os.PathLike[str],
    waveform: NDArray[np.float32],
    sample_rate: int,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a sound; an existing file is replaced only when all of the new one is on disk.

    Args:
        path: Its suffix says the format: .wav or .flac (16 bits), or .ogg (Vorbis).
        waveform: (T,) or (T, C) in [-1, 1]; what lies outside is clipped.
        sample_rate: Hz.
        metadata: Fields "title", "artist", "copyright", "software", "comment", "date", "album", "license",
            "tracknumber" and "genre" are kept as such, all others as "key: value" lines of the comment.

    Returns:
        The path.

    Raises:
        MediaError: If the format is unknown or it cannot be written.
    """
    return write_blocks(path, [np.asarray(waveform, np.float32)], sample_rate, metadata)


def write_blocks(
    path: str | os.PathLike[str],
    blocks: Iterable[NDArray[np.float32]],
    sample_rate: int,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a sound of any length as it comes, as `write_audio` does.

    Args:
        path: As there.
        blocks: (n,) or (n, C) in [-1, 1] each, in order.
        sample_rate: Hz.
        metadata: As there.

    Raises:
        MediaError: As there.
    """
    import soundfile

    target, suffix = _target(path, _SOUND_FORMATS)
    container, subtype = _SOUND_FORMATS[suffix]

    def save(partial: Path) -> None:
        with contextlib.ExitStack() as stack:
            file: Any = None
            for block in blocks:
                samples = np.clip(block, -1.0, 1.0)
                if not np.isfinite(samples).all():
                    raise ValueError("the waveform holds NaN; nothing was written")
                if file is None:
                    channels = 1 if samples.ndim == 1 else samples.shape[1]
                    opened = soundfile.SoundFile(partial, "w", sample_rate, channels, subtype, format=container)
                    file = stack.enter_context(opened)
                    for key, value in _sound_fields(metadata or {}).items():
                        setattr(file, key, value)
                file.write(samples)

    _replace(target, save)
    return target


def _target(path: str | os.PathLike[str], suffixes: Collection[str]) -> tuple[Path, str]:
    """Return the path and its suffix in lower case, which must be one of these."""
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in suffixes:
        raise MediaError(f"{target}: cannot write {suffix or 'without a suffix'}; use {', '.join(suffixes)}")
    return target, suffix


def _sound_fields(metadata: Mapping[str, str]) -> dict[str, str]:
    known = {"title", "artist", "copyright", "software", "date", "album", "license", "tracknumber", "genre"}
    fields = {key: value for key, value in metadata.items() if key in known}
    notes = [metadata["comment"]] if "comment" in metadata else []
    notes += [f"{key}: {value}" for key, value in metadata.items() if key not in known and key != "comment"]
    if notes:
        fields["comment"] = "\n".join(notes)
    return fields


def _replace(target: Path, save: Callable[[Path], None]) -> None:
    """Write beside the target, then rename."""
    try:
        with replacing(target) as partial:
            save(partial)
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise MediaError(f"{target}: cannot be written: {one_line(error)}; check the folder and its space") from error
