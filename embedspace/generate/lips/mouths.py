"""Where the mouth is: a face by the colour of skin, tracked; in its lower part what moves most is the mouth.

Nothing here is learnt, so that nothing is fitted to drawn faces. Where that is too little, a user brings landmarks: a
function that is given frames and returns the mouth in each (`Locate`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedspace.encoders.film.moving import smaller
from embedspace.errors import InputError
from embedspace.generate.lips.network import CROP
from embedspace.media.film import Film, iter_moments

__all__ = ["FPS", "SHARE", "Locate", "MouthTrack", "iter_mouths", "mouths_by_motion", "smooth"]

FPS = 25
"""Pictures of a mouth per second; films of other rates are read at theirs and brought to it."""
_NO_FACE = "no face is found by the colour of skin and the shape of a head"
_INSTEAD = "show one face, lit evenly, or bring landmarks (--landmarks)"
Frames = NDArray[np.uint8]
Locate = Callable[[Frames], NDArray[np.float32]]
"""(T, H, W, 3) RGB frames -> (T, 3): middle of the mouth (x, y) and half of a crop's side, in pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class MouthTrack:
    """Where the mouth is in every frame of a film, as landmarks say.

    Attributes:
        seconds: (N,) when each frame is shown, in order.
        at: (N, 3) middle of the mouth and half of a crop's side, in shares of the picture's width, height and width.
    """

    seconds: NDArray[np.float64]
    at: NDArray[np.float32]

    def within(self, seconds: Sequence[float], height: int, width: int) -> NDArray[np.float32]:
        """Return (T, 3) in pixels, of the frames that are shown at some seconds.

        Args:
            seconds: T of them.
            height: Of the frames, in pixels.
            width: Of the frames.
        """
        places = np.searchsorted(self.seconds, np.asarray(seconds) + 1e-4, side="right") - 1
        rows: NDArray[np.float32] = self.at[np.clip(places, 0, len(self.at) - 1)]
        return (rows * np.array([width, height, width], np.float32)).astype(np.float32)


_SIDE = 240
_CHUNK, _REST = 250, 50
"""Frames that are looked at together, and fewest that may be left for the last time: a mouth shows by its movement."""
SHARE = 0.24
"""Half of a crop's side, in widths of the face."""
_LEAST = 0.01
"""Share of a picture that a face has at least."""
_OTHER = 0.4
"""A second head of this share of the first one's skin is a second face."""
_HEIGHT, _FILLED = (0.78, 2.4), 0.4
"""Heights of a head, in widths, and the share of its box that is skin: of drawn people 0.8 to 1.7 and 0.44 to 0.74."""
_STEADY = 0.1
"""A face whose width varies by more than this share is none: of drawn people 0.03."""
_STILL = 0.4
"""Mean change of a mouth's pixels between frames, of 255, below which nothing is said."""


def iter_mouths(
    path: str | os.PathLike[str], film: Film, locate: Locate | MouthTrack | None = None
) -> Iterator[NDArray[np.uint8]]:
    """Read a film ten seconds at a time and yield its mouths.

    Args:
        path: A video file.
        film: Told how far it has been read.
        locate: Finds the mouth, or knows where it is; by skin and motion by default.

    Yields:
        (T, 32, 32) uint8 crops, `FPS` a second.

    Raises:
        InputError: If there is one picture only, no face, several faces, or nothing moves.
        EmptyMediaError: If the file has no pictures.
        MediaTooLargeError: If a frame is too large.
        MediaError: If it cannot be read.
    """
    find = locate or mouths_by_motion
    frames: list[NDArray[np.uint8]] = []
    times: list[float] = []
    shown = 0
    for moment in iter_moments(path, film, per_second=FPS, side=_SIDE):
        if moment.image is None:
            continue
        picture = np.asarray(smaller(moment.image, _SIDE), np.uint8)
        if frames and frames[-1].shape != picture.shape:
            raise InputError(f"{path}: its pictures change size in the middle; cut it there")
        due = max(round(moment.start * FPS) + 1 - shown, 0 if frames or shown else 1)
        for _ in range(min(due, FPS)):  # a slower film shows a picture more than once; a gap is a second at most
            frames.append(picture)
            times.append(moment.start)
        shown = max(shown, round(moment.start * FPS) + 1)
        if len(frames) >= _CHUNK + _REST:
            yield _crops(np.stack(frames[:_CHUNK]), times[:_CHUNK], find, path)
            frames, times = frames[_CHUNK:], times[_CHUNK:]
    if shown < 2:
        raise InputError(f"{path}: has one picture only, on which no lips move; give a film")
    if len(frames) > 1:
        yield _crops(np.stack(frames), times, find, path)


