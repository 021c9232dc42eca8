"""A small video for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

__all__ = ["write_video"]


def write_video(path: Path, seconds: float = 4.0, size: tuple[int, int] = (64, 48)) -> Path:
    """Write a video with a tone: red in its first half, blue in its second."""
    import av

    rate, sound_rate = 10, 16_000
    with av.open(path, "w") as container:
        track = container.add_stream("mpeg4", rate=rate)
        track.width, track.height, track.pix_fmt = *size, "yuv420p"
        heard = container.add_stream("pcm_s16le" if path.suffix == ".avi" else "aac", rate=sound_rate)
        heard.layout = "mono"
        for number in range(int(seconds * rate)):
            pixels = np.zeros((size[1], size[0], 3), np.uint8)
            pixels[..., 0 if number < seconds * rate / 2 else 2] = 230
            for packet in track.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")):
                container.mux(packet)
        tone = (np.sin(np.arange(int(seconds * sound_rate)) / 8) * 9000).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(tone[None], "s16", "mono")
        frame.sample_rate, frame.pts = sound_rate, 0
        resampler = av.AudioResampler("s16", "mono", sound_rate, frame_size=1024)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            for packet in heard.encode(part):
                container.mux(packet)
        for one in (track, heard):
            for packet in one.encode(None):
                container.mux(packet)
    return path
