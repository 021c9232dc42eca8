"""The generator of sounds: four seconds at 16 kHz from latents of a log-mel spectrogram; longer ones are joined."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedspace.generate.base import Generator, GeneratorSpace, Request, Sample
from embedspace.generate.latents.files import LatentParts, load_parts
from embedspace.generate.latents.generator import LatentGenerator
from embedspace.generate.registry import register_generator
from embedspace.generate.spectrogram import LEVEL, SpectrogramConfig, to_waveform
from embedspace.generate.targets import option_names
from embedspace.modality import Modality

__all__ = ["AudioGenerator"]

_FADE = 0.25
"""Seconds over which one piece of a longer sound passes into the next."""
_PIECE_STRIDE = 1_000_003
"""Seeds of the pieces of one sound lie this far apart."""
_SILENT = 0.01
"""Peak below which nothing is heard."""


class AudioGenerator(LatentGenerator):
    """Sounds.

    Args:
        parts: From `load_parts`; the autoencoder reads spectrograms.
        spectrogram: Size of those.
    """

    modality = Modality.AUDIO.value
    options = option_names("audio")

    def __init__(self, parts: LatentParts, spectrogram: SpectrogramConfig) -> None:
        super().__init__(parts)
        self.spectrogram = spectrogram

    def generate(
        self, vectors: NDArray[np.float32], sigma: NDArray[np.float32], request: Request
    ) -> list[list[Sample]]:
        """Return samples of the length that is asked for; a longer one is joined from several of the same vector."""
        rate = self.spectrogram.sample_rate
        whole = self.spectrogram.samples / rate
        wanted = request.seconds or whole
        fade = min(_FADE, whole / 4)
        pieces = 1 if wanted <= whole else 1 + int(np.ceil((wanted - whole) / (whole - fade)))
        plain = dataclasses.replace(request, seconds=None)
        seeded = [dataclasses.replace(plain, seed=request.seed + k * _PIECE_STRIDE) for k in range(pieces)]
        drawn = [super(AudioGenerator, self).generate(vectors, sigma, one) for one in seeded]

        def join(parts: Sequence[Sample]) -> Sample:
            waveform = _join([np.asarray(part.content, np.float32) for part in parts], round(fade * rate))
            return dataclasses.replace(parts[0], content=_fade_out(waveform[: round(wanted * rate)], rate))

        return [[join(parts) for parts in zip(*row, strict=True)] for row in zip(*drawn, strict=True)]

    def to_media(self, decoded: Tensor, request: Request) -> list[tuple[NDArray[Any], int]]:
        """Turn spectrograms (B, 1, n_mels, T) into waveforms (T,)."""
        generator = torch.Generator().manual_seed(0)  # of phases only: the same spectrogram sounds the same
        rate = self.spectrogram.sample_rate
        return [
            (_level(to_waveform(one, self.spectrogram, generator.manual_seed(0))[0].numpy()), rate) for one in decoded
        ]


def _level(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring the peak to where that of the training sounds is; silence stays silent."""
    peak = float(np.abs(waveform).max(initial=0.0))
    return waveform * np.float32(LEVEL / peak) if peak > _SILENT else waveform


def _join(parts: list[NDArray[np.float32]], fade: int) -> NDArray[np.float32]:
    """Join waveforms, each passing into the next with equal power."""
    whole = parts[0]
    rise = np.sin(np.linspace(0, np.pi / 2, fade, dtype=np.float32))
    for part in parts[1:]:
        between = whole[-fade:] * rise[::-1] + part[:fade] * rise
        whole = np.concatenate([whole[:-fade], between, part[fade:]])
    return whole


def _fade_out(waveform: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Fade the last hundredth of a second out, so that a cut does not click."""
    size = min(rate // 100, len(waveform))
    waveform = waveform.copy()
    waveform[len(waveform) - size :] *= np.linspace(1, 0, size, dtype=np.float32)
    return waveform


@register_generator("audio")
def _create(config: Mapping[str, Any], folder: Path, space: GeneratorSpace) -> Generator:
    del space
    size = SpectrogramConfig(**config["spectrogram"])
    return AudioGenerator(load_parts(config, folder), size)
