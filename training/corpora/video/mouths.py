"""Mouth shapes and how they flow into each other: 24 shapes of eight numbers, blended by dominance.

Each shape has a target and a dominance for each number: lips closed for "p" rule the opening and leave the width to the
vowels beside them. A number at a moment is the mean of the targets, weighed by dominances that fall off exponentially
in time (Cohen and Massaro 1993, "Modeling coarticulation in synthetic visual speech", equations 1 to 4).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.corpora.video.phonemes import Timed

__all__ = ["FPS", "NUMBERS", "SHAPES", "mouth_track", "shape_labels"]

FPS = 25
NUMBERS = ("jaw", "open", "wide", "round", "teeth", "tongue", "press", "tuck")
"""Jaw drop, lips apart, corners apart, lips rounded and forward, upper teeth seen, tongue seen, lips pressed together,
lower lip tucked under the teeth; 0 to 1."""
SHAPES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    #         jaw   open  wide  round teeth tongue press tuck     dominance of each
    "rest": ((0.02, 0.00, 0.45, 0.00, 0.00, 0.00, 0.15, 0.00), (0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)),
    "pbm": ((0.05, 0.00, 0.45, 0.05, 0.00, 0.00, 1.00, 0.00), (0.6, 3.0, 0.2, 0.2, 2.0, 1.0, 3.0, 1.0)),
    "fv": ((0.10, 0.10, 0.50, 0.00, 0.80, 0.00, 0.00, 1.00), (0.6, 2.0, 0.3, 0.5, 2.0, 1.0, 1.0, 3.0)),
    "th": ((0.20, 0.22, 0.50, 0.00, 0.60, 1.00, 0.00, 0.00), (0.7, 1.5, 0.3, 0.3, 1.5, 3.0, 1.0, 1.0)),
    "tdn": ((0.15, 0.20, 0.50, 0.00, 0.60, 0.45, 0.00, 0.00), (0.7, 1.0, 0.2, 0.2, 1.0, 1.5, 1.0, 1.0)),
    "l": ((0.25, 0.32, 0.50, 0.00, 0.40, 0.75, 0.00, 0.00), (0.6, 1.0, 0.2, 0.3, 1.0, 2.0, 1.0, 1.0)),
    "sz": ((0.04, 0.16, 0.62, 0.00, 1.00, 0.00, 0.00, 0.00), (1.5, 1.5, 0.6, 0.4, 2.0, 1.5, 1.0, 1.0)),
    "sh": ((0.08, 0.28, 0.25, 0.75, 0.85, 0.00, 0.00, 0.00), (1.2, 1.2, 0.9, 1.6, 1.5, 1.0, 1.0, 1.0)),
    "r": ((0.15, 0.20, 0.30, 0.55, 0.30, 0.10, 0.00, 0.00), (0.6, 0.8, 0.7, 1.0, 0.6, 0.6, 0.8, 1.0)),
    "kg": ((0.25, 0.26, 0.50, 0.00, 0.30, 0.15, 0.00, 0.00), (0.4, 0.5, 0.1, 0.1, 0.4, 0.6, 1.0, 1.0)),
    "h": ((0.30, 0.30, 0.50, 0.00, 0.20, 0.05, 0.00, 0.00), (0.2, 0.3, 0.1, 0.1, 0.2, 0.2, 0.8, 0.8)),
    "w": ((0.08, 0.08, 0.02, 1.00, 0.00, 0.00, 0.05, 0.00), (0.8, 1.5, 1.5, 2.0, 1.0, 0.8, 0.8, 1.0)),
    "y": ((0.08, 0.15, 0.75, 0.00, 0.50, 0.10, 0.00, 0.00), (0.7, 0.8, 0.8, 0.5, 0.7, 0.6, 1.0, 1.0)),
    "ee": ((0.10, 0.20, 0.95, 0.00, 0.70, 0.10, 0.00, 0.00), (1.0, 1.0, 1.2, 1.0, 0.8, 0.6, 1.0, 1.0)),
    "ih": ((0.18, 0.26, 0.70, 0.00, 0.55, 0.10, 0.00, 0.00), (0.9, 0.9, 0.8, 0.8, 0.7, 0.6, 1.0, 1.0)),
    "eh": ((0.38, 0.42, 0.70, 0.00, 0.50, 0.15, 0.00, 0.00), (1.0, 1.0, 0.8, 0.9, 0.8, 0.7, 1.0, 1.0)),
    "ae": ((0.65, 0.62, 0.78, 0.00, 0.50, 0.25, 0.00, 0.00), (1.1, 1.1, 0.9, 1.0, 0.8, 0.7, 1.0, 1.0)),
    "ah": ((0.90, 0.90, 0.50, 0.00, 0.20, 0.30, 0.00, 0.00), (1.2, 1.2, 0.8, 1.0, 0.9, 0.8, 1.0, 1.0)),
    "uh": ((0.45, 0.45, 0.50, 0.00, 0.30, 0.15, 0.00, 0.00), (0.9, 0.9, 0.6, 0.8, 0.7, 0.6, 1.0, 1.0)),
    "schwa": ((0.25, 0.28, 0.50, 0.05, 0.30, 0.10, 0.00, 0.00), (0.5, 0.5, 0.3, 0.4, 0.4, 0.4, 0.8, 0.8)),
    "aw": ((0.75, 0.70, 0.22, 0.55, 0.05, 0.15, 0.00, 0.00), (1.1, 1.1, 1.0, 1.2, 0.9, 0.7, 1.0, 1.0)),
    "oh": ((0.42, 0.42, 0.12, 0.80, 0.00, 0.05, 0.00, 0.00), (1.0, 1.0, 1.1, 1.4, 0.9, 0.7, 1.0, 1.0)),
    "uu": ((0.22, 0.26, 0.25, 0.60, 0.10, 0.05, 0.00, 0.00), (0.8, 0.9, 0.9, 1.0, 0.7, 0.6, 1.0, 1.0)),
    "oo": ((0.12, 0.15, 0.05, 0.95, 0.00, 0.00, 0.00, 0.00), (0.9, 1.1, 1.2, 1.6, 0.9, 0.6, 1.0, 1.0)),
    "er": ((0.25, 0.30, 0.35, 0.50, 0.25, 0.10, 0.00, 0.00), (0.8, 0.9, 0.8, 1.0, 0.6, 0.6, 1.0, 1.0)),
}  # fmt: skip
"""Name -> targets and dominances of `NUMBERS`."""
_NAMES = list(SHAPES)
_FALL = 22.0
"""Fall of dominance outside a shape's own time, per second, of a shape of ordinary length."""


