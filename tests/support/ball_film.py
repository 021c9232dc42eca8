"""A film of a ball that hits the ground at known times before a patterned wall, for tests."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw

__all__ = ["HITS", "ball", "write_film"]

RATE = 48_000
HITS = (0.8, 1.6, 2.4)
SIZE = (160, 120)


def _height(t: float) -> float:
    """Return how high a ball is that hits the ground at HITS, in picture heights."""
    last = max((hit for hit in (0.0, *HITS) if hit <= t), default=0.0)
    following = next((hit for hit in HITS if hit > t), None)
    if following is None:
        return 0.0
    share = (t - last) / (following - last)
    return 4 * 0.4 * share * (1 - share)


def ball(t: float, pan: int = 0, x: int = 40) -> Image.Image:
    """Return the picture of a second; `pan` moves the camera, `x` is where the ball is in pixels."""
    rng = np.random.default_rng(3)
    wall = np.kron(rng.integers(90, 200, (20, 30)), np.ones((10, 10))).astype(np.uint8)
    picture = Image.fromarray(wall).convert("RGB").crop((40 + pan, 20, 40 + pan + SIZE[0], 20 + SIZE[1]))
    y = 90 - 120 * _height(t)
    ImageDraw.Draw(picture).ellipse((x - 16 - pan, y - 16, x + 16 - pan, y + 16), fill=(220, 20, 20), outline=(0, 0, 0))
    return picture


def write_film(
    path: Path,
    picture: Callable[[float], Image.Image],
    *,
    fps: float = 25,
    seconds: float = 3.0,
    codec: str = "mpeg4",
    sound: float = 0.0,
) -> Path:
    """Write pictures of seconds at any frame rate, with a tone where `sound` is its loudness."""
    with av.open(str(path), "w") as made:
        track = made.add_stream(codec, rate=25)
        size = picture(0).size
        track.width, track.height, track.pix_fmt, track.bit_rate = *size, "yuv420p", 3_000_000
        track.time_base = track.codec_context.time_base = Fraction(1, 1000)
        heard = made.add_stream("aac", rate=RATE, layout="stereo") if sound else None
        for k in range(round(seconds * fps)):
            frame = av.VideoFrame.from_image(picture(k / fps))
            frame.pts, frame.time_base = round(1000 * k / fps), Fraction(1, 1000)
            made.mux(track.encode(frame))
        made.mux(track.encode(None))
        if heard is not None:
            wave = np.full((2, round(seconds * RATE)), 0.0, np.float32)
            wave += (sound * np.sin(np.arange(wave.shape[1]) * 2 * np.pi * 300 / RATE)).astype(np.float32)
            block = av.AudioFrame.from_ndarray(wave, format="fltp", layout="stereo")
            block.sample_rate = RATE
            made.mux(heard.encode(block))
            made.mux(heard.encode(None))
    return path
