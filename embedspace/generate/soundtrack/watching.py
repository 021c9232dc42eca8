"""A film looked at once, frame by frame: what strikes in it and when, what that means, and what all of it means."""

from __future__ import annotations

import dataclasses
import os
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedspace.encoders.film.moving import SIDE
from embedspace.errors import EmptyMediaError
from embedspace.generate.soundtrack.cutting import crop_of
from embedspace.generate.soundtrack.impacts import Impact, ImpactSettings, iter_impacts
from embedspace.generate.soundtrack.movement import Movement, iter_movement
from embedspace.media.film import Film, Moment, iter_moments

__all__ = ["FRAMES_PER_SECOND", "PictureSpace", "Strike", "Watched", "mean_row", "watch"]

FRAMES_PER_SECOND = 30.0
"""At most; a film that has fewer is looked at frame by frame."""
_PICTURE_SECONDS = 5.0
"""Distance of the frames that say what the whole film means, at first; it doubles where there are many."""
_MOST_PICTURES = 32
_MOST_LOOKS = 64
"""Things of different looks that a film has; what comes after them is taken for the one that is most alike."""
_ALIKE = 0.08
"""Mean difference of small pictures, 0 to 1, below which two things look alike."""
_THUMB = 8
_VIEWS = 3
"""Crops of a look that its meaning is told from."""
_SAME = 0.7
"""Cosine from which two looks are one thing."""
_STILL = 1e-3
"""Largest energy of a film in which nothing moves: coding changes pixels, too."""
_BATCH = 8

Tell = Callable[[float, float], None]
"""Told seconds that were watched and seconds in all."""


class PictureSpace(Protocol):
    """What watching needs of a space."""

    def encode_image(self, images: list[Image.Image]) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows."""
        ...


@dataclass(frozen=True, slots=True)
class Strike:
    """Something that is heard in a film.

    Attributes:
        time: Seconds.
        strength: Picture heights per second.
        box: Left, top, right, bottom as shares of the picture.
        look: Number of what it looks like, and so of what it means.
    """

    time: float
    strength: float
    box: tuple[float, float, float, float]
    look: int


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """What was seen in a film.

    Attributes:
        path: The film.
        seconds: How long it lasts.
        strikes: In order of time.
        looks: L things that strike: (V, embed_dim) unit rows of some pictures of each.
        whole: (embed_dim,) unit row of the film.
        times: (T,) seconds of the frames.
        energies: (T,) how much moves, see `Movement.energy`.
        strengths: (T,) of impacts.
    """

    path: Path
    seconds: float
    strikes: tuple[Strike, ...]
    looks: tuple[NDArray[np.float32], ...]
    whole: NDArray[np.float32]
    times: NDArray[np.float64]
    energies: NDArray[np.float64]
    strengths: NDArray[np.float64]


def watch(
    path: str | os.PathLike[str],
    space: PictureSpace,
    settings: ImpactSettings | None = None,
    tell: Tell | None = None,
) -> Watched:
    """Look at a film, with some frames in memory.

    Args:
        path: A video file.
        space: Encodes what strikes.
        settings: What counts as an impact.
        tell: Told how far it is.

    Raises:
        EmptyMediaError: If the file has no pictures, only one, or nothing ever moves.
        MediaTooLargeError: If a frame is too large.
        MediaError: If nothing of it decodes; what is damaged within it is passed over.
    """
    film, pictures, looks = Film(), _Pictures(space), _Looks(space)
    moments = iter_moments(path, film, per_second=FRAMES_PER_SECOND, side=SIDE)
    seen = [0]
    movements = _noted(iter_movement(_counted(moments, seen, pictures)), film, tell)
    strikes: list[Strike] = []
    times, energies, strengths = array("d"), array("d"), array("d")
    for moving, impact in iter_impacts(movements, settings):
        for kept, value in zip((times, energies, strengths), dataclasses.astuple(moving), strict=True):
            kept.append(value)
        if impact is not None:
            strikes.append(Strike(impact.time, impact.strength, impact.box, looks.number(impact)))
    if seen[0] < 2:
        raise EmptyMediaError(f"{path}: has one picture only, in which nothing can strike; give a film")
    if not strikes and max(energies, default=0.0) < _STILL:
        raise EmptyMediaError(f"{path}: nothing moves in it, so nothing is heard; give a film in which something does")
    number_of, views = _joined(looks.views())
    told = tuple(dataclasses.replace(strike, look=number_of[strike.look]) for strike in strikes)
    return Watched(
        Path(path), film.seconds, told, views, pictures.row(),
        np.array(times), np.array(energies), np.array(strengths),
    )  # fmt: skip


def _counted(moments: Iterator[Moment], seen: list[int], pictures: _Pictures) -> Iterator[Moment]:
    for moment in moments:
        seen[0] += 1
        yield moment
        pictures.look(moment)


def _noted(movements: Iterator[Movement], film: Film, tell: Tell | None) -> Iterator[Movement]:
    for movement in movements:
        if tell is not None:
            tell(movement.time, film.seconds)
        yield movement


class _Pictures:
    """Frames here and there, of which the film's meaning is the mean."""

    def __init__(self, space: PictureSpace) -> None:
        self._space, self._every, self._next = space, _PICTURE_SECONDS, 0.0
        self._rows: list[NDArray[np.float32]] = []

    def look(self, moment: Moment) -> None:
        if moment.image is None or moment.start < self._next:
            return
        self._rows.append(self._space.encode_image([moment.image])[0])
        if len(self._rows) == _MOST_PICTURES:
            self._rows, self._every = self._rows[::2], 2 * self._every
        self._next = moment.start + self._every

    def row(self) -> NDArray[np.float32]:
        return _unit(np.mean(self._rows, axis=0))


