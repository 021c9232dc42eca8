"""Cut what is seen and heard into windows of timing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from embedspace.encoders.timing.profiles import SECONDS, TICKS, TICKS_PER_SECOND

__all__ = ["GreyWindows", "Recut", "SeenWindow", "moves", "seen_windows"]

Grey = NDArray[np.uint8]
SeenWindow = tuple[float, float, Grey]
"""Start and end in seconds; (TICKS + 1, 72, 96) grey levels, the first of them those before the window."""

_SHORTEST = 0.25
"""Of a window's length: what is left at the end of a film and is shorter makes none, unless it is all there is."""


_STILL, _FEWEST = 12, 3
"""Grey levels of 255 by which coding changes a pixel of a still picture, at most; pixels that change more than that, of
those looked at, where something moves."""


class GreyWindows:
    """Small grey frames as they come, whatever their rate, as windows of evenly spaced ones.

    A tick between two frames is a mixture of both, so that a rate which is no multiple of the ticks' makes nothing
    that moves evenly stutter.
    """

    def __init__(self) -> None:
        """Begin at second 0."""
        self._ticks: list[Grey] = []
        self._number = 0  # of the window
        self._before: Grey | None = None
        self._last: tuple[float, Grey] | None = None

    def add(self, time: float, grey: Grey) -> Iterator[SeenWindow]:
        """Take what is seen from a second on, and yield the windows that are complete; times ascend."""
        if self._last is None:
            self._last = (0.0, grey)
        first, before = self._last
        while (tick := self._next()) <= time + 1e-6:
            share = 1.0 if time - first < 1e-6 else min(1.0, max(0.0, (tick - first) / (time - first)))
            yield from self._tick(_mixed(before, grey, share))
        self._last = (time, grey)

    def end(self, seconds: float) -> Iterator[SeenWindow]:
        """Yield what has begun at the end of a film."""
        if self._last is None:
            return
        while self._next() < seconds - 1e-6:
            yield from self._tick(self._last[1])
        start = self._number * SECONDS
        if self._ticks and (self._number == 0 or seconds - start >= _SHORTEST * SECONDS):
            left = TICKS - len(self._ticks)
            yield self._window([*self._ticks, *([self._ticks[-1]] * left)], max(seconds, start + 1e-3))

    def _next(self) -> float:
        return self._number * SECONDS + len(self._ticks) / TICKS_PER_SECOND

    def _tick(self, grey: Grey) -> Iterator[SeenWindow]:
        self._ticks.append(grey)
        if len(self._ticks) == TICKS:
            yield self._window(self._ticks, (self._number + 1) * SECONDS)
            self._before, self._ticks = self._ticks[-1], []
            self._number += 1

    def _window(self, ticks: list[Grey], end: float) -> SeenWindow:
        before = ticks[0] if self._before is None else self._before
        return self._number * SECONDS, end, np.stack([before, *ticks])


class Recut:
    """Windows of sound, one after the other, cut into windows of another length.

    Attributes:
        rate: Of the sound, in Hz.
    """

    def __init__(self, seconds: float, rate: int) -> None:
        """Cut into windows of so many seconds."""
        self.rate, self._seconds = rate, seconds
        self._length, self._number = round(seconds * rate), 0
        self._waiting = np.zeros(0, np.float32)

    def add(self, start: float, waveform: NDArray[np.float32]) -> Iterator[tuple[float, float, NDArray[np.float32]]]:
        """Take the sound from a second on, and yield (start, end, samples) of the windows that are complete."""
        lacks = round(start * self.rate) - self._number * self._length - len(self._waiting)
        silence = np.zeros(max(lacks, 0), np.float32)  # a part that did not decode
        self._waiting = np.concatenate([self._waiting, silence, waveform])
        while len(self._waiting) >= self._length:
            begins = self._number * self._seconds
            yield begins, begins + self._seconds, self._waiting[: self._length]
            self._waiting, self._number = self._waiting[self._length :], self._number + 1

    def end(self) -> Iterator[tuple[float, float, NDArray[np.float32]]]:
        """Yield what has begun at the end of the sound."""
        if len(self._waiting) and (self._number == 0 or len(self._waiting) >= _SHORTEST * self._length):
            begins = self._number * self._seconds
            yield begins, begins + len(self._waiting) / self.rate, self._waiting


def moves(frames: Grey) -> bool:
    """Whether anything moves in a window, beyond what coding a picture changes of it."""
    small = frames[:, ::2, ::2].astype(np.int16)
    changed = np.abs(np.diff(small, axis=0)) > _STILL
    return bool(changed.sum(axis=(1, 2)).max() >= _FEWEST)


def seen_windows(frames: Iterable[tuple[float, Grey]], seconds: float | None = None) -> Iterator[SeenWindow]:
    """Yield the windows of frames in memory.

    Args:
        frames: (second, (72, 96) grey levels), ascending.
        seconds: How long the film lasts; None: a tick beyond the last frame.
    """
    windows, last = GreyWindows(), 0.0
    for time, grey in frames:
        last = time
        yield from windows.add(time, grey)
    yield from windows.end(last + 1 / TICKS_PER_SECOND if seconds is None else seconds)


def _mixed(before: Grey, after: Grey, share: float) -> Grey:
    if share > 0.98 or before is after:
        return after
    if share < 0.02:
        return before
    mixed: Grey = np.rint(before + np.float32(share) * (after.astype(np.float32) - before)).astype(np.uint8)
    return mixed
