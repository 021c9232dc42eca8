"""Pictures and sounds as an evaluation meets them: real ones as the generator would make them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from embedspace.encoders.shipped.image_features import crop_to_content
from embedspace.encoders.towers.efficientnet_lite import resize_padded
from embedspace.errors import ConfigError
from embedspace.evaluate.generation.measures.layouts import (
    PICTURE_REACH,
    SOUND_REACH,
    disguised_picture,
    disguised_sound,
    picture_layouts,
    sound_layouts,
)
from embedspace.generate.audio import AudioGenerator
from embedspace.generate.base import Generator, Request
from embedspace.generate.conditioning import Condition
from embedspace.generate.latents.generator import LatentGenerator
from embedspace.generate.spectrogram import LEVEL, to_spectrogram
from embedspace.media.audio import load_audio
from embedspace.media.image import load_image

__all__ = ["Content", "Medium", "Pictures", "Sounds", "as_kept", "medium_of", "reconstruct", "unconditional"]

Content = NDArray[Any]
"""(H, W, 3) uint8, or (T,) float32."""

_CHUNK = 32
_INT16 = 32_767.0


class Medium(Protocol):
    """How real things are read, reconstructed, kept and shown, for one generator.

    Attributes:
        sample_rate: Hz; 0 of pictures.
        reach: Rows and columns that layouts may be shifted when they are aligned.
    """

    sample_rate: int
    reach: tuple[int, int]

    def read(self, path: Path) -> Content:
        """Return a real thing as the generator would make it: its size, its length."""
        ...

    def inputs(self, contents: Sequence[Content]) -> Tensor:
        """Return what the generator's autoencoder reads, (B, C, H, W) in [-1, 1]."""
        ...

    def mirrored(self, inputs: Tensor) -> Tensor | None:
        """Return the same mirrored, None where a mirror image is another thing."""
        ...

    def rounded(self, content: Content) -> Content:
        """Return what a file would hold of a content, as integers."""
        ...

    def restored(self, stored: NDArray[Any]) -> Content:
        """Undo `rounded`."""
        ...

    def thumbnail(self, content: Content) -> NDArray[np.uint8]:
        """Return (H, W, 3) to look at."""
        ...

    def layouts(self, content: Content) -> list[NDArray[np.float32]]:
        """Return what near-copies are aligned by: the content as it is, then its variants."""
        ...

    def disguised(self, content: Content, seed: int) -> Content:
        """Return a copy of a content that a measure of near-copies must find."""
        ...


class Pictures:
    """Pictures of a generator."""

    sample_rate = 0
    reach = PICTURE_REACH

    def __init__(self, generator: LatentGenerator) -> None:
        self.side = 8 * int(generator.neighbours.latents.shape[2])

    def read(self, path: Path) -> Content:
        """Return (side, side, 3) uint8 on white, cut to its content, as training reads it."""
        return resize_padded(crop_to_content(load_image(path, min_side=self.side)), self.side)

    def inputs(self, contents: Sequence[Content]) -> Tensor:
        """Return (B, 3, side, side)."""
        # (B, H, W, 3) -> (B, 3, H, W)
        return torch.from_numpy(np.stack(contents)).permute(0, 3, 1, 2).float() / 127.5 - 1.0

    def mirrored(self, inputs: Tensor) -> Tensor | None:
        """Return them left to right."""
        return inputs.flip(3)

    def rounded(self, content: Content) -> Content:
        """Return the pixels: they are integers already."""
        return content

    def restored(self, stored: NDArray[Any]) -> Content:
        """Return the pixels."""
        return stored

    def thumbnail(self, content: Content) -> NDArray[np.uint8]:
        """Return the picture."""
        return np.asarray(content, np.uint8)

    def layouts(self, content: Content) -> list[NDArray[np.float32]]:
        """Return its darkness on white: as it is, scaled, mirrored."""
        return picture_layouts(content)

    def disguised(self, content: Content, seed: int) -> Content:
        """Return it shifted, scaled, perhaps mirrored, lighter or darker."""
        return disguised_picture(content, seed)


