"""Slow blows are heard, what weight does is not, and neither is what is faint beside a blow."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from embedspace.generate.soundtrack.impacts import Impact, ImpactSettings, iter_impacts
from embedspace.generate.soundtrack.movement import Movement, Region

FPS = 20
PICTURE = Image.new("RGB", (8, 6))


def _times(way: list[tuple[float, float]], settings: ImpactSettings | None = None) -> list[float]:
    """Return when something strikes for a thing that is at places (right, down) at 20 frames per second."""
    steps = np.diff(np.array(way), axis=0) * FPS
    movements = [
        Movement(k / FPS, 0.1, (0.0, 0.0), 0.0, (_region(steps[k - 1], steps[k]),), PICTURE)
        for k in range(1, len(steps))
    ]
    return [impact.time for _, impact in iter_impacts(movements, settings) if impact]


def _region(arriving: np.ndarray, leaving: np.ndarray) -> Region:
    came, goes = ((float(one[0]), float(one[1])) for one in (arriving, leaving))
    return Region((0.2, 0.2, 0.4, 0.4), 0.02, came, goes, 0.0)


def _leaps(height: float, frames: int, count: int) -> list[tuple[float, float]]:
    """Return places of something that leaps again and again, standing still before and after."""
    share = np.arange(frames) / frames
    one = [(0.0, float(y)) for y in -4 * height * share * (1 - share)]
    return [(0.0, 0.0)] * 10 + one * count + [(0.0, 0.0)] * 10


def test_steps_are_heard_where_they_end_and_not_at_their_highest() -> None:
    """Leaps of a twentieth of the picture in 0.4 s: slower than a camera's shake of two pixels of 120."""
    found = _times(_leaps(0.05, 8, 4))
    assert found == [(10 + 8 * k) / FPS for k in (1, 2, 3, 4)]
    assert len(_times(_leaps(0.05, 8, 4), ImpactSettings(falls=0.0))) > 4  # the highest places, too


def test_what_is_faint_beside_a_blow_is_not_heard_and_alone_it_is() -> None:
    faint, blow = _leaps(0.02, 6, 1), _leaps(0.5, 16, 1)[10:]
    assert len(_times(faint)) == 1
    beside = _times(faint + blow)
    assert len(beside) == 1 and beside[0] > 1.5
    assert len(_times(faint + blow, ImpactSettings(beside=0.0))) == 2
    far = _times(faint + [(0.0, 0.0)] * 40 + blow)
    assert len(far) == 2


def test_frames_of_a_long_film_are_let_go() -> None:
    """Of what is undecided no pictures are kept but those of what may strike."""
    held: list[int] = []

    class Counted(Image.Image):
        def __init__(self) -> None:
            super().__init__()
            held.append(1)

        def __del__(self) -> None:
            held.append(-1)

    still = _region(np.zeros(2), np.zeros(2))
    frames = (Movement(k / FPS, 0.1, (0.0, 0.0), 0.0, (still,), Counted()) for k in range(200))
    most = max(sum(held) for _ in iter_impacts(frames))
    assert most < 20


def _heard(*movements: tuple[Region, float], settings: ImpactSettings | None = None) -> list[Impact]:
    """Return what is heard of frames with a region each and how much more there is to see than before."""
    frames = [
        Movement(k / FPS, 0.1, (0.0, 0.0), grown, (region,), PICTURE) for k, (region, grown) in enumerate(movements)
    ]
    return [impact for _, impact in iter_impacts(frames, settings) if impact]


def _thing(came: float = 0.0, goes: float = 0.0, *, share: float = 0.02, new: float = 0.0, left: float = 0.2) -> Region:
    return Region((left, 0.2, left + 0.2, 0.4), share, (0.0, came), (0.0, goes), new)


def test_what_is_suddenly_there_is_heard_if_it_is_large_and_more_than_was_there() -> None:
    quiet = [(_thing(), 0.0)] * 8
    (there,) = _heard(*quiet, (_thing(new=1.0, left=0.6), 0.6), *quiet)
    assert there.time == pytest.approx(8 / FPS) and there.strength == pytest.approx(0.6)
    assert there.box == (0.6, 0.2, 0.8, 0.4)
    assert not _heard(*quiet, (_thing(new=1.0), 0.2), *quiet)  # as much was there before
    assert not _heard(*quiet, (_thing(new=1.0, share=0.001), 0.6), *quiet)  # a speck
    assert not _heard(*quiet, (_thing(new=-1.0), 0.6), *quiet)  # it went


def test_a_speck_that_strikes_is_not_heard_and_neither_is_what_goes_on_along_its_way() -> None:
    came, quiet = [(_thing(1.0, 1.0), 0.0)] * 6, [(_thing(), 0.0)] * 8
    assert len(_heard(*came, (_thing(1.0, 0.0), 0.0), *quiet)) == 1
    speck = [(_thing(1.0, 1.0, share=0.0001), 0.0)] * 6
    still = [(_thing(share=0.0001), 0.0)] * 8
    assert not _heard(*speck, (_thing(1.0, 0.0, share=0.0001), 0.0), *still)
    slower = [(_thing(0.7, 0.7), 0.0)] * 8
    assert not _heard(*came, (_thing(1.0, 0.7), 0.0), *slower)


def test_speeds_of_another_place_say_nothing_of_a_thing() -> None:
    """A ball stops on the left; what runs on the right at its speed in the frame before is no part of it."""
    elsewhere = (_thing(-1.0, 1.0, left=0.7), 0.0)
    alone = _heard((_thing(), 0.0), (_thing(1.0, 0.0), 0.0), *[(_thing(), 0.0)] * 8)
    beside = _heard(elsewhere, (_thing(1.0, 0.0), 0.0), *[(_thing(), 0.0)] * 8)
    assert [one.strength for one in beside] == [one.strength for one in alone] != []


def test_of_two_equal_blows_in_a_tenth_of_a_second_one_is_heard() -> None:
    quiet, blow = [(_thing(), 0.0)] * 8, (_thing(1.0, -1.0), 0.0)
    alone = ImpactSettings(same=0.0, usual=0.0)
    assert len(_heard(*quiet, blow, quiet[0], blow, *quiet, settings=alone)) == 1
    assert len(_heard(*quiet, blow, *quiet[:3], blow, *quiet, settings=alone)) == 2


def test_what_shakes_all_the_time_is_not_heard() -> None:
    shaking = [(_thing(0.2, -0.2), 0.0), (_thing(-0.2, 0.2), 0.0)] * 8
    assert not _heard(*shaking, settings=ImpactSettings(same=0.0, usual=1.0))
    assert _heard(*shaking, settings=ImpactSettings(same=0.0, usual=0.0))
