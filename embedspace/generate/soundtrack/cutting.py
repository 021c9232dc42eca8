"""What strikes, cut out of its frame: with what is around it, and alone, without what stood there before it came."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedspace.generate.soundtrack.impacts import Impact

__all__ = ["Past", "crop_of"]

_AROUND = 0.15
"""Share of its size by which a thing is cut out wider."""
_LEAST_SIDE = 24
_EVERY, _KEPT = 0.2, 24
"""Seconds between the frames that are remembered, and how many are."""
_LEAST_FRAMES = 4
_OTHER = 24
"""Levels of 255 from which a pixel is not what usually stands there."""
_SHARES = (0.05, 0.9)
"""Share of its box that a thing may fill for it to be told from what is behind it."""
_WHITE = 255


class Past:
    """Some seconds of frames; their median is what stands behind things that move."""

    def __init__(self) -> None:
        self._frames: deque[Image.Image] = deque(maxlen=_KEPT)
        self._next = 0.0

    def remember(self, time: float, image: Image.Image) -> None:
        """Take a frame, unless the last one is too near."""
        if time >= self._next:
            self._frames.append(image)
            self._next = time + _EVERY

    def alone(self, impact: Impact) -> Image.Image | None:
        """Return a thing on white, cut to its outline; None where it cannot be told from what is behind it."""
        width, height = impact.image.size
        left, top, right, bottom = impact.box
        place = (round(left * width), round(top * height), round(right * width), round(bottom * height))
        before = [frame for frame in self._frames if frame.size == impact.image.size]
        if len(before) < _LEAST_FRAMES:
            return None
        behind = np.median(np.stack([np.asarray(frame.crop(place)) for frame in before]), axis=0)
        here = np.asarray(impact.image.crop(place))
        other = np.abs(here - behind).max(axis=2) > _OTHER
        if not _SHARES[0] <= float(other.mean()) <= _SHARES[1]:
            return None
        rows, columns = np.flatnonzero(other.any(axis=1)), np.flatnonzero(other.any(axis=0))
        shown: NDArray[np.uint8] = np.where(other[..., None], here, np.uint8(_WHITE))
        return Image.fromarray(shown[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def crop_of(impact: Impact) -> Image.Image:
    """Return what strikes with what is around it: a square of its frame."""
    width, height = impact.image.size
    left, top, right, bottom = impact.box
    across, down = (left + right) / 2 * width, (top + bottom) / 2 * height
    side = max((right - left) * width, (bottom - top) * height) * (1 + 2 * _AROUND)
    half = max(min(side, width, height), _LEAST_SIDE) / 2
    across = min(max(across, half), max(width - half, half))
    down = min(max(down, half), max(height - half, half))
    return impact.image.crop((round(across - half), round(down - half), round(across + half), round(down + half)))
