"""When something is heard: a thing that came fast and goes on no more, or back; and one that is suddenly there.

A blow shows in a film as a sudden change of velocity against the way that a thing came. One that sets out, swings, or
is slowed by its own weight changes its velocity, too, but not at once, or not against its way. Weight turns a thing's
way downwards, and what strikes the ground is turned upwards: so a slow step and the top of a leap are told apart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedspace.generate.soundtrack.movement import Movement, Region

__all__ = ["Impact", "ImpactSettings", "Moving", "iter_impacts"]

Speed = NDArray[np.float64]

_SUDDEN = 4
"""Frames on each side that say how velocities change anyhow."""


@dataclass(frozen=True, slots=True)
class ImpactSettings:
    """What counts as an impact; chosen on the training and validation clips of `training/corpora/video`.

    Attributes:
        threshold: Least strength, in picture heights per second.
        beside: Least strength as a share of the strongest impact around: what is faint beside a blow is not heard.
        around: Seconds before and after that count for `beside`.
        falls: Share of a blow's strength that is taken off as far as the velocity changes downwards: weight does that.
        apart: Seconds between two impacts.
        least_share: Of the picture, that a thing covers.
        goes_on: Share of its speed that a thing may keep along its way.
        same: Picture heights per second by which the speeds of one thing in two frames may differ.
        usual: Share of the usual change of velocity that is taken off.
        appears: Strength of a thing that is suddenly there; 0: it is not heard.
        appears_share: Of the picture, that it covers at least.
        appears_grown: How much more there must be to see than before.
    """

    threshold: float = 0.15
    beside: float = 0.2
    around: float = 1.5
    falls: float = 1.0
    apart: float = 0.12
    least_share: float = 0.0005
    goes_on: float = 0.5
    same: float = 0.25
    usual: float = 0.25
    appears: float = 1.0
    appears_share: float = 0.002
    appears_grown: float = 0.3


@dataclass(frozen=True, slots=True)
class Moving:
    """How much moves at one frame.

    Attributes:
        time: Seconds.
        energy: As in `Movement`.
        strength: Of the impact there, 0 or more, in picture heights per second.
    """

    time: float
    energy: float
    strength: float


@dataclass(frozen=True, slots=True)
class Impact:
    """Something that is heard.

    Attributes:
        time: Seconds.
        strength: Picture heights per second that the thing had; of one that appears `ImpactSettings.appears`.
        box: Left, top, right, bottom of the thing as shares of the picture.
        image: The frame.
    """

    time: float
    strength: float
    box: tuple[float, float, float, float]
    image: Image.Image


@dataclass(slots=True)
class _Candidate:
    time: float
    energy: float
    image: Image.Image | None
    blow: float = 0.0
    change: float = 0.0
    new: float = 0.0
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    strength: float = 0.0


def iter_impacts(
    movements: Iterable[Movement], settings: ImpactSettings | None = None
) -> Iterator[tuple[Moving, Impact | None]]:
    """Yield each frame's movement, and the impact if there is one, `ImpactSettings.around` seconds late.

    Args:
        movements: From `iter_movement`.
        settings: What counts.
    """
    wanted = settings or ImpactSettings()
    reach = max(wanted.apart, wanted.around)
    rated: deque[_Candidate] = deque()  # a window in time around the one that is decided
    last, decided = -np.inf, 0
    for candidate in _rated(_candidates(movements, wanted), wanted):
        if candidate.strength < wanted.threshold:
            candidate.image = None  # the window is long, and pictures are large
        rated.append(candidate)
        while rated[decided].time < candidate.time - reach:
            moving, impact = _decide(rated, decided, last, wanted)
            last = impact.time if impact else last
            decided += 1
            yield moving, impact
            while rated[0].time < rated[decided].time - reach:
                rated.popleft()
                decided -= 1
    for place in range(decided, len(rated)):
        moving, impact = _decide(rated, place, last, wanted)
        last = impact.time if impact else last
        yield moving, impact


def _decide(rated: Sequence[_Candidate], at: int, last: float, wanted: ImpactSettings) -> tuple[Moving, Impact | None]:
    """Return what is at one place of a window, and whether it is the strongest near it and strong among all."""
    one = rated[at]
    moving = Moving(one.time, one.energy, one.strength)
    if one.image is None or one.time - last <= wanted.apart:
        return moving, None
    around = max(c.strength for c in rated if abs(c.time - one.time) <= wanted.around)
    near = max(c.strength for c in rated if abs(c.time - one.time) <= wanted.apart)
    if one.strength < near or one.strength < wanted.beside * around:
        return moving, None
    return moving, Impact(one.time, one.strength, one.box, one.image)


def _rated(candidates: Iterable[_Candidate], wanted: ImpactSettings) -> Iterator[_Candidate]:
    """Give candidates their strength: what is more than usual among their neighbours."""
    around: deque[_Candidate] = deque(maxlen=2 * _SUDDEN + 1)
    waiting = 0

    def rate(place: int) -> _Candidate:
        one = around[place]
        near = [c.change for k, c in enumerate(around) if 1 < abs(k - place) <= _SUDDEN]
        usual = float(np.median(near)) if near else 0.0
        one.strength = max(one.blow - wanted.usual * usual, one.new, 0.0)
        return one

    for candidate in candidates:
        around.append(candidate)
        waiting += 1
        if waiting > _SUDDEN:
            yield rate(len(around) - waiting)
            waiting -= 1
    for place in range(len(around) - waiting, len(around)):
        yield rate(place)


def _candidates(movements: Iterable[Movement], wanted: ImpactSettings) -> Iterator[_Candidate]:
    """Yield what is suddenly otherwise at each frame, with the frames before and after it at hand."""
    held: list[Movement | None] = [None]
    for movement in movements:
        held.append(movement)
        if len(held) == 3:
            yield _candidate(held[0], held[1], held[2], wanted)
            del held[0]
    if len(held) == 2 and held[1] is not None:
        yield _candidate(held[0], held[1], None, wanted)


def _candidate(
    before: Movement | None, here: Movement | None, after: Movement | None, wanted: ImpactSettings
) -> _Candidate:
    assert here is not None
    found = _Candidate(here.time, here.energy, here.image)
    for region in here.regions:
        if region.share < wanted.least_share:
            continue
        blow, change = _blow(region, before, after, wanted)
        found.change = max(found.change, change)
        if blow > found.blow:
            found.blow, found.box = blow, region.box
    new = [region for region in here.regions if region.new > 0]
    share = sum(region.new * region.share for region in new)
    if wanted.appears and share > wanted.appears_share and here.grown > wanted.appears_grown:
        found.new = wanted.appears * min(1.0, here.grown)
        if found.new > found.blow:
            found.box = max(new, key=lambda region: region.share).box
    return found


def _blow(
    region: Region, before: Movement | None, after: Movement | None, wanted: ImpactSettings
) -> tuple[float, float]:
    """Return how fast a thing came against the way that its velocity changes, and by how much that changes.

    Velocities are means over two frames on each side: what a shake of the camera leaves of itself is halved, what a
    blow does is not. A change downwards is weight's and counts less.
    """
    arriving, leaving = np.array(region.arriving), np.array(region.leaving)
    if before is not None:
        earlier = _same(region, [(r, r.leaving, r.arriving) for r in before.regions], arriving, wanted.same)
        arriving = (arriving + earlier) / 2
    if after is not None:
        later = _same(region, [(r, r.arriving, r.leaving) for r in after.regions], leaving, wanted.same)
        leaving = (leaving + later) / 2
    change = leaving - arriving
    size = float(np.linalg.norm(change))
    if size < 1e-6:
        return 0.0, 0.0
    against, kept = -float(arriving @ change) / size, -float(leaving @ change) / size
    if against <= 0:
        return 0.0, size
    fallen = 1 - wanted.falls * max(float(change[1]), 0.0) / size
    return against * fallen * max(0.0, 1 - max(kept, 0.0) / against / wanted.goes_on), size


def _same(
    region: Region,
    others: list[tuple[Region, tuple[float, float], tuple[float, float]]],
    speed: Speed,
    most: float,
) -> Speed:
    """Return the speed, a frame further, of what is the same thing by place and common speed; else the speed itself."""
    near = [
        (float(np.linalg.norm(speed - np.array(common))), np.array(further))
        for other, common, further in others
        if _overlap(region.box, other.box)
    ]
    apart, further = min(near, key=lambda one: one[0], default=(np.inf, speed))
    return further if apart < most else speed


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])
