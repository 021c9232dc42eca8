"""What is edited: a picture or a sound of the user's, and which part of it may change.

space.generate(space.encode_text(["a green apple"]), to="image", edit=edit_of_picture("apple.png", mask="auto"))
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedspace.errors import ArgumentError
from embedspace.media.audio import load_audio
from embedspace.media.image import ImageSource, decoded_image
from embedspace.media.pixels import flatten
from embedspace.media.sound import AudioSource

__all__ = ["AUTO", "Edit", "edit_of", "edit_of_picture", "edit_of_sound", "is_told"]

AUTO = "auto"
"""The mask that the generator finds itself."""
MAX_SIDE = 2048
"""Pixels of an edited picture's longer side; a larger one is made smaller."""
SOUND_RATE = 16_000
"""Hz of an edited sound."""
_WHITE = 128
_NUMBER = r"\s*(\d+(?:\.\d+)?)\s*"
_BOX = re.compile(",".join([_NUMBER] * 4))
_SPAN = re.compile(f"{_NUMBER}-{_NUMBER}")


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """A picture or a sound that is to be changed.

    Attributes:
        content: (H, W, 3) uint8, its longer side at most `MAX_SIDE`; or (T,) float32 at `SOUND_RATE`.
        strength: How far to go from it, 0 to 1; None: what may change begins as a sample without an edit does, and
            without a mask as the generator says.
        mask: (H, W) or (T,), where it may change; None for everywhere.
        auto: The generator finds the mask.
        about: What a sample says of it: names, and the SHA-256 of the pixels or samples.
    """

    content: NDArray[Any]
    strength: float | None = None
    mask: NDArray[np.bool_] | None = None
    auto: bool = False
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_masked(self) -> bool:
        """Whether part of it stays."""
        return self.auto or self.mask is not None

    @property
    def asked(self) -> dict[str, Any]:
        """The options that were given: name -> value."""
        return {**self.about, **({} if self.strength is None else {"strength": self.strength})}


def is_told(mask: str) -> bool:
    """Whether a mask is words rather than a file: auto, a box or seconds."""
    return mask.strip() == AUTO or _BOX.fullmatch(mask) is not None or _SPAN.fullmatch(mask) is not None


def edit_of(content: str, init: Any, strength: float | None = None, mask: Any = None) -> Edit:  # noqa: ANN401
    """Read what a command line or a request says.

    Args:
        content: What the target's samples hold: "image" or "audio".
        init: A file, or what `edit_of_picture` or `edit_of_sound` takes in its place.
        strength: See `Edit`.
        mask: As `edit_of_picture` or `edit_of_sound` takes it.

    Raises:
        MediaError: If a file cannot be read.
        ArgumentError: If the mask does not fit.
    """
    make = edit_of_picture if content == "image" else edit_of_sound
    return make(init, strength=strength, mask=mask)


def edit_of_picture(init: ImageSource, *, strength: float | None = None, mask: ImageSource | str | None = None) -> Edit:
    """Return the edit of a picture.

    Args:
        init: A file or pixels.
        strength: See `Edit`.
        mask: A picture of its size, white where it may change; "left,top,right,bottom" in its pixels; or "auto".

    Raises:
        MediaError: If a picture cannot be read.
        ArgumentError: If the strength is not 0 to 1, the mask has another size, or keeps everything or nothing.
    """
    _check(strength)
    with decoded_image(init, min_side=MAX_SIDE) as picture:
        pixels, whole = flatten(picture.image), (picture.width, picture.height)
    scale = min(1.0, MAX_SIDE / max(whole))
    size = (max(1, round(whole[0] * scale)), max(1, round(whole[1] * scale)))
    pixels = _resized(pixels, size)
    about = {"init": _name(init), "init_sha256": hashlib.sha256(pixels.tobytes()).hexdigest()}
    if mask is None:
        return Edit(pixels, strength, about=about)
    if isinstance(mask, str) and mask.strip() == AUTO:
        return Edit(pixels, strength, auto=True, about={**about, "mask": AUTO})
    box = _BOX.fullmatch(mask) if isinstance(mask, str) else None
    if box is None and isinstance(mask, str) and not Path(mask).exists():
        raise ArgumentError(
            "mask", f"{mask}: no such file; a mask is a picture, {AUTO}, or left,top,right,bottom in pixels"
        )
    shape = (
        _box_mask([float(side) for side in box.groups()], whole, str(mask))
        if box is not None
        else _read_mask(mask, whole)
    )
    fitted = _resized(shape.astype(np.uint8) * 255, size) >= _WHITE
    return Edit(pixels, strength, _checked(fitted, _name(mask)), about={**about, "mask": _name(mask)})


