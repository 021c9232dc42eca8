"""What moves in a film, frame by frame: how much, where, how fast it came and how fast it goes on.

Three frames are looked at together: how a region came from the frame before, and where it is in the one after. What
the camera does is taken out of both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedspace.encoders.film.camera import Frame, camera_shift, shifted, unexplained
from embedspace.encoders.film.moving import smaller
from embedspace.encoders.film.regions import largest_regions
from embedspace.generate.soundtrack.matching import Displacement, Spectra, displacement
from embedspace.media.film import Moment

__all__ = ["Movement", "Region", "iter_movement"]

SIDE = 120
"""Pixels of the shorter side that movement is told from."""
_LEAST_SIDE = 8
_MOVES = 8.0
"""Grey levels beyond grain from which a pixel counts as moving."""
_REGIONS = 3
_LEAST_PIXELS = 12
_SHORTEST = 0.02
"""Seconds between two frames: in less, a pixel is a speed."""
_CUT = 0.6
"""Share of the picture that moves from which it is another picture."""
_STRANGE = 0.6
"""Share of a region's edges astray from which a region is not what it is compared with, and its speed unknown."""
_GONE = -0.4
"""Share of a region's edges that is gone from which there is nothing that could have come."""
_SECOND = 0.25
"""Share of a region that must not have come with the rest for it to be two things."""
_BOTH = 0.25
"""Share of the moving pixels that must move on both sides of a frame for these alone to be the thing."""


@dataclass(frozen=True, slots=True)
class Region:
    """Something that moves.

    Attributes:
        box: Left, top, right, bottom as shares of the picture.
        share: Of the picture's pixels, those that move.
        arriving: (right, down) picture heights per second, from the frame before to this one.
        leaving: The same, from this frame to the one after.
        new: 1: it was not in the frame before and stays in the one after; -1: it is where something was and is gone.
    """

    box: tuple[float, float, float, float]
    share: float
    arriving: tuple[float, float]
    leaving: tuple[float, float]
    new: float


@dataclass(frozen=True, slots=True)
class Movement:
    """What moves at one frame.

    Attributes:
        time: Seconds.
        energy: Mean share of full scale by which a pixel changes in 1/30 s beyond what the camera did.
        camera: (right, down) picture heights per second.
        grown: 1: where the picture changed there are edges now and were none; -1: there are none and were some.
        regions: The largest first.
        image: The frame.
    """

    time: float
    energy: float
    camera: tuple[float, float]
    grown: float
    regions: tuple[Region, ...]
    image: Image.Image


@dataclass(slots=True)
class _Seen:
    time: float
    image: Image.Image
    grey: Frame
    spectra: Spectra


def iter_movement(moments: Iterable[Moment]) -> Iterator[Movement]:
    """Yield what moves at each frame but the first and the last, with three frames in memory.

    Args:
        moments: Of `embedspace.media.film.iter_moments`, each with an image.
    """
    size: tuple[int, int] | None = None
    held: list[_Seen] = []
    camera = (0.0, 0.0)
    changed: Frame | None = None
    for moment in moments:
        if moment.image is None or (held and moment.start < held[-1].time + _SHORTEST):
            continue
        image = smaller(moment.image)
        size = size or _size(image)
        grey = np.asarray(image.convert("L").resize(size, Image.Resampling.BOX), np.float32)
        held.append(_Seen(moment.start, image, grey, Spectra(grey)))
        if len(held) < 2:
            continue
        whole = displacement(held[-2].spectra, held[-1].spectra, np.ones_like(grey))
        guesses = (camera, (whole.right, whole.down))
        last, camera = camera, camera_shift(held[-2].grey, held[-1].grey, guesses)
        before, changed = changed, unexplained(held[-2].grey, held[-1].grey, camera)
        if len(held) == 3:
            assert before is not None
            yield _movement(held, (last, camera), before, changed)
            del held[0]


def _size(image: Image.Image) -> tuple[int, int]:
    scale = min(1.0, SIDE / min(image.size))
    return max(_LEAST_SIDE, round(image.width * scale)), max(_LEAST_SIDE, round(image.height * scale))


