"""What moves in a window is found, cut out and put on white."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from embedspace.encoders.contract import Encoders, MediaEncoder
from embedspace.encoders.film.moving import SIDE, _filled, _things, moving_things, smaller
from embedspace.encoders.film.pooled import FrameWindow, PooledConfig, PooledEncoder
from embedspace.errors import ConfigError
from tests.encoders.film.test_pooled import Colours

SIZE = (160, 120)
RED, WHITE = (230, 20, 20), (255, 255, 255)


def _wide(seed: int = 0) -> Image.Image:
    colours = np.random.default_rng(seed).integers(90, 170, (10, 12, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((SIZE[0] + 40, SIZE[1] + 40), Image.Resampling.BICUBIC)


def _frames(places: Sequence[tuple[int, int] | None], pan: int = 0, size: tuple[int, int] = SIZE) -> list[Image.Image]:
    """Return frames in which a red disc stands at some places, before a background that the camera passes."""
    made = []
    disc = Image.new("L", (30, 30), 0)
    disc.paste(255, (0, 0, 30, 30), Image.fromarray(_disc(30)))
    for number, place in enumerate(places):
        left = 20 + pan * (number - len(places) // 2)
        frame = _wide().crop((left, 20, left + SIZE[0], 20 + SIZE[1]))
        if place is not None:
            frame.paste(Image.new("RGB", (30, 30), RED), place, disc)
        made.append(frame.resize(size, Image.Resampling.BICUBIC))
    return made


def _disc(side: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    at = np.arange(side) - (side - 1) / 2
    return (np.hypot(at[:, None], at[None]) <= side / 2).astype(np.uint8) * 255


def _red(view: Image.Image) -> float:
    """Return the share of what is not white that is the disc's red."""
    pixels = np.asarray(view, np.int16)
    shown = np.abs(pixels - 255).max(axis=2) > 20
    return float((np.abs(pixels - RED).max(axis=2) < 60)[shown].mean())


@pytest.mark.parametrize("pan", [0, 2])
def test_a_thing_that_passes_is_shown_alone_on_white(pan: int) -> None:
    views = moving_things(_frames([(10 + 15 * k, 40) for k in range(8)], pan), 2)
    assert len(views) == 2
    for view in views:
        assert _red(view) > 0.8
        assert view.getpixel((0, 0)) == WHITE  # a margin
        assert 30 <= max(view.size) <= 60  # its size in the film, and the margin


def test_a_thing_that_rests_for_most_of_a_window_is_cut_out_of_what_stands_still() -> None:
    frames = _frames([(60, 40)] * 6 + [(10, 70), None])
    views = moving_things(frames, 2)
    assert len(views) == 2 and all(_red(view) > 0.7 for view in views)


def test_a_thing_that_is_seen_whole_comes_before_one_at_the_border() -> None:
    views = moving_things(_frames([(-16 + 14 * k, 40) for k in range(8)]), 8)
    sides = [view.width / view.height for view in views]
    assert len(views) == 8 and sides[0] == pytest.approx(1, abs=0.08) and sides[-1] < 0.75
    mostly_cut = [(-15, 5), (-15, 20), (-15, 40), (-15, 60), (-15, 80), (30, 10), (70, 60), (110, 30)]
    first = moving_things(_frames(mostly_cut), 3)
    assert [view.width / view.height for view in first] == pytest.approx([1, 1, 1], abs=0.08)


def test_frames_count_as_long_as_they_are_shown() -> None:
    """A disc is at one place in five moments of one picture, then at another in three."""
    at, *others = _frames([(20, 40), (110, 60), (110, 60), (110, 60)])
    assert len(moving_things([at] * 5 + others, 8)) == 3
    assert len(moving_things([at, *others, *_frames([(110, 60)] * 4)], 8)) == 1


