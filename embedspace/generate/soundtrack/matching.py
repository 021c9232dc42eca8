"""Where a region of one frame is in another: the displacement of least squared difference, by Fourier transforms."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from embedspace.encoders.film.camera import Frame

__all__ = ["Displacement", "Spectra", "displacement"]

_REACH = 0.2
"""Share of the shorter side that a region is looked for around where it was."""
_NEAR = 0.002
"""How much worse, as a share of its contrast, the match must be for each step away: of equals the nearest is taken."""
_GRAIN = 4.0
"""Variance of grain, in squared grey levels."""


@dataclass(slots=True)
class Spectra:
    """A frame, and the Fourier transforms of it and of its square, made when they are asked for."""

    frame: Frame
    _made: tuple[NDArray[np.complex64], NDArray[np.complex64]] | None = field(default=None)

    @property
    def shape(self) -> tuple[int, int]:
        """Of the transforms' frame: the picture's, and room for what leaves it."""
        reach = reach_of(self.frame)
        return _round_size(self.frame.shape[0] + reach), _round_size(self.frame.shape[1] + reach)

    @property
    def both(self) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
        """Those of the frame and of its square."""
        if self._made is None:
            (height, width), (rows, columns) = self.shape, self.frame.shape
            wide = np.pad(self.frame, ((0, height - rows), (0, width - columns)), mode="edge")
            self._made = np.fft.rfft2(wide).astype(np.complex64), np.fft.rfft2(wide * wide).astype(np.complex64)
        return self._made


@dataclass(frozen=True, slots=True)
class Displacement:
    """Where a region is.

    Attributes:
        right: Pixels.
        down: Pixels.
        misfit: 0: it is there as it was; 1: nothing there looks more like it than its own mean grey does.
    """

    right: float
    down: float
    misfit: float


def reach_of(frame: Frame) -> int:
    """Return how many pixels around its place a region is looked for."""
    return max(2, round(_REACH * int(min(frame.shape))))


def _round_size(size: int) -> int:
    """Return the next size that a Fourier transform is fast for: 2, 3 and 5 are its only factors."""
    while True:
        left = size
        for factor in (2, 3, 5):
            while left % factor == 0:
                left //= factor
        if left == 1:
            return size
        size = size + 1


def displacement(here: Spectra, there: Spectra, weights: Frame) -> Displacement:
    """Return where the region that weights (H, W) pick out of a frame is in another one."""
    total = float(weights.sum())
    if total <= 0:
        return Displacement(0.0, 0.0, 1.0)
    middle = float((weights * here.frame).sum()) / total
    variance = float((weights * np.square(here.frame - middle)).sum()) / total
    frame, square = there.both
    size = here.shape
    weight = np.fft.rfft2(weights, size)
    weighted = np.fft.rfft2(weights * here.frame, size)
    energy = float((weights * np.square(here.frame)).sum())
    apart = np.fft.irfft2(np.conj(weight) * square - 2 * np.conj(weighted) * frame, size) + energy
    reach = reach_of(here.frame)
    places = np.arange(-reach, reach + 1)
    window = apart[np.ix_(places, places)] / total  # (2 * reach + 1, 2 * reach + 1): mean squared difference
    far = np.hypot(places[:, None], places[None])
    row, column = np.unravel_index(int(np.argmin(window + _NEAR * variance * far)), window.shape)
    down = places[row] + _between(window[:, column], int(row))
    right = places[column] + _between(window[row], int(column))
    return Displacement(float(right), float(down), float(np.clip(window[row, column] / (variance + _GRAIN), 0.0, 1.0)))


def _between(values: NDArray[np.float64], at: int) -> float:
    """Return by how much the least value lies beside its place: the vertex of a parabola through three."""
    if not 0 < at < len(values) - 1:
        return 0.0
    left, middle, right = values[at - 1 : at + 2]
    bend = left - 2 * middle + right
    return float(np.clip((left - right) / (2 * bend), -0.5, 0.5)) if bend > 0 else 0.0