def mouth_track(shapes: Sequence[Timed], frames: int, effort: float = 1.0) -> NDArray[np.float32]:
    """Return the mouth at `FPS` pictures a second.

    Args:
        shapes: What is said when.
        frames: Pictures.
        effort: How far the mouth moves from rest; 1 is ordinary, less is mumbled.

    Returns:
        (frames, 8) float32 in [0, 1], the `NUMBERS`.
    """
    times = (np.arange(frames) + 0.5) / FPS
    end = frames / FPS
    first, last = shapes[0].start, shapes[-1].end
    spans = [("rest", -1.0, first - 0.06), *((s.shape, s.start, s.end) for s in shapes), ("rest", last + 0.06, end + 1)]
    table = np.array([SHAPES[name] for name, _, _ in spans])  # (S, 2, 8)
    starts, ends = np.array([s for _, s, _ in spans]), np.array([e for _, _, e in spans])
    middle, half = (starts + ends) / 2, np.maximum(ends - starts, 0.02) / 2
    # beyond a shape's own middle half its dominance falls; within, it is whole
    away = np.maximum(np.abs(times[:, None] - middle) - 0.5 * half, 0.0)  # (frames, S)
    weight = np.exp(-_FALL * away)[:, :, None] * table[None, :, 1]  # (frames, S, 8)
    blended = (weight * table[None, :, 0]).sum(axis=1) / weight.sum(axis=1)
    rest = np.array(SHAPES["rest"][0])
    moved = rest + effort * (blended - rest)
    track: NDArray[np.float32] = np.clip(moved, 0.0, 1.0).astype(np.float32)
    return track


def shape_labels(shapes: Sequence[Timed], frames: int) -> NDArray[np.uint8]:
    """Return the number in `SHAPES` of the shape that is said at each picture, (frames,) uint8; rest elsewhere."""
    labels = np.zeros(frames, np.uint8)
    for one in shapes:
        labels[max(0, round(one.start * FPS)) : max(0, round(one.end * FPS))] = _NAMES.index(one.shape)
    return labels
