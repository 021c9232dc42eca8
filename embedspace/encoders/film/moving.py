"""What moves in a window of a film, cut out and alone on white, as large as the film shows it.

What stands still is the median of the frames, brought to where the camera was in the middle one. A thing that rests for
more than half of the window is in that median, and then it is cut out of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedspace.encoders.film.camera import Frame, Shift, camera_shift
from embedspace.encoders.film.regions import Box, largest_regions

__all__ = ["SIDE", "moving_things", "smaller"]

SIDE = 288
"""Pixels of the shorter side of frames that views are cut out of, at most."""
_SIDE = 120
"""Pixels of the shorter side that a thing is told from what is behind it by."""
_SHIFT_SIDE = 60
"""Pixels of the shorter side that the camera's way is told from."""
_LEAST_FRAMES, _LEAST_SIDE = 4, 16
_OTHER = 24
"""Levels of 255 from which a pixel is not what usually stands there."""
_SAME = 2.0
"""Mean difference of two small frames, in levels of 255, below which the camera did not move."""
_SHARES = (0.003, 0.5)
"""Share of the picture that a thing fills."""
_RESTS = 1.2
"""How much rougher the median is than the frame, within a region, for the thing to be in the median."""
_FRAMES = 8
"""Frames of a window that are looked at."""
_MARGIN = 6
"""Sides of a thing's picture per white margin around it."""
_WHITE = 255


@dataclass(frozen=True, slots=True)
class _Thing:
    """A region of a frame that is not what stands behind it.

    Attributes:
        frame: Its number.
        mask: (h, w) within the box, at the working size.
        box: In the frame as the working size has it.
        whole: It does not touch the border of what all frames show.
        rests: It is in the median and not in the frame.
    """

    frame: int
    mask: NDArray[np.bool_]
    box: Box
    whole: bool
    rests: bool