def _crops(
    frames: Frames, times: Sequence[float], locate: Locate | MouthTrack, path: str | os.PathLike[str]
) -> NDArray[np.uint8]:
    """Return (T, 32, 32) crops of the mouths."""
    try:
        at = locate.within(times, *frames.shape[1:3]) if isinstance(locate, MouthTrack) else locate(frames)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    out = np.empty((len(frames), CROP, CROP), np.uint8)
    for k, (frame, (x, y, half)) in enumerate(zip(frames, at, strict=True)):
        box = (float(x - half), float(y - half), float(x + half), float(y + half))
        wide = Image.fromarray(frame).convert("L")
        # an affine map reads beyond the edges as black; BOX by twice the size keeps what is small
        seen = wide.transform((2 * CROP, 2 * CROP), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
        out[k] = np.asarray(seen.resize((CROP, CROP), Image.Resampling.BOX), np.uint8)
    return out


@dataclass(frozen=True, slots=True, eq=False)
class _Track:
    """A face in time: its middle (T, 2) and its width (T,), in pixels of the frames it was found in."""

    middle: NDArray[np.float32]
    width: NDArray[np.float32]


def mouths_by_motion(frames: Frames) -> NDArray[np.float32]:
    """Return (T, 3): the middle of the mouth and half of a crop's side, in pixels.

    Raises:
        InputError: If there is no face, several faces, or nothing moves in the face.
    """
    step = max(1, min(frames.shape[1:3]) // 80)
    track = _face(frames[:, ::step, ::step], step)
    grey = frames.mean(axis=3, dtype=np.float32)
    grid = np.linspace(-1, 1, 49, dtype=np.float32)
    # the face held still: a grid of points about its middle, one width to each side
    x = track.middle[:, 0, None, None] + 0.7 * track.width[:, None, None] * grid[None, None, :]
    y = track.middle[:, 1, None, None] + 0.9 * track.width[:, None, None] * grid[None, :, None]
    held = _sampled(grey, x, y)  # (T, 49, 49)
    held = held / (held.mean(axis=(1, 2), keepdims=True) + 1) * 128
    # lips change their direction several times a second, a head hardly does
    moving = np.minimum(np.abs(np.diff(held, n=2, axis=0)), 40).mean(axis=0)
    moving -= np.median(moving)
    score = _blurred(np.maximum(moving, 0), 4, 7)
    score *= np.exp(-((grid / 0.5) ** 2))[None, :]  # it lies about the middle from side to side
    score[: 49 // 2] = 0  # and below the middle of the skin
    down, _ = np.unravel_index(int(score.argmax()), score.shape)
    if float(score.max()) < _STILL:
        raise InputError("nothing moves in the face; no lips can be read from a still")
    weights = score * (score > 0.5 * score.max()) * (np.abs(grid[:, None] - grid[down]) < 0.3)
    offset_x = float((weights * grid[None, :]).sum() / weights.sum())
    offset_y = float((weights * grid[:, None]).sum() / weights.sum())
    at = track.middle + track.width[:, None] * np.array([0.7 * offset_x, 0.9 * offset_y], np.float32)
    return np.concatenate([at, SHARE * track.width[:, None]], axis=1).astype(np.float32)


def _sampled(grey: NDArray[np.float32], x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return frames (T, H, W) at points (T, h, w) between their pixels."""
    left = np.clip(np.floor(x - 0.5), 0, grey.shape[2] - 2).astype(np.int64)
    top = np.clip(np.floor(y - 0.5), 0, grey.shape[1] - 2).astype(np.int64)
    across, down = np.clip(x - 0.5 - left, 0, 1), np.clip(y - 0.5 - top, 0, 1)
    number = np.arange(len(grey))[:, None, None]
    upper = grey[number, top, left] * (1 - across) + grey[number, top, left + 1] * across
    lower = grey[number, top + 1, left] * (1 - across) + grey[number, top + 1, left + 1] * across
    return np.asarray(upper * (1 - down) + lower * down, np.float32)


def _blurred(field: NDArray[np.float32], high: int, wide: int) -> NDArray[np.float32]:
    """Return the mean of (2 high + 1) x (2 wide + 1) points about each."""
    padded = np.pad(field, ((high, high), (wide, wide)))
    rows = np.lib.stride_tricks.sliding_window_view(padded, 2 * high + 1, axis=0).mean(axis=-1)
    out: NDArray[np.float32] = np.lib.stride_tricks.sliding_window_view(rows, 2 * wide + 1, axis=1).mean(axis=-1)
    return out.astype(np.float32)


def _skin(frames: Frames) -> NDArray[np.bool_]:
    """Return where the colour is that of skin, light or dark: by chroma alone (Chai and Ngan 1999)."""
    r, g, b = (frames[..., k].astype(np.float32) for k in range(3))
    cb = 128 - 0.1687 * r - 0.3313 * g + 0.5 * b
    cr = 128 + 0.5 * r - 0.4187 * g - 0.0813 * b
    found: NDArray[np.bool_] = (cb > 77) & (cb < 127) & (cr > 134) & (cr < 180)
    return found


def _face(small: Frames, step: int) -> _Track:
    """Return the track of the one face in (T, h, w, 3) frames that were taken every `step` pixels."""
    skin = _skin(small)
    keys = range(0, len(small), 12)
    boxes = [box for key in keys if (box := _patch(skin[key])) is not None]
    if 2 * len(boxes) < len(keys):
        raise InputError(f"{_NO_FACE}; {_INSTEAD}")
    left, top, right, bottom = np.median(np.array(boxes), axis=0).astype(int)
    margin = round(0.15 * (right - left))
    left, top = max(0, left - margin), max(0, top - margin)
    part = skin[:, top : bottom + margin + 1, left : right + margin + 1].astype(np.float32)
    area = part.sum(axis=(1, 2)) + 1e-6
    ys, xs = np.arange(part.shape[1]), np.arange(part.shape[2])
    middle_x = (part.sum(axis=1) * xs).sum(axis=1) / area
    middle_y = (part.sum(axis=2) * ys).sum(axis=1) / area
    # the width of the face: rows of skin in the wider half, so that a neck does not count
    widths = np.sort(part.sum(axis=2), axis=1)[:, ::-1]
    counted = np.maximum(1, (widths > 0).sum(axis=1) // 3)
    width = np.array([row[:n].mean() for row, n in zip(widths, counted, strict=True)])
    middle = np.stack([middle_x + left + 0.5, middle_y + top + 0.5], axis=1) * step
    steady = smooth(width[:, None] * step)[:, 0]
    if steady.std() > _STEADY * steady.mean():
        raise InputError(f"{_NO_FACE}: what has the colour of skin is of no steady width; {_INSTEAD}")
    return _Track(smooth(middle), steady)


def smooth(track: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return a track without its tremble.

    Args:
        track: (T, C), a row per frame.
    """
    kernel = np.exp(-0.5 * (np.arange(-8, 9) / 3.0) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(track, ((8, 8), (0, 0)), mode="edge")
    columns = [np.convolve(padded[:, k], kernel, mode="valid") for k in range(track.shape[1])]
    return np.stack(columns, axis=1).astype(np.float32)


def _patch(skin: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """Return (left, top, right, bottom) of the largest patch of skin in the shape of a head; None where none is there.

    Raises:
        InputError: If a second one is nearly as large.
    """
    sizes, labels = _patches(skin)
    large = [(size, labels == name) for size, name in sizes if size >= _LEAST * skin.size]
    heads = [(size, box) for size, patch in large if (box := _head(patch)) is not None]
    if not heads:
        return None
    if len(heads) > 1 and heads[1][0] > _OTHER * heads[0][0]:
        raise InputError("two faces are found, and lips of one are read; cut the film to one of them")
    return heads[0][1]


def _head(patch: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """Return the box of a patch that is about as high as a head is, and fills its box as one does; else None."""
    rows, columns = np.flatnonzero(patch.any(axis=1)), np.flatnonzero(patch.any(axis=0))
    left, top, right, bottom = int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])
    height, width = bottom - top + 1, right - left + 1
    low, high = _HEIGHT
    if not low <= height / width <= high or patch.sum() < _FILLED * height * width:
        return None
    return left, top, right, bottom


def _patches(skin: NDArray[np.bool_]) -> tuple[list[tuple[int, int]], NDArray[np.int64]]:
    """Return the sizes and labels of connected patches, largest first, and the label of each pixel (0 is none)."""
    labels = np.where(skin, np.arange(1, skin.size + 1).reshape(skin.shape), 0)
    while True:
        padded = np.pad(labels, 1)
        highest = np.maximum.reduce(
            [padded[1:-1, 1:-1], padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
        )
        # a label is the place of another pixel of its patch: jump to that one's label, so that long ways are short
        found = np.where(skin, highest, 0)
        flat = np.concatenate([[0], found.ravel()])
        found = np.where(skin, np.maximum(found, flat[found]), 0)
        if np.array_equal(found, labels):
            break
        labels = found
    names, counts = np.unique(labels[labels > 0], return_counts=True)
    order = np.argsort(-counts)
    return [(int(counts[k]), int(names[k])) for k in order], labels
