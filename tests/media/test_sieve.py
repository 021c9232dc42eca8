"""Frames that nobody wants are not decoded, and those that somebody wants are the same, bit by bit."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from embedspace.media import film, video
from embedspace.media.film import Film, Moment, iter_moments

SIZE = (96, 64)
ENCODED = {"libx264": {"preset": "superfast"}, "mpeg4": {"bf": "2", "g": "50"}}


def write(path: Path, times: list[float], codec: str = "libx264", first: float = 0.0) -> Path:
    """Write a film with frames that are predicted from both sides, at these seconds."""
    wall = np.kron(np.random.default_rng(0).integers(60, 200, (8, 24, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    with av.open(str(path), "w") as made:
        track: Any = made.add_stream(codec, rate=25, options=ENCODED[codec])
        track.width, track.height, track.pix_fmt = *SIZE, "yuv420p"
        track.time_base = track.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(times):
            pixels = np.ascontiguousarray(np.roll(wall, number, axis=1)[:, : SIZE[0]])
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = round(1000 * (first + time)), Fraction(1, 1000)
            made.mux(track.encode(frame))
        made.mux(track.encode(None))
    return path


def moments(path: Path, monkeypatch: pytest.MonkeyPatch, *, sieved: bool) -> tuple[list[Moment], float, int]:
    decoded = 0
    plain = video._decoded

    def counted(container: Any, track: Any, sieve: Any) -> Any:
        nonlocal decoded
        for frame in plain(container, track, sieve if sieved else None):
            decoded += 1
            yield frame

    read = Film()
    with monkeypatch.context() as patch:
        patch.setattr(video, "_decoded", counted)
        found = list(iter_moments(path, read, per_second=4.0, picture_seconds=2.0, still=0.03))
    return found, read.seconds, decoded


def same(first: list[Moment], second: list[Moment]) -> bool:
    def facts(found: list[Moment]) -> list[Any]:
        return [(m.start, m.is_picture, None if m.image is None else m.image.tobytes()) for m in found]

    return facts(first) == facts(second)


@pytest.mark.parametrize("fps", [3, 24, 25, 29.97, 60])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_moments_are_the_same_whatever_is_left_out(
    codec: str, fps: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.mkv", [k / fps for k in range(round(7 * fps))], codec)
    whole, sieved = moments(path, monkeypatch, sieved=False), moments(path, monkeypatch, sieved=True)
    assert same(whole[0], sieved[0]) and whole[1] == sieved[1]
    if fps > 20:
        assert sieved[2] < 0.85 * whole[2], (sieved[2], whole[2])


def test_uneven_and_shifted_stamps_keep_their_moments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = np.cumsum(np.random.default_rng(1).uniform(0.01, 0.12, 150)).tolist()
    path = write(tmp_path / "a.mkv", times, first=7.5)
    whole, sieved = moments(path, monkeypatch, sieved=False), moments(path, monkeypatch, sieved=True)
    assert same(whole[0], sieved[0]) and sieved[2] < whole[2]


def test_where_stamps_leap_every_frame_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = [k / 25 + (20.0 if k >= 60 else 0.0) for k in range(200)]
    path = write(tmp_path / "a.mkv", times)
    whole, sieved = moments(path, monkeypatch, sieved=False), moments(path, monkeypatch, sieved=True)
    assert same(whole[0], sieved[0])


def test_pictures_at_other_times_than_moments_need_every_frame() -> None:
    assert film._step(4.0, 10.0) == 0.25 and film._step(4.0, float("inf")) == 0.25
    assert film._step(4.0, 0.3) is None


def test_a_film_shorter_than_what_is_known_ahead_is_decoded_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.mkv", [k / 25 for k in range(20)])
    assert moments(path, monkeypatch, sieved=True)[2] == 20
