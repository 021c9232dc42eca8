"""How a thing moves in a rendered clip, and when it is heard: one function per kind, by textbook mechanics.

A kind takes a random generator and the times of the frames, and returns a `Motion`. Positions are shares of the frame:
(0, 0) is its upper left corner, (1, 1) the lower right one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["HELD_OUT", "KINDS", "Motion"]

Curve = NDArray[np.float64]
FLOOR = 0.8
"""Height of the ground."""
GRAVITY = 2.4
"""Heights of the picture per second squared: a thing that is a third of it away falls in half a second."""


@dataclass(slots=True)
class Motion:
    """Where a thing is, and when it is heard.

    Attributes:
        x: (T,) where its middle is.
        y: (T,) as `x`.
        turn: (T,) degrees, clockwise.
        size: (T,) factor; 0 while it is not there.
        events: (second, loudness from 0 to 1) of each impact, ascending.
        hum: (T,) loudness of a sound that lasts, such as rolling; empty: none.
    """

    x: Curve
    y: Curve
    turn: Curve
    size: Curve
    events: list[tuple[float, float]] = field(default_factory=list)
    hum: Curve = field(default_factory=lambda: np.empty(0))


Kind = Callable[[np.random.Generator, Curve], Motion]


def _still(times: Curve, x: float, y: float) -> Motion:
    full = np.ones_like(times)
    return Motion(x * full, y * full, 0 * full, full.copy())


def fall(rng: np.random.Generator, times: Curve) -> Motion:
    """It hangs, falls, and lies where it has landed; some fall twice, lifted between."""
    motion = _still(times, rng.uniform(0.2, 0.8), FLOOR)
    start = 0.0
    while True:
        start += rng.uniform(0.4, 1.3)
        height = rng.uniform(0.3, 0.6)
        landing = start + float(np.sqrt(2 * height / GRAVITY))
        if landing > times[-1] - 0.2:
            break
        falling = (times >= start - 0.35) & (times < landing)
        motion.y[falling] = FLOOR - height + GRAVITY / 2 * np.maximum(times[falling] - start, 0.0) ** 2
        motion.events.append((landing, float(np.sqrt(height / 0.6))))
        start = landing + 0.5
    return motion


def bounce(rng: np.random.Generator, times: Curve) -> Motion:
    """It is thrown up from the ground again and again, each time less far, and drifts aside."""
    motion = _still(times, rng.uniform(0.15, 0.4), FLOOR)
    motion.x += rng.uniform(0.02, 0.15) * times
    left, height, keeps = rng.uniform(0.0, 0.8), rng.uniform(0.35, 0.6), rng.uniform(0.55, 0.85)
    while height > 0.02:
        flight = 2 * float(np.sqrt(2 * height / GRAVITY))
        up = (times >= left) & (times < left + flight)
        since = times[up] - left
        motion.y[up] = FLOOR - (GRAVITY * flight / 2 * since - GRAVITY / 2 * since**2)
        left += flight
        if left < times[-1]:
            motion.events.append((left, float(np.sqrt(height / 0.6))))
        height *= keeps
    return motion


def swing(rng: np.random.Generator, times: Curve) -> Motion:
    """It swings like a pendulum, and is heard where it is fastest."""
    period, phase, wide = rng.uniform(0.8, 2.2), rng.uniform(0, 1), rng.uniform(0.15, 0.35)
    angle = 2 * np.pi * (times / period + phase)
    motion = _still(times, 0.5, 0.5)
    motion.x += wide * np.sin(angle)
    motion.y += 0.25 * np.cos(wide * 3 * np.sin(angle)) - 0.15
    motion.turn = -60 * wide * np.sin(angle)
    lowest = (np.arange(-2, 2 * times[-1] / period + 4) / 2 - phase) * period
    motion.events = [(float(at), 0.8) for at in lowest if 0.05 < at < times[-1] - 0.1]
    return motion


def roll(rng: np.random.Generator, times: Curve) -> Motion:
    """It rolls from side to side, halting now and then; what is heard grows with its speed."""
    speed = np.zeros_like(times)
    at = rng.uniform(0.0, 0.7)
    while at < times[-1]:
        length, fast = rng.uniform(0.4, 1.0), rng.uniform(0.3, 0.8) * rng.choice([-1, 1])
        moves = (times >= at) & (times < at + length)
        speed[moves] = fast * np.sin(np.pi * (times[moves] - at) / length)
        at += length + rng.uniform(0.3, 1.0)
    step = float(times[1] - times[0])
    motion = _still(times, 0.5, FLOOR)
    motion.x = 0.15 + 0.7 * _reflected(0.5 + np.cumsum(speed) * step)
    motion.turn = np.cumsum(speed) * step * 400
    motion.hum = np.abs(speed) / 0.8
    return motion


def _reflected(x: Curve) -> Curve:
    folded: Curve = 1 - np.abs(1 - np.mod(x, 2))
    return folded


def walk(rng: np.random.Generator, times: Curve) -> Motion:
    """It walks with a rocking gait and stands still now and then; each step is heard."""
    motion = _still(times, 0.0, FLOOR)
    pace, place = rng.uniform(0.3, 0.6), rng.uniform(0.1, 0.5)
    at, side = rng.uniform(0.1, 0.6), 1
    motion.x[:] = place
    while at < times[-1] - 0.1:
        for _ in range(rng.integers(2, 6)):
            stepping = (times >= at) & (times < at + pace)
            share = (times[stepping] - at) / pace
            motion.x[times >= at + pace] = place + 0.06
            motion.x[stepping] = place + 0.06 * share
            motion.y[stepping] -= 0.05 * np.sin(np.pi * share)
            motion.turn[stepping] = side * 12 * np.sin(np.pi * share)
            place, side, at = place + 0.06, -side, at + pace
            if at < times[-1]:
                motion.events.append((at, 0.6 + 0.2 * side))
        at += rng.uniform(0.4, 1.0)
    motion.x = 0.1 + 0.8 * _reflected(motion.x)
    return motion


def appear(rng: np.random.Generator, times: Curve) -> Motion:
    """It appears, stays for a while and is gone, several times; it is heard as it appears."""
    motion = _still(times, rng.uniform(0.2, 0.8), rng.uniform(0.3, 0.7))
    motion.size[:] = 0
    at = rng.uniform(0.2, 1.2)
    while at < times[-1] - 0.3:
        stays = rng.uniform(0.4, 1.4)
        there = (times >= at) & (times < at + stays)
        motion.size[there] = np.minimum((times[there] - at) / 0.1 + 0.3, 1.0)
        motion.events.append((at, rng.uniform(0.6, 1.0)))
        at += stays + rng.uniform(0.3, 1.2)
    return motion


def hop(rng: np.random.Generator, times: Curve) -> Motion:
    """It leaps now and then, each leap of its own height, and is heard as it lands."""
    motion = _still(times, rng.uniform(0.2, 0.8), FLOOR)
    at = rng.uniform(0.1, 0.8)
    while at < times[-1] - 0.3:
        height = rng.uniform(0.08, 0.4)
        flight = 2 * float(np.sqrt(2 * height / GRAVITY))
        up = (times >= at) & (times < at + flight)
        motion.y[up] -= 4 * height * (times[up] - at) / flight * (1 - (times[up] - at) / flight)
        at += flight
        if at < times[-1]:
            motion.events.append((at, float(np.sqrt(height / 0.4))))
        at += rng.uniform(0.1, 0.9)
    return motion


def slide(rng: np.random.Generator, times: Curve) -> Motion:
    """It slides to and fro between two walls that stop it with a knock."""
    left, right = rng.uniform(0.1, 0.3), rng.uniform(0.7, 0.9)
    motion = _still(times, left, FLOOR)
    at, here, there = rng.uniform(0.2, 0.9), left, right
    while at < times[-1] - 0.1:
        length = rng.uniform(0.25, 0.8)
        moves = (times >= at) & (times < at + length)
        motion.x[moves] = here + (there - here) * ((times[moves] - at) / length) ** 1.5
        motion.x[times >= at + length] = there
        at += length
        if at < times[-1]:
            motion.events.append((at, float(min(0.4 / length, 1.0))))
        at, here, there = at + rng.uniform(0.2, 0.8), there, here
    return motion


def skip(rng: np.random.Generator, times: Curve) -> Motion:
    """It goes in rows of small leaps, each as high and as slow as the others of its row, and stands still between."""
    motion = _still(times, rng.uniform(0.2, 0.8), FLOOR)
    at = rng.uniform(0.1, 0.6)
    while at < times[-1] - 0.2:
        height, flight = rng.uniform(0.015, 0.08), rng.uniform(0.2, 0.55)
        aside, waits = rng.uniform(-0.08, 0.08), rng.choice([0.0, rng.uniform(0.0, 0.2)])
        for _ in range(rng.integers(1, 7)):
            up = (times >= at) & (times < at + flight)
            share = (times[up] - at) / flight
            motion.y[up] -= 4 * height * share * (1 - share)
            motion.x[up] += aside * share
            motion.x[times >= at + flight] += aside
            at += flight
            if at < times[-1]:
                motion.events.append((at, float(np.sqrt(height / 0.08))))
            at += waits
        at += rng.uniform(0.3, 1.0)
    motion.x = 0.1 + 0.8 * _reflected(motion.x)
    return motion


def peck(rng: np.random.Generator, times: Curve) -> Motion:
    """It tips forward faster and faster until it strikes, and rights itself slowly."""
    motion = _still(times, rng.uniform(0.25, 0.75), rng.uniform(0.5, FLOOR))
    side, tip, aside, down = rng.choice([-1, 1]), rng.uniform(10, 35), rng.uniform(0.02, 0.06), rng.uniform(0, 0.03)
    at = rng.uniform(0.1, 0.7)
    while at < times[-1] - 0.2:
        forth, stays, back = rng.uniform(0.15, 0.4), rng.uniform(0.0, 0.2), rng.uniform(0.3, 0.6)
        share = np.clip((times - at) / forth, 0, 1) ** 2
        righted = np.clip((times - at - forth - stays) / back, 0, 1)
        share *= (1 + np.cos(np.pi * righted)) / 2
        motion.turn += side * tip * share
        motion.x += side * aside * share
        motion.y += down * share
        at += forth
        if at < times[-1]:
            motion.events.append((at, float(min(0.25 / forth, 1.0))))
        at += stays + back + rng.uniform(0.1, 0.7)
    return motion


KINDS: dict[str, Kind] = {
    "fall": fall,
    "bounce": bounce,
    "swing": swing,
    "roll": roll,
    "walk": walk,
    "appear": appear,
    "hop": hop,
    "slide": slide,
    "skip": skip,
    "peck": peck,
}
"""Name -> kind of motion."""

HELD_OUT: dict[str, tuple[str, ...]] = {
    "train": ("fall", "swing", "roll", "appear", "hop"),
    "val": ("slide",),
    "test": ("bounce", "walk"),
    "tune": ("skip", "peck"),
}
"""Split -> kinds that move there and nowhere else; "tune" is no split of the corpus: slow blows to set impacts on."""
