"""What near-copies are aligned by: pictures' darkness with scales and mirror images, sounds' log-mel frames.

`disguised` makes the copies that a measure of near-copies must find: it tells how many of them each measure does find.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from embedspace.encoders.towers.whisper import log_mel
from embedspace.media.image import open_image
from embedspace.media.resample import resample_waveform

__all__ = ["PICTURE_REACH", "SOUND_REACH", "disguised_picture", "disguised_sound", "picture_layouts", "sound_layouts"]

Layout = NDArray[np.float32]

_SIDE = 48
_SCALES = (1.0, 0.8, 0.9, 1.11, 1.25)
PICTURE_REACH = (8, 8)
"""A sixth of the side, up, down, left or right."""
_WEIGHTS = (0.299, 0.587, 0.114)  # of red, green and blue in brightness, ITU-R BT.601
_SOUND_RATE = 16_000
_BANDS, _FRAMES, _JOINED = 40, 104, 4
SOUND_REACH = (0, 50)
"""Two seconds earlier or later; no other pitch."""
_QUIET = 1e-3  # of the peak: quieter before the sound is silence


def picture_layouts(picture: NDArray[Any]) -> list[Layout]:
    """Return a picture (H, W, 3) uint8 as (48, 48) darkness on white: as it is, then scaled and mirrored."""
    dark = (1.0 - np.asarray(picture, np.float32) @ np.array(_WEIGHTS, np.float32) / 255.0).astype(np.float32)
    whole = [_scaled(dark, scale) for scale in _SCALES]
    return [*whole, *(layout[:, ::-1].copy() for layout in whole)]


def _scaled(dark: Layout, scale: float) -> Layout:
    """Return (48, 48): the middle of a larger one, or a smaller one with white around it."""
    side = round(_SIDE * scale)
    resized = np.asarray(Image.fromarray(dark).resize((side, side), Image.Resampling.BOX), np.float32)
    before = (abs(side - _SIDE)) // 2
    if side >= _SIDE:
        return resized[before : before + _SIDE, before : before + _SIDE].copy()
    after = _SIDE - side - before
    return np.pad(resized, ((before, after), (before, after)))


def sound_layouts(waveform: NDArray[Any], sample_rate: int) -> list[Layout]:
    """Return a sound (T,) as (40, 104) log-mel, 25 frames a second from its first sound on, silence after its end."""
    clip = resample_waveform(np.asarray(waveform, np.float32), sample_rate, _SOUND_RATE)
    loud = np.flatnonzero(np.abs(clip) > max(_QUIET * float(np.abs(clip).max(initial=0.0)), 1e-7))
    if not len(loud):
        return [np.zeros((_BANDS, _FRAMES), np.float32)]
    clip = clip[loud[0] : loud[-1] + 1][: _FRAMES * _JOINED * _SOUND_RATE // 100]
    level = log_mel(torch.from_numpy(np.ascontiguousarray(clip)))  # (80, frames), 100 a second
    level = level[:, : level.shape[1] // _JOINED * _JOINED] if level.shape[1] >= _JOINED else level[:, :1].repeat(1, 4)
    # (80, frames) -> (40, 2, frames / 4, 4) -> (40, frames / 4)
    joined = level.reshape(_BANDS, 2, -1, _JOINED).mean(dim=(1, 3)).numpy()[:, :_FRAMES]
    layout: Layout = np.pad(joined, ((0, 0), (0, _FRAMES - joined.shape[1])), constant_values=float(joined.min()))
    return [layout]


def disguised_picture(picture: NDArray[Any], seed: int) -> NDArray[np.uint8]:
    """Return a copy of a picture (H, W, 3): shifted, scaled, perhaps mirrored, lighter or darker, through JPEG."""
    dice = np.random.default_rng(seed)
    side = picture.shape[0]
    inner = round(side * dice.uniform(0.82, 1.0))
    small = Image.fromarray(np.asarray(picture, np.uint8)).resize((inner, inner), Image.Resampling.BICUBIC)
    if dice.random() < 0.5:
        small = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    paper = Image.new("RGB", (side, side), (255, 255, 255))
    paper.paste(small, (int(dice.integers(0, side - inner + 1)), int(dice.integers(0, side - inner + 1))))
    pixels = 255.0 - (255.0 - np.asarray(paper, np.float32)) * dice.uniform(0.8, 1.0)
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "JPEG", quality=60)
    return np.asarray(open_image(file).convert("RGB"))


def disguised_sound(waveform: NDArray[Any], seed: int) -> NDArray[np.float32]:
    """Return a copy of a sound (T,) of the same length: up to half a second later, quieter, with noise in it."""
    dice = np.random.default_rng(seed)
    later = int(dice.integers(0, max(1, len(waveform) // 8)))
    out = np.zeros(len(waveform), np.float32)
    out[later:] = np.asarray(waveform, np.float32)[: len(waveform) - later] * dice.uniform(0.3, 1.0)
    noise = dice.standard_normal(len(out)).astype(np.float32)
    found: NDArray[np.float32] = out + np.float32(0.01 * np.abs(out).max(initial=0.0)) * noise
    return found