@dataclass(slots=True)
class _Look:
    thumb: NDArray[np.float32]
    views: int = 0
    waiting: list[Image.Image] = field(default_factory=list)
    rows: list[NDArray[np.float32]] = field(default_factory=list)


class _Looks:
    """What strikes, told apart by its looks, so that a thing that strikes a hundred times is encoded a few times."""

    def __init__(self, space: PictureSpace) -> None:
        self._space = space
        self._looks: list[_Look] = []

    def number(self, impact: Impact) -> int:
        """Return the number of the look of what strikes."""
        crop = crop_of(impact)
        small = crop.resize((_THUMB, _THUMB), Image.Resampling.BOX)
        thumb: NDArray[np.float32] = np.asarray(small, np.float32) / np.float32(255)
        apart = [float(np.abs(look.thumb - thumb).mean()) for look in self._looks]
        best = int(np.argmin(apart)) if apart else -1
        if best < 0 or (apart[best] > _ALIKE and len(self._looks) < _MOST_LOOKS):
            self._looks.append(_Look(thumb))
            best = len(self._looks) - 1
        look = self._looks[best]
        if look.views < _VIEWS:
            look.views += 1
            look.waiting.append(crop)
        if sum(len(one.waiting) for one in self._looks) >= _BATCH:
            self._encode()
        return best

    def views(self) -> list[NDArray[np.float32]]:
        """Return (V, embed_dim) unit rows of each look."""
        self._encode()
        return [np.stack(look.rows) for look in self._looks]

    def _encode(self) -> None:
        waiting = [(look, view) for look in self._looks for view in look.waiting]
        if not waiting:
            return
        rows = self._space.encode_image([view for _, view in waiting])
        for (look, _), row in zip(waiting, rows, strict=True):
            look.rows.append(row)
            look.waiting = []


def _joined(looks: list[NDArray[np.float32]]) -> tuple[list[int], tuple[NDArray[np.float32], ...]]:
    """Join looks that mean the same; returns the new number of each, and the views of those left."""
    joined: list[NDArray[np.float32]] = []
    numbers: list[int] = []
    for views in looks:
        row = mean_row(views)
        near = [float(mean_row(other) @ row) for other in joined]
        if near and max(near) > _SAME:
            numbers.append(int(np.argmax(near)))
            joined[numbers[-1]] = np.concatenate([joined[numbers[-1]], views])
        else:
            numbers.append(len(joined))
            joined.append(views)
    return numbers, tuple(joined)


def mean_row(views: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the (embed_dim,) unit row in the middle of (V, embed_dim) unit rows."""
    return _unit(views.mean(axis=0))


def _unit(row: NDArray[np.float32]) -> NDArray[np.float32]:
    return (row / max(float(np.linalg.norm(row)), 1e-12)).astype(np.float32)