def edit_of_sound(init: AudioSource, *, strength: float | None = None, mask: str | None = None) -> Edit:
    """Return the edit of a sound.

    Args:
        init: A file or the bytes of one.
        strength: See `Edit`.
        mask: The seconds that are made anew, "1.5-2".

    Raises:
        MediaError: If it cannot be read.
        ArgumentError: If the strength is not 0 to 1, or the mask is no span of the sound.
    """
    _check(strength)
    sound = load_audio(init, sample_rate=SOUND_RATE)
    about = {"init": _name(init), "init_sha256": hashlib.sha256(sound.waveform.tobytes()).hexdigest()}
    if mask is None:
        return Edit(sound.waveform, strength, about=about)
    span = _SPAN.fullmatch(mask)
    seconds = len(sound.waveform) / SOUND_RATE
    if span is None:
        raise ArgumentError("mask", f"{mask!r}: of a sound, it is the seconds that are made anew, such as 1.5-2")
    first, last = float(span[1]), float(span[2])
    if not first < last or first >= seconds:
        raise ArgumentError("mask", f"{mask!r}: no seconds of the sound, which is {seconds:.2f} s long")
    times = np.arange(len(sound.waveform)) / SOUND_RATE
    changed = (times >= first) & (times < last)
    return Edit(sound.waveform, strength, _checked(changed, mask, "name fewer seconds"), about={**about, "mask": mask})


def _check(strength: float | None) -> None:
    if strength is not None and not 0 <= strength <= 1:
        raise ArgumentError("strength", f"{strength:g}: must be 0 to 1")


def _checked(mask: NDArray[np.bool_], name: str, less: str = "make black what is to stay") -> NDArray[np.bool_]:
    """Refuse a mask that leaves nothing to do, or nothing to keep."""
    if not mask.any():
        raise ArgumentError("mask", f"{name}: keeps everything; what may change must be white in it")
    if mask.all():
        raise ArgumentError("mask", f"{name}: keeps nothing; leave it out, or {less}")
    return mask


def _read_mask(mask: ImageSource, whole: tuple[int, int]) -> NDArray[np.bool_]:
    with decoded_image(mask, min_side=MAX_SIDE) as picture:
        size, levels = (picture.width, picture.height), flatten(picture.image, (0, 0, 0))
    if size != whole:
        raise ArgumentError(
            "mask", f"{_name(mask)}: {size[0]} x {size[1]} pixels, but the picture has {whole[0]} x {whole[1]}"
        )
    found: NDArray[np.bool_] = levels.mean(axis=2) >= _WHITE
    return found


def _box_mask(box: list[float], whole: tuple[int, int], text: str) -> NDArray[np.bool_]:
    left, top, right, bottom = box
    width, height = whole
    if not (left < right and top < bottom and left < width and top < height):
        raise ArgumentError(
            "mask", f"{text!r}: no box left,top,right,bottom in pixels of the picture, which has {width} x {height}"
        )
    across, down = np.arange(width), np.arange(height)
    inside: NDArray[np.bool_] = ((down >= top) & (down < bottom))[:, None] & ((across >= left) & (across < right))
    return inside


def _resized(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return pixels (H, W) or (H, W, 3) at (width, height)."""
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def _name(source: object) -> str:
    return Path(source).name if isinstance(source, str | Path) else type(source).__name__
