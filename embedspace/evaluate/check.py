"""A quick check of a space on samples that are made here: does each encoder run, how far do modalities lie apart?

It measures no quality: samples are coloured shapes, tones and short phrases. It sees a tower that cannot run, one whose
rows depend on the batch, and the gap between the modalities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import EmbedspaceError
from embedspace.media.film import Film, Moment

if TYPE_CHECKING:
    from embedspace.space import EmbeddingSpace

__all__ = ["ModalityCheck", "check_space"]

_SAMPLES = 8
_RATE = 48_000
_SECONDS = 2.0
_TOLERANCE = 1e-4
_COLOURS = ("red", "green", "blue", "yellow", "black", "white", "purple", "orange")
_RGB = (
    (220, 30, 30),
    (30, 180, 60),
    (40, 70, 220),
    (240, 220, 40),
    (20, 20, 20),
    (250, 250, 250),
    (130, 40, 160),
    (250, 140, 20),
)


@dataclass(frozen=True, slots=True)
class ModalityCheck:
    """What was found of one modality.

    Attributes:
        modality: Value of the modality.
        problem: Why it could not be encoded, or what is wrong with its rows; empty if nothing is.
        samples: Built-in samples encoded; 0 for a modality that has none.
        gap: Distance between the mean of its unit rows and the mean of the texts'; 0 to 2, None for texts.
        spread: Mean cosine of two of its samples: near 1 means that it tells nothing apart.
        batch_difference: Largest difference of a value between rows encoded together and alone.
    """

    modality: str
    problem: str = ""
    samples: int = 0
    gap: float | None = None
    spread: float | None = None
    batch_difference: float | None = None


def check_space(space: EmbeddingSpace) -> list[ModalityCheck]:
    """Load every encoder of a space and encode the samples.

    Returns:
        One record per modality, in the space's order. An encoder that fails is in its record, not raised.
    """
    texts: NDArray[np.float32] | None = None
    if "text" in space.modalities:
        try:
            texts = space.encode(_samples("text"), modality="text")
        except EmbedspaceError:
            texts = None  # its own record says why
    return [_check(space, str(modality), texts) for modality in space.modalities]


def _check(space: EmbeddingSpace, modality: str, texts: NDArray[np.float32] | None) -> ModalityCheck:
    samples = _samples(modality)
    try:
        if not samples:
            space.encoder(modality)
            return ModalityCheck(modality)
        rows = space.encode(samples, modality=modality)
        alone = np.concatenate([space.encode([sample], modality=modality) for sample in samples[:2]])
    except EmbedspaceError as error:
        return ModalityCheck(modality, problem=str(error))
    difference = float(np.abs(rows[:2] - alone).max())
    cosines = rows @ rows.T
    others = cosines[~np.eye(len(rows), dtype=bool)]
    gap = None
    if modality != "text" and texts is not None:
        gap = float(np.linalg.norm(rows.mean(axis=0) - texts.mean(axis=0)))
    problem = ""
    if not np.isfinite(rows).all() or np.abs(np.linalg.norm(rows, axis=1) - 1).max() > 1e-3:
        problem = "its rows are not of length 1"
    elif difference > _TOLERANCE:
        problem = f"a row differs by {difference:.1e} when it is encoded beside others"
    return ModalityCheck(modality, problem, len(samples), gap, float(others.mean()), difference)


def _samples(modality: str) -> list[Any]:
    """Return the built-in samples of a modality, none for one that has none."""
    if modality == "text":
        return [f"a {colour} shape on a plain ground" for colour in _COLOURS]
    if modality == "image":
        return [_picture(index) for index in range(_SAMPLES)]
    if modality in ("audio", "speech"):
        return [(_sound(index), _RATE) for index in range(_SAMPLES)]
    if modality == "video":
        return [_film(index) for index in range(_SAMPLES)]
    return []


def _picture(index: int) -> Any:  # noqa: ANN401 - a PIL image
    """Return 96 x 96 pixels: a shape of one colour on another."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (96, 96), _RGB[(index + 3) % len(_RGB)])
    draw = ImageDraw.Draw(image)
    box = (16 + 2 * index, 16, 80, 80 - 2 * index)
    (draw.ellipse if index % 2 else draw.rectangle)(box, fill=_RGB[index])
    return image


def _film(index: int) -> Film:
    """Return half a second of a picture, then half a second of another."""
    pictures = (_picture(index), _picture((index + 1) % _SAMPLES))
    return Film([Moment(number / 2, picture, number == 0) for number, picture in enumerate(pictures)], 1.0)


def _sound(index: int) -> NDArray[np.float32]:
    """Return 2 s of a gliding tone, with noise in every second sample."""
    t = np.arange(int(_SECONDS * _RATE)) / _RATE
    tone = np.sin(2 * np.pi * (150 * (index + 1) * t + 40 * index * t * t))
    noise = np.random.default_rng(index).standard_normal(len(t)) * (0.3 if index % 2 else 0.02)
    wave: NDArray[np.float32] = (0.3 * tone + 0.1 * noise).astype(np.float32)
    return wave