def moving_things(images: Sequence[Image.Image], most: int) -> list[Image.Image]:
    """Return views of the largest thing that moves, alone on white.

    Args:
        images: Upright RGB frames of one window, some of them one object where nothing changed.
        most: Views, of as many frames.

    Returns:
        None of them where nothing moves by itself, or most of the picture does.
    """
    images = images[:: max(1, len(images) // _FRAMES)]
    numbers: dict[int, int] = {}
    order = [numbers.setdefault(id(image), len(numbers)) for image in images]
    if len(numbers) < 2 or len(images) < _LEAST_FRAMES or min(min(image.size) for image in images) < _LEAST_SIDE:
        return []
    distinct = _of_one_size(list({id(image): image for image in images}.values()))
    scale = min(1.0, _SIDE / min(distinct[0].size))
    size = max(8, round(distinct[0].width * scale)), max(8, round(distinct[0].height * scale))
    small = np.stack([np.asarray(image.resize(size, Image.Resampling.BOX), np.uint8) for image in distinct])
    shifts = _shifts(distinct, scale)
    placed = np.stack(
        [np.roll(frame, (-down, -right), (0, 1)) for frame, (right, down) in zip(small, shifts, strict=True)]
    )
    behind = np.median(placed[order], axis=0)
    things = _things(placed, behind, shifts)
    typical = float(np.median([thing.mask.sum() for thing in things])) if things else 0.0
    things.sort(key=lambda thing: (not thing.whole, abs(thing.mask.sum() - typical)))
    return [_view(distinct[thing.frame], thing, shifts[thing.frame], behind, scale) for thing in things[:most]]


def smaller(image: Image.Image, side: int = SIDE) -> Image.Image:
    """Return an image whose shorter side has at most so many pixels."""
    scale = side / min(image.size)
    if scale >= 1:
        return image
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.BOX)


def _of_one_size(images: list[Image.Image]) -> list[Image.Image]:
    """Return images as large as the smallest of them: pictures of a film are as large as the film."""
    size = min((image.size for image in images), key=min)
    return [image if image.size == size else image.resize(size, Image.Resampling.BOX) for image in images]


def _shifts(images: Sequence[Image.Image], scale: float) -> list[tuple[int, int]]:
    """Return by how many pixels of the working size each frame lies right of and below the middle one."""
    factor = min(scale, _SHIFT_SIDE / min(images[0].size))
    size = max(8, round(images[0].width * factor)), max(8, round(images[0].height * factor))
    greys: list[Frame] = [
        np.asarray(image.convert("L").resize(size, Image.Resampling.BOX), np.float32) for image in images
    ]
    middle, found = greys[len(greys) // 2], []
    last: Shift = (0.0, 0.0)
    for grey in greys:
        if float(np.abs(grey - middle).mean()) < _SAME:
            last = (0.0, 0.0)
        else:
            last = camera_shift(middle, grey, (last,))
        found.append((round(last[0] * scale / factor), round(last[1] * scale / factor)))
    return found


def _things(placed: NDArray[np.uint8], behind: NDArray[np.float64], shifts: Sequence[tuple[int, int]]) -> list[_Thing]:
    """Return the largest thing of each frame that has one; frames are (N, H, W, 3)."""
    _, height, width, _ = placed.shape
    right, down = (1 + max(abs(shift[axis]) for shift in shifts) for axis in (0, 1))
    if 4 * right >= width or 4 * down >= height:
        return []
    found = []
    rough_behind = _roughness(behind)
    for number, frame in enumerate(placed):
        mask = np.abs(frame - behind).max(axis=2) > _OTHER
        mask[:down], mask[-down:], mask[:, :right], mask[:, -right:] = False, False, False, False
        mask = _cleaned(mask)
        for region, box in largest_regions(mask, 1, int(_SHARES[0] * mask.size)):
            thing, box = _tight(mask & region, box)
            if thing.mean() * thing.size > _SHARES[1] * mask.size:
                continue
            left, top, end, bottom = box
            inside = slice(top, bottom), slice(left, end)
            own = float((_roughness(frame.astype(np.float64))[inside] * thing).sum())
            rests = float((rough_behind[inside] * thing).sum()) > _RESTS * own
            whole = left > right and top > down and end < width - right and bottom < height - down
            found.append(_Thing(number, thing, box, whole, rests))
    return found


def _view(
    image: Image.Image, thing: _Thing, shift: tuple[int, int], behind: NDArray[np.float64], scale: float
) -> Image.Image:
    """Cut a thing out of its frame at the frame's own size, or out of the median where it rests there."""
    left, top, right, bottom = thing.box
    if thing.rests:
        shown = Image.fromarray(behind[top:bottom, left:right].astype(np.uint8))
    else:
        place = (left + shift[0], top + shift[1], right + shift[0], bottom + shift[1])
        shown = image.crop(tuple(round(side / scale) for side in place))  # type: ignore[arg-type]
    mask = Image.fromarray(thing.mask.astype(np.uint8) * _WHITE).resize(shown.size, Image.Resampling.BILINEAR)
    margin = max(shown.size) // _MARGIN
    alone = Image.new("RGB", (shown.width + 2 * margin, shown.height + 2 * margin), (_WHITE, _WHITE, _WHITE))
    alone.paste(shown, (margin, margin), mask)
    return alone


def _roughness(frame: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (H, W): how much a frame (H, W, 3) differs between neighbours."""
    rough = np.zeros(frame.shape[:2])
    rough[:-1] += np.abs(frame[1:] - frame[:-1]).sum(axis=2)
    rough[:, :-1] += np.abs(frame[:, 1:] - frame[:, :-1]).sum(axis=2)
    return rough


def _cleaned(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask without single pixels and with its small gaps filled: the majority of 3 by 3, twice."""
    for _ in range(2):
        counts = mask.astype(np.uint8)
        for axis in (0, 1):
            counts = counts + np.roll(counts, 1, axis) + np.roll(counts, -1, axis)
        mask = counts >= 5
    return mask


def _tight(mask: NDArray[np.bool_], box: Box) -> tuple[NDArray[np.bool_], Box]:
    """Return a region's own pixels with what they enclose, and their box."""
    left, top, right, bottom = box
    part = mask[top:bottom, left:right]
    rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    part = part[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    place = left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]) + 1, top + int(rows[-1]) + 1
    return _filled(part), place


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask with its holes: what cannot be reached from outside by rows and columns."""
    outside = np.pad(~mask, 1, constant_values=True)
    reached = np.zeros_like(outside)
    reached[0], reached[-1], reached[:, 0], reached[:, -1] = True, True, True, True
    while True:
        grown = reached.copy()
        grown[1:] |= reached[:-1]
        grown[:-1] |= reached[1:]
        grown[:, 1:] |= reached[:, :-1]
        grown[:, :-1] |= reached[:, 1:]
        grown &= outside
        if (grown == reached).all():
            return ~reached[1:-1, 1:-1]
        reached = grown
