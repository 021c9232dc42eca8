"""Augmented views of pictures and sounds, for training features."""

from __future__ import annotations

import random
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from embedspace.media.image import open_image


def open_view(root: Path, path: str, view: int) -> Image.Image:
    """Open a picture, RGBA where it has transparency, else RGB; views from 1 on are augmented, by path and view."""
    image: Image.Image = open_image(root / path)
    clear = "A" in image.getbands() or "transparency" in image.info
    image = image.convert("RGBA" if clear else "RGB")
    return augment_image(image, zlib.crc32(f"{path} {view}".encode())) if view else image


def augment_image(image: Image.Image, seed: int) -> Image.Image:
    """Turn, mirror, stretch and tint a picture and lay it on a colour; deterministic by seed."""
    rng = random.Random(seed)
    image = image.convert("RGBA")
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    image = image.rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC, expand=True)
    box = image.getchannel("A").getbbox() or (0, 0, *image.size)
    image = image.crop(box)
    width, height = image.size
    stretch = rng.uniform(0.85, 1.18)
    image = image.resize((max(8, round(width * stretch)), max(8, height)), Image.Resampling.BICUBIC)
    for enhancer, spread in ((ImageEnhance.Color, 0.5), (ImageEnhance.Brightness, 0.2), (ImageEnhance.Contrast, 0.25)):
        alpha = image.getchannel("A")
        image = enhancer(image).enhance(rng.uniform(1 - spread, 1 + spread))
        image.putalpha(alpha)
    background = (255, 255, 255) if rng.random() < 0.5 else tuple(rng.randrange(256) for _ in range(3))
    pad = rng.uniform(0, 0.15)
    canvas = Image.new("RGB", tuple(round(s * (1 + 2 * pad)) for s in image.size), background)
    canvas.paste(image, (round(image.width * pad), round(image.height * pad)), image)
    return canvas


def augment_sound(waveform: np.ndarray, rate: int, seed: int) -> np.ndarray:
    """Change speed and pitch together, level, room and noise of a clip; deterministic by seed."""
    rng = np.random.default_rng(seed)
    factor = float(np.exp(rng.uniform(-0.22, 0.22)))
    positions = np.arange(0, len(waveform) - 1, factor)
    x = np.interp(positions, np.arange(len(waveform)), waveform).astype(np.float32)
    if rng.random() < 0.4:
        tail = int(rate * rng.uniform(0.1, 0.6))
        room = rng.standard_normal(tail) * np.exp(-np.linspace(0, 7, tail))
        room[0] = 4.0
        size = 1 << int(np.ceil(np.log2(len(x) + tail)))
        wet = np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(room, size), size)[: len(x) + tail // 3]
        x = (wet / (np.abs(wet).max() + 1e-6)).astype(np.float32)
    if rng.random() < 0.5:
        snr = rng.uniform(10, 35)
        spectrum = np.fft.rfft(rng.standard_normal(len(x))) / np.maximum(np.arange(len(x) // 2 + 1), 1) ** rng.uniform(
            0, 1
        )
        noise = np.fft.irfft(spectrum, len(x))
        x = x + noise * (x.std() / (noise.std() + 1e-9) * 10 ** (-snr / 20))
    if rng.random() < 0.3 and len(x) > rate:
        start = int(rng.integers(0, len(x) // 3))
        x = x[start : start + int(len(x) * rng.uniform(0.5, 1.0))]
    return x.astype(np.float32)
