"""How the camera moved between two frames: the shift that most of the picture agrees on, and what it leaves.

A pan and a shake are shifts; a zoom or a turn is not, and what it leaves counts as movement.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["camera_shift", "shifted", "unexplained"]

Frame = NDArray[np.float32]
Shift = tuple[float, float]

_COARSE = 4
_STEPS = 4
_STILL = (0.0, 0.0)
_TILES = (3, 4)
"""Rows and columns of the tiles that vote about a shift: a small thing that moves by itself is in few of them."""
_VOTE = 0.3
"""What a tile's vote counts at most."""
_AGREED = 0.12
"""Mean vote from which the camera has moved."""
_FLOOR = 0.3
"""Grey levels of difference that a tile has in any case."""
_CAP = 24.0
"""Grey levels beyond which a difference counts no more: it is something that moves."""
_EXACT = 0.02
_GRAIN = 1.0
"""Grey levels of 255 below which differences are taken for grain."""
_FLAT = 1e-3
"""Squared levels per pixel that a gradient must have for a shift to be told from it."""
_EDGE = 0.35
"""Pixels by which an edge may lie beside where the shift puts it."""


def camera_shift(before: Frame, after: Frame, guesses: Sequence[Shift] = ()) -> Shift:
    """Return (right, down) in pixels so that after(p + shift) is before(p) for most of the picture.

    Args:
        before: (H, W) grey levels.
        after: The same.
        guesses: Where to begin besides at no shift.

    Source: Lucas & Kanade 1981, by inverse composition (Baker & Matthews 2004, section 3.2), with the weights of Geman
        and McClure, so that what moves by itself does not pull.
    """
    small_before, small_after = _reduced(before, _COARSE), _reduced(after, _COARSE)
    coarse = [
        _refined(small_before, small_after, (start[0] / _COARSE, start[1] / _COARSE)) for start in (_STILL, *guesses)
    ]
    best = min(coarse, key=lambda shift: _misfit(small_before, small_after, shift))
    half_before, half_after = _reduced(before, 2), _reduced(after, 2)
    ratio = _COARSE / 2
    found = _refined(half_before, half_after, (best[0] * ratio, best[1] * ratio))
    tried = [(found[0] * 2, found[1] * 2), *guesses]
    still = _apart_by_tile(before, after, _STILL)
    gains = [(_gain(still, _apart_by_tile(before, after, shift)), shift) for shift in tried]
    gain, shift = max(gains)
    return shift if gain > _AGREED else _STILL


def shifted(frame: Frame, shift: Shift) -> Frame:
    """Return frame(p + shift), by linear interpolation; the border goes on beyond itself."""
    right, down = shift
    for axis, by in ((1, right), (0, down)):
        whole = int(np.floor(by))
        share = np.float32(by - whole)
        size = frame.shape[axis]
        places = np.clip(np.arange(size) + whole, 0, size - 1)
        first = np.take(frame, places, axis=axis)
        if share < _EXACT:
            frame = first
            continue
        second = np.take(frame, np.clip(places + 1, 0, size - 1), axis=axis)
        frame = first + share * (second - first)
    return frame


def unexplained(before: Frame, after: Frame, shift: Shift) -> Frame:
    """Return (H, W): by how many grey levels a frame differs from the one before beyond grain, edges and the shift."""
    moved = shifted(after, shift)
    apart = np.abs(moved - before)
    across, down = _gradients(before)
    grain = _GRAIN + 3 * float(np.median(apart))
    left: Frame = np.maximum(apart - grain - _EDGE * np.hypot(across, down), 0.0).astype(np.float32)
    border_x, border_y = (1 + int(np.ceil(abs(by))) for by in shift)
    left[:border_y], left[-border_y:], left[:, :border_x], left[:, -border_x:] = 0, 0, 0, 0
    return left


def _reduced(frame: Frame, by: int) -> Frame:
    """Return a frame made smaller: each pixel the mean of `by` times `by`."""
    height, width = frame.shape[0] // by * by, frame.shape[1] // by * by
    small: Frame = frame[:height, :width].reshape(height // by, by, width // by, by).mean(axis=(1, 3))
    return small


def _gradients(frame: Frame) -> tuple[Frame, Frame]:
    across, down = np.zeros_like(frame), np.zeros_like(frame)
    across[:, 1:-1] = (frame[:, 2:] - frame[:, :-2]) / 2
    down[1:-1] = (frame[2:] - frame[:-2]) / 2
    return across, down


def _refined(before: Frame, after: Frame, shift: Shift) -> Shift:
    across, down = _gradients(before)
    inside = (slice(1, -1), slice(1, -1))
    gradients = np.stack([across[inside].ravel(), down[inside].ravel()])  # (2, N)
    found = np.array(shift)
    limit = min(before.shape) / 2
    for _ in range(_STEPS):
        error = (shifted(after, (found[0], found[1])) - before)[inside].ravel()
        size = 1.4826 * float(np.median(np.abs(error))) + _GRAIN
        weights = 1 / np.square(1 + np.square(error / size))
        weighted = gradients * weights
        normal = weighted @ gradients.T + _FLAT * len(error) * np.eye(2)
        step = -np.linalg.solve(normal, weighted @ error)
        found = np.clip(found + step, -limit, limit)
        if float(np.abs(step).max()) < _EXACT:
            break
    return float(found[0]), float(found[1])


def _misfit(before: Frame, after: Frame, shift: Shift) -> float:
    return float(np.mean(_apart_by_tile(before, after, shift)))


def _gain(still: Frame, moved: Frame) -> float:
    """Return how much better a shift explains the tiles of a picture than none does: their mean vote."""
    return float(np.mean(np.clip(np.log((still + _FLOOR) / (moved + _FLOOR)), -_VOTE, _VOTE)))


def _apart_by_tile(before: Frame, after: Frame, shift: Shift) -> Frame:
    """Return the mean difference in each tile, (rows, columns); infinite where a shift leaves nothing to compare."""
    border_x, border_y = (1 + int(np.ceil(abs(by))) for by in shift)
    height, width = before.shape
    if 4 * border_x >= width or 4 * border_y >= height:
        return np.full(_TILES, np.inf, np.float32)
    inside = slice(border_y, -border_y), slice(border_x, -border_x)
    apart = np.minimum(np.abs(shifted(after, shift) - before)[inside], _CAP)
    rows, columns = (
        np.linspace(0, size, count + 1).astype(int)[:-1] for size, count in zip(apart.shape, _TILES, strict=True)
    )
    sums = np.add.reduceat(np.add.reduceat(apart, rows, axis=0), columns, axis=1)
    counts = np.diff(np.append(rows, apart.shape[0]))[:, None] * np.diff(np.append(columns, apart.shape[1]))
    means: Frame = (sums / counts).astype(np.float32)
    return means
