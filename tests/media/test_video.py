from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from embedspace.errors import EmptyMediaError, MediaError, MediaTooLargeError
from embedspace.media.audio import load_audio
from embedspace.media.video import iter_frames


def _film(path: Path, seconds: int, *, sound: bool = True, codec: str = "mpeg4", fps: int = 10) -> Path:
    """Grey level = 4 x the second; the sound is 500 Hz."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=fps)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("aac" if path.suffix != ".webm" else "libopus", rate=48000, layout="mono")
        for index in range(seconds * fps):
            pixels = np.full((48, 64, 3), 4 * (index // fps), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound:
            wave = 0.5 * np.sin(2 * np.pi * 500 * np.arange(48000 * seconds) / 48000)
            block = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
            block.sample_rate = 48000
            container.mux(audio.encode(block))
            container.mux(audio.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".mov"])
def test_iter_frames_at_even_times(suffix: str, tmp_path: Path) -> None:
    frames = list(iter_frames(_film(tmp_path / f"a{suffix}", 6), 2.0))
    assert [time for time, _, _ in frames] == pytest.approx([0.0, 2.0, 4.0], abs=0.11)
    for time, _, image in frames:
        assert image.size == (64, 48) and image.mode == "RGB"
        assert abs(np.asarray(image).mean() - 4 * int(time + 0.05)) < 3


def test_iter_frames_seeks_over_long_gaps(tmp_path: Path) -> None:
    frames = list(iter_frames(_film(tmp_path / "long.mp4", 50), 20.0))
    assert [time for time, _, _ in frames] == pytest.approx([0.0, 20.0, 40.0], abs=0.11)
    assert [end for _, end, _ in frames] == pytest.approx([20.0, 40.0, 50.0], abs=0.11)
    assert [round(np.asarray(image).mean() / 4) for _, _, image in frames] == [0, 20, 40]


def test_iter_frames_short_film_gives_its_first_frame(tmp_path: Path) -> None:
    assert [time for time, _, _ in iter_frames(_film(tmp_path / "a.mp4", 1), 60.0)] == [0.0]


def test_video_sound_loads_as_audio(tmp_path: Path) -> None:
    audio = load_audio(_film(tmp_path / "a.mp4", 2), sample_rate=16000)
    assert abs(audio.seconds - 2.0) < 0.1
    assert int(np.abs(np.fft.rfft(audio.waveform[8000:24000])).argmax()) == 500


def test_iter_frames_turns_phone_videos_upright(tmp_path: Path) -> None:
    path = _film(tmp_path / "a.mp4", 1, sound=False)
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, :32, 0] = 255  # red on the left
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode(None))
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44  # ISO 14496-12, 8.3.2: a quarter turn clockwise
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    _, _, image = next(iter_frames(path, 1.0))
    assert image.size == (48, 64)
    upright = np.asarray(image)
    assert upright[4, 24, 0] > 200 and upright[60, 24, 0] < 60  # left has become top


def test_video_without_sound_says_so(tmp_path: Path) -> None:
    path = tmp_path / "mute.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(video.encode(None))
    with pytest.raises(EmptyMediaError, match=r"mute\.mp4: has no sound track"):
        load_audio(path)


def test_damaged_video_is_one_clear_error_or_its_good_part(tmp_path: Path) -> None:
    whole = _film(tmp_path / "a.mkv", 6).read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole[: len(whole) // 2])
    assert next(iter_frames(cut, 1.0))[0] == 0.0
    for head in (b"\0" * 4000, whole[:64], whole[:3]):
        cut.write_bytes(head)
        with pytest.raises(MediaError, match=r"cut\.mkv: ") as caught:
            list(iter_frames(cut, 1.0))
        assert "\n" not in str(caught.value)
    with pytest.raises(MediaError, match="no such file"):
        list(iter_frames(tmp_path / "missing.mp4", 1.0))


def test_iter_frames_limits(tmp_path: Path) -> None:
    path = _film(tmp_path / "a.mp4", 1)
    with pytest.raises(MediaTooLargeError, match="64 x 48"):
        list(iter_frames(path, 1.0, max_pixels=1000))
    with pytest.raises(ValueError, match="positive"):
        list(iter_frames(path, 0.0))
