"""One rendered clip: things that move before a background, seen by a camera, and what is heard of it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from embedspace.media.image import open_image
from training.corpora.video.motions import Motion

__all__ = ["FPS", "RATE", "SECONDS", "SIZE", "Thing", "frames_of", "sound_of", "write_clip"]

SECONDS, FPS = 4.0, 20
SIZE = (160, 120)
RATE = 16_000
_THING = 44
"""Longest side of a thing in pixels."""
_MARGIN = 12
"""Pixels that the camera may move aside."""


@dataclass(frozen=True, slots=True)
class Thing:
    """What moves in a clip.

    Attributes:
        picture: RGBA.
        motion: How; a thing that is not heard has no events.
    """

    picture: Image.Image
    motion: Motion


def frames_of(things: Sequence[Thing], rng: np.random.Generator, *, camera: bool) -> list[Image.Image]:
    """Return the frames of a clip, RGB of `SIZE`: things in order before a background of soft colours, with grain.

    Args:
        things: The ones behind first.
        rng: Draws background, grain and the camera's way.
        camera: Whether it moves.
    """
    width, height = SIZE[0] + 2 * _MARGIN, SIZE[1] + 2 * _MARGIN
    colours = rng.integers(70, 230, 3) + rng.normal(0, 30, (4, 5, 3))
    wide = Image.fromarray(colours.clip(0, 255).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    grain = [Image.fromarray(rng.integers(0, 5, SIZE[::-1], np.uint8)).convert("RGB") for _ in range(4)]
    count = round(SECONDS * FPS)
    pan = _pan(count, rng) if camera else np.zeros((count, 2), int)
    made = []
    for index in range(count):
        left, top = _MARGIN + pan[index, 0], _MARGIN + pan[index, 1]
        frame = wide.crop((left, top, left + SIZE[0], top + SIZE[1]))
        for thing in things:
            _paste(frame, thing, index, pan[index])
        made.append(ImageChops.add(frame, grain[index % 4], offset=-2))
    return made


def _pan(count: int, rng: np.random.Generator) -> NDArray[np.int_]:
    """Return (count, 2) pixels by which the camera is aside: it drifts and shakes a little."""
    t = np.arange(count) / count
    ways = [_MARGIN * 0.6 * np.sin(2 * np.pi * (rng.uniform(0.2, 1.2) * t + rng.uniform())) for _ in range(2)]
    return np.rint(np.stack(ways, axis=1) + rng.normal(0, 0.4, (count, 2))).astype(int).clip(-_MARGIN, _MARGIN)


def _paste(frame: Image.Image, thing: Thing, index: int, pan: NDArray[np.int_]) -> None:
    motion = thing.motion
    if motion.size[index] <= 0:
        return
    picture = thing.picture
    if motion.size[index] < 1:
        picture = picture.resize([max(1, round(side * motion.size[index])) for side in picture.size])  # type: ignore[arg-type]
    if abs(motion.turn[index]) >= 1:
        picture = picture.rotate(-motion.turn[index], expand=True)
    left = round(motion.x[index] * SIZE[0] - picture.width / 2) - int(pan[0])
    top = round(motion.y[index] * SIZE[1] - picture.height * 0.7) - int(pan[1])
    frame.paste(picture, (left, top), picture)


def thing_picture(path: Path) -> Image.Image:
    """Return a picture as a thing: RGBA, cut to what is not transparent, as large as things are."""
    with open_image(path) as opened:
        picture = opened.convert("RGBA")
    box = picture.getchannel("A").getbbox()
    picture = picture.crop(box) if box else picture
    picture.thumbnail((_THING, _THING))
    return picture


def sound_of(
    motion: Motion, effect: NDArray[np.float32], rng: np.random.Generator, noise: float
) -> NDArray[np.float32]:
    """Return what is heard of a motion, (SECONDS * RATE,) float32 in [-1, 1].

    Args:
        motion: Its events, or its hum.
        effect: The sound of one event at `RATE`, begun without silence; for a hum it is repeated.
        rng: Draws the noise.
        noise: Its root mean square.
    """
    wave = (noise * rng.standard_normal(round(SECONDS * RATE))).astype(np.float32)
    for at, loudness in motion.events:
        start = round(at * RATE)
        part = effect[: max(len(wave) - start, 0)]
        wave[start : start + len(part)] += loudness * part
    if len(motion.hum):
        loud = np.interp(np.arange(len(wave)) / RATE, np.arange(len(motion.hum)) / FPS, motion.hum)
        wave += (loud * np.resize(effect, len(wave))).astype(np.float32)
    peak = float(np.abs(wave).max(initial=1e-6))
    levelled: NDArray[np.float32] = wave * np.float32(min(0.9 / peak, 1.0))
    return levelled


def write_clip(path: Path, frames: Sequence[Image.Image], wave: NDArray[np.float32], fps: int = FPS) -> None:
    """Write a clip as MP4: H.264 and AAC at `RATE`, whole or not at all."""
    import av

    made = io.BytesIO()
    with av.open(made, "w", format="mp4") as container:
        options = {"preset": "ultrafast", "crf": "26", "threads": "1"}
        seen: Any = container.add_stream("libx264", rate=fps, options=options)
        seen.width, seen.height, seen.pix_fmt = *frames[0].size, "yuv420p"
        heard: Any = container.add_stream("aac", rate=RATE, layout="mono")
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_image(image)
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(seen.encode(frame))
        block = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        block.sample_rate = RATE
        container.mux(heard.encode(block))
        for track in (seen, heard):
            container.mux(track.encode(None))
    partial = path.with_suffix(".partial")
    partial.write_bytes(made.getvalue())
    partial.replace(path)
