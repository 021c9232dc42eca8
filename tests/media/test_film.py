"""What is seen at moments of a video, whatever its frame rate, its stamps and its damage."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from embedspace.errors import EmptyMediaError, MediaError, MediaTooLargeError
from embedspace.media.film import Film, Moment, iter_moments
from embedspace.media.video import EvenTimes, OpenVideo, iter_frames

TICKS = 1000


def _write(path: Path, frames: Sequence[tuple[float, int]], size: tuple[int, int] = (64, 48), gop: int = 12) -> Path:
    """Write (second, grey level) frames at any times."""
    with av.open(str(path), "w") as container:
        track = container.add_stream("mpeg4", rate=25)
        track.width, track.height, track.pix_fmt, track.gop_size = *size, "yuv420p", gop
        track.time_base = track.codec_context.time_base = Fraction(1, TICKS)
        for at, level in frames:
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), level, np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(at * TICKS), Fraction(1, TICKS)
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return path


def _steps(seconds: float, fps: float, level: int = 0) -> list[tuple[float, int]]:
    """Return frames that get brighter by a step every half second."""
    return [(k / fps, level + 16 * int(2 * k / fps)) for k in range(round(seconds * fps))]


def _levels(moments: Sequence[Moment]) -> list[int]:
    """Return the grey levels seen at each moment, in steps of 16."""
    seen, last = [], -1
    for moment in moments:
        last = last if moment.image is None else round(float(np.asarray(moment.image).mean()) / 16)
        seen.append(last)
    return seen


@pytest.mark.parametrize("fps", [2, 12.5, 30, 250, 1000])
def test_moments_come_at_even_times_at_any_frame_rate(fps: float, tmp_path: Path) -> None:
    film = Film()
    moments = list(iter_moments(_write(tmp_path / "a.mkv", _steps(3, fps)), film, per_second=4, still=0.02))
    wanted = 4 if fps > 4 else fps
    assert [m.start for m in moments] == pytest.approx([k / wanted for k in range(round(3 * wanted))], abs=1 / fps)
    assert _levels(moments) == [int(2 * moment.start + 1e-3) for moment in moments]
    assert [m.start for m in moments if m.image is not None] == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5], abs=1 / fps)
    assert film.seconds == pytest.approx(3, abs=0.05 + 1 / fps)


def test_uneven_frames_are_seen_when_they_are_shown(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.9, 1.0, 7.3, 7.31, 20.0]
    path = _write(tmp_path / "a.mkv", [(at, 30 * k) for k, at in enumerate(times)])
    film = Film()
    moments = list(iter_moments(path, film, per_second=4, picture_seconds=10))
    assert [m.start for m in moments] == pytest.approx([0.0, 0.9, 1.0, 7.3, 20.0], abs=2e-3)
    assert [m.start for m in moments if m.is_picture] == pytest.approx([0.0, 20.0], abs=2e-3)


def test_pictures_are_the_frames_that_iter_frames_gives_and_others_are_smaller(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.mp4", _steps(5, 10), size=(96, 64))
    moments = list(iter_moments(path, Film(), per_second=4, picture_seconds=2, side=32))
    for (start, _, image), moment in zip(iter_frames(path, 2.0), [m for m in moments if m.is_picture], strict=True):
        assert start == moment.start and moment.image is not None
        assert np.array_equal(np.asarray(image), np.asarray(moment.image))
    assert {m.image.size for m in moments if m.image and not m.is_picture} == {(48, 32)}
    assert _levels(moments) == [int(2 * moment.start + 1e-3) for moment in moments]


def test_what_does_not_move_is_looked_at_once(tmp_path: Path) -> None:
    still = list(
        iter_moments(_write(tmp_path / "a.mp4", [(k / 10, 90) for k in range(100)]), Film(), per_second=4, still=0.02)
    )
    assert len(still) == 40 and [m.image is not None for m in still] == [True] + 39 * [False]
    slow = [(k / 10, 90 + k) for k in range(100)]  # each step is too small, all together are not
    seen = list(iter_moments(_write(tmp_path / "b.mp4", slow), Film(), per_second=4, still=0.02))
    assert 10 <= sum(m.image is not None for m in seen) < 30


def test_one_frame_is_a_moment(tmp_path: Path) -> None:
    film = Film()
    (moment,) = iter_moments(_write(tmp_path / "a.mp4", [(0.0, 90)]), film, per_second=4)
    assert moment.start == 0.0 and moment.is_picture and 0 < film.seconds < 1.1


def test_damage_in_the_middle_costs_what_is_damaged(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.mkv", _steps(6, 10), gop=5)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle - 150 : middle + 150] = np.random.default_rng(0).bytes(300)
    path.write_bytes(content)
    film = Film()
    moments = list(iter_moments(path, film, per_second=4))
    assert film.seconds > 5.5 and moments[-1].start > 5.0
    assert len(moments) >= 11  # of 24; on one core, where fewer threads decode, 11, else 12 or more


def test_limits_and_what_is_no_video(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.mp4", _steps(1, 10))
    with pytest.raises(MediaTooLargeError, match=r"a\.mp4: 64 x 48 pixels a frame, at most 1,000 are read"):
        list(iter_moments(path, Film(), per_second=4, max_pixels=1000))
    with pytest.raises(ValueError, match="positive"):
        EvenTimes(0.0)
    broken = tmp_path / "b.mp4"
    broken.write_bytes(path.read_bytes()[:300])
    with pytest.raises(MediaError, match=r"b\.mp4: ") as caught:
        list(iter_moments(broken, Film(), per_second=4))
    assert "\n" not in str(caught.value)
    sound = tmp_path / "c.mkv"
    with av.open(str(sound), "w") as container:
        track = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        block = av.AudioFrame.from_ndarray(np.ones((1, 800), np.int16), format="s16", layout="mono")
        block.sample_rate = 8000
        container.mux(track.encode(block))
        container.mux(track.encode(None))
    with pytest.raises(EmptyMediaError, match=r"c\.mkv: has no pictures"):
        list(iter_moments(sound, Film(), per_second=4))


class _Frame:
    duration = None

    def __init__(self, time: float | None) -> None:
        self.time = time


class _Track:
    average_rate = Fraction(10)


class _Container:
    duration = 60_000_000


@pytest.mark.parametrize(
    ("stamps", "times"),
    [
        ([5.0, 5.1, 5.2], [0.0, 0.1, 0.2]),
        ([None, None, None], [0.0, 0.1, 0.2]),
        ([0.0, None, 0.2, None], [0.0, 0.1, 0.2, 0.3]),
        ([0.0, 0.1, 95_443.7, 95_443.8], [0.0, 0.1, 0.2, 0.3]),  # a leap beyond the declared end
        ([0.0, 30.0, 59.9], [0.0, 30.0, 59.9]),  # a slide show
        ([8.0, 8.1, 0.0, 0.1], [0.0, 0.1, 0.2, 0.3]),  # two recordings joined
        ([0.0, 0.3, 0.2, 0.4], [0.0, 0.3, 0.3, 0.4]),
    ],
)
def test_broken_stamps_are_mended(stamps: list[float | None], times: list[float]) -> None:
    video = OpenVideo(_Container(), _Track(), "a.ts")
    found: NDArray[np.float64] = np.array([video._time(_Frame(stamp)) for stamp in stamps])
    np.testing.assert_allclose(found, times, atol=1e-6)


def test_a_phone_video_is_upright_in_every_size(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.mp4", _steps(2, 10), size=(64, 48))
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44  # ISO 14496-12, 8.3.2: a quarter turn clockwise
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    moments = list(iter_moments(path, Film(), per_second=4, side=24))
    assert [m.image.size for m in moments if m.image] == [(48, 64)] + (len(moments) - 1) * [(24, 32)]