def test_what_is_seen_through_a_thing_is_shown_with_it() -> None:
    frames = []
    for k in range(8):
        ring = Image.fromarray(_disc(40))
        ring.paste(0, (13, 13, 27, 27))
        frame = _frames([None])[0]
        frame.paste(Image.new("RGB", (40, 40), RED), (5 + 15 * k, 40), ring)
        frames.append(frame)
    (view,) = moving_things(frames, 1)
    assert max(view.getpixel((view.width // 2, view.height // 2))) < 200  # type: ignore[arg-type]


def test_of_a_camera_that_goes_far_nothing_is_left_to_compare() -> None:
    placed = np.stack([np.asarray(frame) for frame in _frames([(60 + 4 * k, 40) for k in range(8)])])
    behind = np.asarray(_frames([None])[0], float)
    assert len(_things(placed, behind, [(0, 0)] * 8)) == 8
    assert _things(placed, behind, [(0, 0)] * 7 + [(40, 0)]) == []


def test_holes_of_a_thing_are_its_own_and_a_bay_is_not() -> None:
    ring = np.zeros((9, 9), bool)
    ring[1:8, 1:8] = True
    ring[3:6, 3:6] = False
    whole = ring.copy()
    whole[3:6, 3:6] = True
    np.testing.assert_array_equal(_filled(ring), whole)
    ring[4, 6:] = False  # open to the right
    np.testing.assert_array_equal(_filled(ring), ring)


def test_views_are_as_large_as_the_film_shows_the_thing() -> None:
    frames = _frames([(10 + 15 * k, 40) for k in range(8)], size=(320, 240))
    assert 60 <= max(moving_things(frames, 1)[0].size) <= 110


def test_a_picture_among_the_frames_may_be_larger_than_they_are() -> None:
    frames = _frames([(10 + 15 * k, 40) for k in range(8)])
    alike = moving_things(frames, 1)
    frames[0] = frames[0].resize((480, 360))
    assert len(moving_things(frames, 1)) == 1
    assert moving_things(frames, 1)[0].size == alike[0].size


@pytest.mark.parametrize(
    "frames",
    [
        [],
        _frames([(10, 40)]),
        _frames([(10, 40)] * 8),
        [_frames([None])[0]] * 8,
        _frames([None] * 8, pan=2),  # the camera alone
        [Image.new("RGB", SIZE, colour) for colour in ("red", "blue", "green", "white", "black", "red")],  # cuts
        [Image.new("RGB", (1, 1)), Image.new("RGB", (1, 1), "white")] * 4,
    ],
    ids=["none", "one", "still", "one-object", "camera", "cuts", "one-pixel"],
)
def test_where_nothing_moves_by_itself_there_is_no_view(frames: list[Image.Image]) -> None:
    assert moving_things(frames, 2) == []


def test_images_are_made_no_larger() -> None:
    assert smaller(Image.new("RGB", (1280, 720))).size == (512, SIDE)
    small = Image.new("RGB", (100, 50))
    assert smaller(small) is small


def test_views_are_weighed_beside_the_frames() -> None:
    image, rows = Colours(), {}
    video = PooledEncoder(PooledConfig(views=2, view_weight=3.0))
    made: dict[str, MediaEncoder] = {"image": image, "video": video}
    video.join(Encoders(("image", "video"), made.__getitem__))
    frames = _frames([(10 + 15 * k, 40) for k in range(8)])
    window = video.prepare_views(video.prepare([image.prepare(frame) for frame in frames]), frames)
    assert len(window.views) == 2 and len(window.distinct) == 10
    rows = {key: image.encode([frame])[0] for key, frame in window.distinct.items()}
    whole, views = (np.mean([rows[id(one)] for one in some], axis=0) for some in (window.frames, window.views))
    expected = whole / np.linalg.norm(whole) + 3 * views / np.linalg.norm(views)
    np.testing.assert_allclose(video.pool([window], rows)[0], expected / np.linalg.norm(expected), atol=1e-6)
    plain = FrameWindow(window.frames)
    np.testing.assert_allclose(video.pool([plain], rows)[0], whole / np.linalg.norm(whole), atol=1e-6)


@pytest.mark.parametrize(("name", "value"), [("views", -1), ("views", 17), ("view_weight", -0.5)])
def test_what_no_window_can_have_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        PooledConfig(**{name: value})  # type: ignore[arg-type]
