"""Drawn faces: an ellipse with hair, eyes, nose and a mouth of eight numbers, under a light, moving a little.

All pictures of a clip are painted at once, and any window of them can be painted alone: training sees only mouths.
Face coordinates have their origin between eyes and mouth; the chin of a closed mouth lies at (0, 1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOUTH_AT", "Look", "Pose", "draw", "draw_look", "draw_pose", "mouth_places"]

Array = NDArray[Any]
"""Of floats; what is painted stays in single precision."""
Colour = Callable[[Array], Array]
"""(3,) -> the channels that are painted."""
MOUTH_AT = 0.52
"""Height of the mouth in face coordinates."""
_LUMA = np.array([[0.299], [0.587], [0.114]], np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What a person looks like; colours are (3,) in [0, 1]."""

    skin: Array
    lips: Array
    hair: Array
    cloth: Array
    eyes: Array
    width: float
    mouth: float
    upper: float
    lower: float
    beard: float
    moustache: float
    teeth: float
    fringe: float
    nose: float
    effort: float


def draw_look(rng: np.random.Generator) -> Look:
    """Return a person: skins from very light to very dark, lips of other redness, hair, beards."""
    depth = rng.uniform(0, 1)
    light, dark = np.array([0.96, 0.80, 0.70]), np.array([0.36, 0.23, 0.16])
    skin = light + depth * (dark - light) + rng.normal(0, 0.02, 3)
    lips = skin * np.array([0.92, 0.62, 0.62]) * rng.uniform(0.75, 1.0)
    if rng.random() < 0.25:
        lips = np.array([rng.uniform(0.5, 0.8), rng.uniform(0.1, 0.25), rng.uniform(0.15, 0.3)])
    hair = np.array([0.75, 0.6, 0.35]) * rng.uniform(0.1, 1.0) + rng.normal(0, 0.02, 3)
    cloth = rng.uniform(0.1, 0.7, 3) * np.array([0.6, 0.9, 1.0])  # nothing that looks like skin
    bearded = rng.random() < 0.25
    return Look(
        *(np.clip(one, 0.02, 0.98).astype(np.float32) for one in (skin, lips, hair, cloth)),
        eyes=np.asarray(rng.uniform(0.05, 0.4, 3), np.float32),
        width=float(rng.uniform(0.68, 0.82)),
        mouth=float(rng.uniform(0.23, 0.31)),
        upper=float(rng.uniform(0.035, 0.075)),
        lower=float(rng.uniform(0.05, 0.095)),
        beard=float(rng.uniform(0.2, 0.8) if bearded else 0.0),
        moustache=float(rng.uniform(0.2, 0.8) if bearded and rng.random() < 0.7 else 0.0),
        teeth=float(rng.uniform(0.75, 0.97)),
        fringe=float(rng.uniform(-0.75, -0.5)),
        nose=float(rng.uniform(0.8, 1.2)),
        effort=float(rng.uniform(0.75, 1.15)),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """Where the head is and how it is lit, one row a picture.

    Attributes:
        x: (T,) centre, in picture heights.
        y: (T,).
        scale: (T,) picture heights per unit of the face.
        roll: (T,) radians.
        yaw: (T,) turn to the side, -1 to 1.
        light: (T,) brightness.
        side: Direction of the light: (2,).
        wall: (3,) colour behind, and its change from side to side.
        slope: As `wall`.
    """

    x: Array
    y: Array
    scale: Array
    roll: Array
    yaw: Array
    light: Array
    side: Array
    wall: Array
    slope: Array


def _wander(rng: np.random.Generator, frames: int, size: float) -> Array:
    """Return a slow random way about 0, (frames,)."""
    t = np.arange(frames) / 25
    way = sum(
        rng.normal(0, 1) / k * np.sin(2 * np.pi * (k * rng.uniform(0.1, 0.35) * t + rng.random())) for k in (1, 2, 3)
    )
    return np.asarray(size * way, np.float32)


def draw_pose(rng: np.random.Generator, frames: int) -> Pose:
    """Return a head's motion and light."""
    scale = rng.uniform(0.26, 0.36)
    angle = rng.uniform(0, 2 * np.pi)
    wall = rng.uniform(0.05, 0.9) * np.array([rng.uniform(0.5, 0.85), rng.uniform(0.8, 1.0), rng.uniform(0.85, 1.0)])
    return Pose(
        (rng.uniform(0.42, 0.58) + _wander(rng, frames, 0.015)).astype(np.float32),
        (rng.uniform(0.44, 0.52) + _wander(rng, frames, 0.01)).astype(np.float32),
        (scale * (1 + _wander(rng, frames, 0.015))).astype(np.float32),
        (rng.normal(0, 0.05) + _wander(rng, frames, 0.025)).astype(np.float32),
        (rng.normal(0, 0.15) + _wander(rng, frames, 0.1)).astype(np.float32),
        (rng.uniform(0.7, 1.15) + _wander(rng, frames, 0.02)).astype(np.float32),
        np.asarray(rng.uniform(0, 0.35) * np.array([np.cos(angle), np.sin(angle)]), np.float32),
        wall.astype(np.float32),
        (wall * rng.uniform(-0.4, 0.4)).astype(np.float32),
    )


def mouth_places(pose: Pose) -> Array:
    """Return the middle of the mouth in every picture, (T, 2) in picture heights."""
    x, y = 0.12 * pose.yaw, np.full_like(pose.yaw, MOUTH_AT)
    c, s = np.cos(pose.roll), np.sin(pose.roll)
    return np.stack([pose.x + pose.scale * (c * x - s * y), pose.y + pose.scale * (s * x + c * y)], axis=1)


def draw(
    look: Look, pose: Pose, mouth: Array, windows: Array, side: int, *, grey: bool, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Paint a window of every picture.

    Args:
        look: The person.
        pose: T rows.
        mouth: (T, 8), the numbers of `mouths.NUMBERS`.
        windows: (T, 3) middle (x, y) and half of the side, in picture heights.
        side: Pixels a side.
        grey: One channel, the luma, in place of three.
        rng: Draws the noise of the camera.

    Returns:
        (T, side, side) or (T, side, side, 3) uint8.
    """
    grid = (np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1
    image_x = windows[:, 0, None, None] + windows[:, 2, None, None] * grid[None, None, :]
    image_y = windows[:, 1, None, None] + windows[:, 2, None, None] * grid[None, :, None]
    scale = pose.scale[:, None, None]
    dx, dy = (image_x - pose.x[:, None, None]) / scale, (image_y - pose.y[:, None, None]) / scale
    c, s = np.cos(pose.roll)[:, None, None], np.sin(pose.roll)[:, None, None]
    x, y = c * dx + s * dy, -s * dx + c * dy
    sharp = 0.5 * side * pose.scale[:, None, None] / windows[:, 2, None, None]  # pixels per unit of the face

    def colour(rgb: Array) -> Array:
        return rgb @ _LUMA if grey else rgb

    canvas = colour(pose.wall) + (image_x - 0.5)[..., None] * colour(pose.slope)
    canvas = np.broadcast_to(canvas, (*x.shape, canvas.shape[-1])).astype(np.float32)
    canvas = _head(canvas, look, pose, mouth, x, y, sharp, colour)
    canvas = _mouth(canvas, look, mouth, x - 0.12 * pose.yaw[:, None, None], y - MOUTH_AT, sharp, colour)
    lit = pose.light[:, None, None] * (1 + pose.side[0] * x + pose.side[1] * y)
    canvas = canvas * lit[..., None]
    canvas += rng.normal(0, rng.uniform(0.003, 0.02), (1, *canvas.shape[1:])).astype(np.float32)
    if grey:
        canvas += rng.standard_normal(canvas.shape, np.float32) * np.float32(rng.uniform(0, 0.02))
    pixels = (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)
    return pixels[..., 0] if grey else pixels


def _paint(canvas: Array, inside: Array, colour: Array) -> Array:
    """Lay a colour over the canvas where `inside` (T, H, W) is 1; it is clipped to 0 and 1."""
    share = np.clip(inside, 0, 1)[..., None]
    painted: Array = canvas + share * (colour - canvas)
    return painted


def _ellipse(x: Array, y: Array, a: float | Array, b: float | Array, sharp: Array) -> Array:
    """Return how far inside an ellipse about the origin each pixel is, in pixels, 0.5 on its edge."""
    radius = np.sqrt((x / a) ** 2 + (y / b) ** 2)
    return (1 - radius) * np.minimum(a, b) * sharp + 0.5


def _head(
    canvas: Array, look: Look, pose: Pose, mouth: Array, x: Array, y: Array, sharp: Array, colour: Colour
) -> Array:
    jaw = mouth[:, 0, None, None]
    canvas = _paint(canvas, _ellipse(x, y + 0.2, look.width * 1.15, 1.05, sharp), colour(look.hair))
    canvas = _paint(canvas, _ellipse(x, y - 1.75, look.width * 1.6, 0.75, sharp), colour(look.cloth))
    canvas = _paint(canvas, _ellipse(x, y - 0.9, 0.38, 0.5, sharp), colour(look.skin * 0.8))
    longer = np.where(y > 0, y / (1 + 0.1 * jaw), y)
    skin = _ellipse(x, longer, look.width, 1.0, sharp)
    canvas = _paint(canvas, skin, colour(look.skin))
    shade = np.clip(1 - 0.25 * (x / look.width) ** 2, 0, 1)[..., None]
    canvas = canvas * np.where(np.clip(skin, 0, 1)[..., None] > 0.5, shade, 1)
    if look.beard:
        low = np.clip((longer - 0.42) * 6, 0, 1) * look.beard * np.clip(skin, 0, 1)
        canvas = _paint(canvas, low, colour(look.hair))
    if look.moustache:
        over = _ellipse(x - 0.12 * pose.yaw[:, None, None], y - 0.36, 0.26, 0.06, sharp)
        canvas = _paint(canvas, np.clip(over, 0, 1) * look.moustache, colour(look.hair))
    canvas = _paint(canvas, _ellipse(x, y + 0.95, look.width, 0.95 + look.fringe + 0.2, sharp), colour(look.hair))
    turn = 0.15 * pose.yaw[:, None, None]
    nose = _ellipse(x - 1.5 * turn, y - 0.2, 0.11 * look.nose, 0.07, sharp)
    canvas = _paint(canvas, np.clip(nose, 0, 1) * 0.5, colour(look.skin * 0.7))
    for at in (-0.3, 0.3):
        there = x - at - turn
        canvas = _paint(canvas, _ellipse(there, y + 0.15, 0.12, 0.065, sharp), colour(np.full(3, 0.93, np.float32)))
        canvas = _paint(canvas, _ellipse(there, y + 0.15, 0.055, 0.06, sharp), colour(look.eyes))
        canvas = _paint(canvas, _ellipse(there, y + 0.33, 0.16, 0.03, sharp), colour(look.hair * 0.8))
    return canvas


def _mouth(canvas: Array, look: Look, mouth: Array, x: Array, y: Array, sharp: Array, colour: Colour) -> Array:
    jaw, apart, wide, rounded, teeth, tongue, press, tuck = (mouth[:, k, None, None] for k in range(8))
    half = look.mouth * (0.82 + 0.36 * wide - 0.38 * rounded)
    y = y - 0.05 * jaw  # the jaw takes the middle of the mouth down
    up, down = 0.11 * apart, 0.06 * apart + 0.13 * np.minimum(jaw, apart)
    bow = np.clip(1 - (x / half) ** 2, 0, 1)
    bow = bow ** (0.5 + 0.5 * (1 - rounded))  # rounded lips make a fuller opening
    inner_top, inner_low = -up * bow, down * bow
    thick = 1 + 0.35 * rounded - 0.6 * press
    lip = np.clip(1 - (x / (half * 1.06)) ** 2, 0, 1) ** 0.6
    outer_top = inner_top - look.upper * thick * lip * (1 - 0.18 * np.exp(-((x / 0.05) ** 2)))
    outer_low = inner_low + look.lower * thick * (1 - 0.55 * tuck) * lip
    within = (np.abs(x) < half * 1.06).astype(np.float32)

    def between(top: Array, low: Array) -> Array:
        return np.clip((y - top) * sharp + 0.5, 0, 1) * np.clip((low - y) * sharp + 0.5, 0, 1) * within

    under = np.exp(-(((y - outer_low - 0.05) / 0.04) ** 2)) * 0.25 * within
    canvas = _paint(canvas, under, colour(look.skin * 0.55))
    canvas = _paint(canvas, between(outer_top, outer_low), colour(look.lips))
    shine = between(inner_low + 0.015, outer_low) * (0.25 + 0.15 * rounded)
    canvas = _paint(canvas, shine, colour(np.clip(look.lips * 1.4, 0, 1)))
    inside = between(inner_top, inner_low) * np.clip((inner_low - inner_top) * sharp, 0, 1)
    canvas = _paint(canvas, inside, colour(np.array([0.12, 0.03, 0.03], np.float32)))
    tongue_top = inner_low - (0.02 + 0.16 * tongue) * bow * np.clip(1 - (x / (half * 0.75)) ** 2, 0, 1)
    canvas = _paint(canvas, inside * between(tongue_top, inner_low), colour(np.array([0.7, 0.3, 0.3], np.float32)))
    white = colour(np.array([1.0, 0.97, 0.9], np.float32) * np.float32(look.teeth))
    canvas = _paint(canvas, inside * between(inner_top, inner_top + 0.09 * teeth) * np.clip(teeth * 4, 0, 1), white)
    canvas = _paint(canvas, inside * between(inner_low - 0.03 * (teeth > 0.75), inner_low), white * np.float32(0.9))
    seam = np.exp(-(((y - inner_top) * sharp) ** 2)) * within * (1 - np.clip(apart * 8, 0, 1)) * (0.5 + 0.3 * press)
    canvas = _paint(canvas, seam, colour(look.lips * 0.4))
    tucked = between(inner_top + 0.035, inner_top + 0.05 + 0.02 * tuck) * tuck
    return _paint(canvas, tucked, white)