class Sounds:
    """Sounds of a generator."""

    reach = SOUND_REACH

    def __init__(self, generator: AudioGenerator) -> None:
        self.size = generator.spectrogram
        self.sample_rate = generator.spectrogram.sample_rate

    def read(self, path: Path) -> Content:
        """Return (T,) of the generator's length and rate, at the level that training brings sounds to."""
        waveform = load_audio(path, sample_rate=self.sample_rate).waveform[: self.size.samples]
        whole = np.zeros(self.size.samples, np.float32)
        whole[: len(waveform)] = waveform * (LEVEL / max(float(np.abs(waveform).max()), 1e-4))
        return whole

    def inputs(self, contents: Sequence[Content]) -> Tensor:
        """Return spectrograms (B, 1, n_mels, frames)."""
        whole = np.zeros((len(contents), self.size.samples), np.float32)
        for row, content in zip(whole, contents, strict=True):
            row[: len(content)] = content[: self.size.samples]
        peaks = np.maximum(np.abs(whole).max(axis=1, keepdims=True), 1e-4)
        return to_spectrogram(torch.from_numpy(whole * (LEVEL / peaks)), self.size)[:, None]

    def mirrored(self, inputs: Tensor) -> Tensor | None:
        """Return None: a sound played backwards is another one."""
        del inputs
        return None

    def rounded(self, content: Content) -> Content:
        """Return 16-bit samples."""
        return np.round(np.clip(content, -1, 1) * _INT16).astype(np.int16)

    def restored(self, stored: NDArray[Any]) -> Content:
        """Return samples in [-1, 1]."""
        return stored.astype(np.float32) / np.float32(_INT16)

    def thumbnail(self, content: Content) -> NDArray[np.uint8]:
        """Return the spectrogram in grey, low tones at the bottom."""
        level = self.inputs([content])[0, 0].flip(0).numpy()
        grey = Image.fromarray(((level + 1) * 127.5).round().astype(np.uint8)).resize((160, 96))
        return np.repeat(np.asarray(grey)[:, :, None], 3, axis=2)

    def layouts(self, content: Content) -> list[NDArray[np.float32]]:
        """Return its log-mel frames."""
        return sound_layouts(content, self.sample_rate)

    def disguised(self, content: Content, seed: int) -> Content:
        """Return it later, quieter, with noise in it."""
        return disguised_sound(content, seed)


def medium_of(generator: Generator) -> tuple[LatentGenerator, Medium]:
    """Return a generator that draws latents, and its medium.

    Raises:
        ConfigError: If it draws no latents.
    """
    if isinstance(generator, AudioGenerator):
        return generator, Sounds(generator)
    if isinstance(generator, LatentGenerator):
        return generator, Pictures(generator)
    raise ConfigError(f"the generator of {generator.modality} draws no latents: measure it with another kind of suite")


def as_kept(medium: Medium, content: Content) -> Content:
    """Return a content as it is once it has been kept as integers, as in a file."""
    return medium.restored(medium.rounded(content))


def _decoded(generator: LatentGenerator, medium: Medium, latents: Tensor) -> list[Content]:
    media = generator.to_media(generator.autoencoder.decode(latents), Request())
    return [as_kept(medium, content) for content, _ in media]


@torch.inference_mode()
def reconstruct(generator: LatentGenerator, medium: Medium, contents: Sequence[Content]) -> list[Content]:
    """Return what the autoencoder keeps of contents: the most that any generator on its latents can reach."""
    out: list[Content] = []
    for start in range(0, len(contents), _CHUNK):
        latents = generator.autoencoder.encode(medium.inputs(contents[start : start + _CHUNK]))
        out += _decoded(generator, medium, latents)
    return out


@torch.inference_mode()
def unconditional(generator: LatentGenerator, medium: Medium, family: str, seeds: Sequence[int]) -> list[Content]:
    """Return a sample of no condition for each seed."""
    network, neighbours = generator.networks[family], generator.neighbours
    options = dataclasses.replace(network.options(generator.sampling), guidance_scale=1.0, start=0.0)
    out: list[Content] = []
    for start in range(0, len(seeds), _CHUNK):
        own = seeds[start : start + _CHUNK]
        vector = torch.zeros(len(own), neighbours.keys.shape[1])
        context = torch.zeros(len(own), network.config.neighbours, *neighbours.latents.shape[1:])
        sources = [torch.Generator().manual_seed(seed) for seed in own]
        latents = network.draw(Condition(vector, torch.zeros(len(own)), context), sources, options)
        out += _decoded(generator, medium, latents)
    return out
