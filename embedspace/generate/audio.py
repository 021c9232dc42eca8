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

from embedspace.errors import ArgumentError
from embedspace.generate.base import Generator, GeneratorSpace, Request, Sample
from embedspace.generate.editing import Edit
from embedspace.generate.latents.autoencoder import DOWN
from embedspace.generate.latents.files import LatentParts, load_parts
from embedspace.generate.latents.generator import LatentGenerator
from embedspace.generate.registry import register_generator
from embedspace.generate.spectrogram import LEVEL, SpectrogramConfig, to_spectrogram, to_waveform
from embedspace.generate.targets import option_names
from embedspace.modality import Modality

__all__ = ["AudioGenerator"]

_FADE = 0.25
"""Seconds over which one piece of a longer sound passes into the next."""
_PIECE_STRIDE = 1_000_003
"""Seeds of the pieces of one sound lie this far apart."""
_EDGE = 0.02
"""Seconds over which a changed part of a sound passes into what stays."""
_MOST_OF_WINDOW = 0.75
"""Share of what is made in one piece that may be made anew: what is around it says how."""
_LOUDNESS = (0.1, 4.0)
"""How much quieter or louder what is new may be made, for what stays around it to be as loud as it was."""
_QUIET = 1e-9
"""Power of what counts as silence."""
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
        if request.edit is not None:
            if request.seconds is not None:
                raise ArgumentError("seconds", f"{request.seconds:g}: an edit is as long as what is edited")
            return super().generate(vectors, sigma, request)
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

    def to_input(self, edit: Edit) -> Tensor:
        """Return the spectrogram of the window that is edited."""
        first, last = self._window(edit)
        heard = edit.content[first:last]
        waveform = np.zeros(self.spectrogram.samples, np.float32)
        waveform[: len(heard)] = _level(heard)
        return to_spectrogram(torch.from_numpy(waveform)[None], self.spectrogram)[:, None]

    def changed_cells(self, edit: Edit) -> Tensor:
        """Return all cells of the frames that the mask touches."""
        assert edit.mask is not None
        first, last = self._window(edit)
        mask = np.zeros(self.spectrogram.samples, np.float32)
        mask[: last - first] = edit.mask[first:last]
        columns = mask.reshape(-1, self.spectrogram.hop_length * DOWN).max(axis=1) > 0
        return torch.from_numpy(columns)[None, None, None].expand(1, 1, self.spectrogram.n_mels // DOWN, -1)

    def merged(self, made: NDArray[Any], edit: Edit, cells: NDArray[np.bool_] | None, request: Request) -> NDArray[Any]:
        """Return a sound as long as what is edited, with what stays out of it."""
        del cells, request
        first, last = self._window(edit)
        new = made[: last - first]
        if edit.mask is None:
            return _fade_out(new, self.spectrogram.sample_rate)
        changed = edit.mask[first:last]
        loudness = _size(edit.content[first:last][~changed]) / _size(new[~changed])
        share = _ramped(changed, round(_EDGE * self.spectrogram.sample_rate))
        whole: NDArray[np.float32] = edit.content.copy()
        whole[first:last] = whole[first:last] * (1 - share) + new * np.float32(np.clip(loudness, *_LOUDNESS)) * share
        return whole.clip(-1, 1)

    def _window(self, edit: Edit) -> tuple[int, int]:
        """Return the first sample that is edited and the one after the last: all, or the surroundings of the mask.

        Raises:
            ArgumentError: If that is longer than what is made in one piece.
        """
        size, length, rate = self.spectrogram.samples, len(edit.content), self.spectrogram.sample_rate
        if edit.mask is None:
            if length > size:
                raise ArgumentError(
                    "init",
                    f"{edit.asked['init']}: {length / rate:.1f} s; without a mask at most {size / rate:.1f} s can be "
                    "edited, so cut it",
                )
            return 0, length
        inside = np.flatnonzero(edit.mask)
        first, last = int(inside[0]), int(inside[-1]) + 1
        if last - first > _MOST_OF_WINDOW * size:
            most = _MOST_OF_WINDOW * size / rate
            raise ArgumentError("mask", f"{edit.asked['mask']}: at most {most:.1f} s can be made anew at a time")
        begin = max(0, min((first + last - size) // 2, length - size))
        return begin, min(length, begin + size)


def _size(waveform: NDArray[np.float32]) -> float:
    """Return the root of the mean square, never zero."""
    return float(np.sqrt(np.mean(np.square(waveform)) + _QUIET)) if len(waveform) else 1.0


def _ramped(changed: NDArray[np.bool_], edge: int) -> NDArray[np.float32]:
    """Return how much of each sample is new: rising and falling within what may change."""
    inside = np.flatnonzero(changed)
    first, last = int(inside[0]), int(inside[-1]) + 1
    edge = min(edge, (last - first) // 2)
    share = changed.astype(np.float32)
    rise = np.linspace(0, 1, edge, dtype=np.float32)
    if first:
        share[first : first + edge] = rise
    if last < len(changed):
        share[last - edge : last] = rise[::-1]
    return share


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