def _movement(
    seen: list[_Seen], cameras: tuple[tuple[float, float], tuple[float, float]], before: Frame, after: Frame
) -> Movement:
    first, here, last = seen
    height = here.grey.shape[0]
    steps = here.time - first.time, last.time - here.time
    came = np.zeros_like(before)  # what changed on the way here, as seen in this frame
    came[:] = _moved(before, cameras[0])
    energy = float(after.mean()) / 255 / (30 * steps[1])
    moves = np.maximum(came, after) > _MOVES
    cut = float(moves.mean()) > _CUT
    regions = (
        []
        if cut
        else [
            _region(seen, part, box, steps, cameras)
            for mask, box in largest_regions(moves, _REGIONS, _LEAST_PIXELS)
            for part in _parts(here, first, _things(came, after, mask))
        ]
    )
    changed = came > _MOVES
    now, then = (float((changed * _roughness(one.grey)).sum()) for one in (here, first))
    grown = 0.0 if cut else (now - then) / (now + then + 1e-6)
    return Movement(here.time, energy, _speed(cameras[1], steps[1], height), grown, tuple(regions), here.image)


def _things(came: Frame, after: Frame, mask: NDArray[np.bool_]) -> Frame:
    """Return how much each pixel of a region belongs to what moves, rather than to where it was or will be."""
    back, forth = (came > _MOVES) & mask, (after > _MOVES) & mask
    both = back & forth
    thing = both if both.sum() >= _BOTH * max(back.sum(), forth.sum()) else back | forth
    return _spread(thing.astype(np.float32)) * mask


def _region(
    seen: list[_Seen],
    part: Frame,
    box: tuple[int, int, int, int],
    steps: tuple[float, float],
    cameras: tuple[tuple[float, float], tuple[float, float]],
) -> Region:
    first, here, last = seen
    height, width = part.shape
    back, forth = displacement(here.spectra, first.spectra, part), displacement(here.spectra, last.spectra, part)
    arriving = _speed((-back.right - cameras[0][0], -back.down - cameras[0][1]), steps[0], height)
    leaving = _speed((forth.right - cameras[1][0], forth.down - cameras[1][1]), steps[1], height)
    rough = part * _roughness(here.grey)
    strange, lost = _astray(here, first, back, rough), _astray(here, last, forth, rough)
    now, then = float(rough.sum()), float((part * _roughness(first.grey)).sum())
    gained = (now - then) / (now + then + 1e-6)
    arriving = arriving if strange < _STRANGE and gained > _GONE else (0.0, 0.0)
    return Region(
        (box[0] / width, box[1] / height, box[2] / width, box[3] / height),
        float((part > 0.5).mean()),
        arriving,
        leaving if lost < _STRANGE else arriving,
        gained * strange * (1 - lost),
    )


def _astray(here: _Seen, there: _Seen, by: Displacement, rough: Frame) -> float:
    """Return which share of a region's edges is not found where the region should be, 0 to 1."""
    moved = np.roll(there.grey, (-round(by.down), -round(by.right)), axis=(0, 1))
    apart = np.abs(here.grey - moved) > 2 * _MOVES
    return float((rough * apart).sum() / (rough.sum() + 1e-6))


def _roughness(frame: Frame) -> Frame:
    """Return how much grey levels differ between neighbours: a thing has more of it than what it stands before."""
    rough = np.zeros_like(frame)
    rough[:-1] += np.abs(frame[1:] - frame[:-1])
    rough[:, :-1] += np.abs(frame[:, 1:] - frame[:, :-1])
    return rough


def _parts(here: _Seen, other: _Seen, weights: Frame) -> list[Frame]:
    """Return the weights of a region, or of each of two things in it that came from different sides."""
    found = displacement(here.spectra, other.spectra, weights)
    moved = shifted(other.grey, (found.right, found.down))
    astray = weights * (np.abs(here.grey - moved) > 2 * _MOVES)
    if astray.sum() < _SECOND * weights.sum():
        return [weights]
    second = _spread(astray)
    return [weights * (second < 0.5 * second.max()), second]


def _moved(changed: Frame, camera: tuple[float, float]) -> Frame:
    """Return what changed since the frame before, by whole pixels of this one."""
    moved: Frame = np.roll(changed, (round(camera[1]), round(camera[0])), axis=(0, 1))
    return moved


def _speed(pixels: tuple[float, float], seconds: float, height: int) -> tuple[float, float]:
    return pixels[0] / seconds / height, pixels[1] / seconds / height


def _spread(mask: Frame) -> Frame:
    """Return a mask with its holes filled: the mean over 5 by 5 pixels."""
    for axis in (0, 1):
        total = mask.copy()
        for by in (-2, -1, 1, 2):
            total += np.roll(mask, by, axis)
        mask = total / np.float32(5)
    return mask
