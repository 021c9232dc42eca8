"""What a decoder of voices learns from: speakers' frames, with the content as another voice would have said it.

Content of every other piece is heard twice: as it was said, and from a recording that was played faster or slower,
whose times are put back. The second has another pitch and another throat, so that a decoder cannot take the voice from
the content.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from embedspace.errors import ConfigError
from embedspace.files import replacing
from embedspace.generate.conversion.content import ContentEncoder, discriminant
from embedspace.generate.conversion.frames import VoiceFrames, frames_of
from embedspace.generate.spectrogram import SpectrogramConfig
from embedspace.media.resample import resample_waveform
from embedspace.train.generators.conversion.clips import Recording

__all__ = ["Said", "heard_frames", "pieces_of"]

_RATE = 16_000
_PIECE = 6.0
"""Seconds of what is heard at once: a speaker's short recordings one after the other."""
_SPEEDS = (0.84, 0.9, 1.1, 1.19)
_FRAME = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """A piece of a speaker's speech.

    Attributes:
        speaker: Who.
        split: "train" or "val".
        frames: As it was said.
        other: (T, size) its content as heard at another speed; the same where it was heard once.
    """

    speaker: str
    split: str
    frames: VoiceFrames
    other: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Samples of a speaker, and the phonemes that are said, where they are known: (name, start, end)."""

    speaker: str
    split: str
    samples: NDArray[np.float32]
    phonemes: tuple[tuple[str, float, float], ...] = ()


def pieces_of(recordings: Sequence[Recording], seconds: Mapping[str, float], seed: int) -> list[Piece]:
    """Return pieces of each speaker's recordings, drawn by seed, by the beginning of the name so many seconds."""
    by_speaker: dict[str, list[Recording]] = {}
    for one in recordings:
        by_speaker.setdefault(one.speaker, []).append(one)
    pieces = []
    for number, (speaker, own) in enumerate(sorted(by_speaker.items())):
        order = np.random.default_rng(seed + number).permutation(len(own))
        held: list[NDArray[np.float32]] = []
        left = seconds.get(speaker.split(":")[0], 0.0)
        for at in order:
            one = own[at]
            if left <= 0:
                break
            left -= one.seconds
            if one.extra.get("phonemes"):
                known = tuple((str(name), float(a), float(b)) for name, a, b in one.extra["phonemes"])
                pieces.append(Piece(speaker, one.split, one.samples()[: int(2 * _PIECE * _RATE)], known))
                continue
            held.append(one.samples())
            if sum(map(len, held)) >= _PIECE * _RATE:
                pieces.append(Piece(speaker, one.split, np.concatenate(held)[: int(2 * _PIECE * _RATE)]))
                held = []
        if held:
            pieces.append(Piece(speaker, own[0].split, np.concatenate(held)[: int(2 * _PIECE * _RATE)]))
    return [piece for piece in pieces if len(piece.samples) > _RATE]


def _labels(piece: Piece, count: int, names: dict[str, int]) -> NDArray[np.int64]:
    """Return the phoneme's number of each of `count` frames; 0 is silence."""
    labels = np.zeros(count, np.int64)
    for name, start, end in piece.phonemes:
        plain = name.strip("ˈˌː _:")
        labels[int(start / _FRAME) : int(end / _FRAME)] = names.setdefault(plain, len(names)) if plain else 0
    return labels


def heard_frames(
    pieces: Sequence[Piece],
    encoder: ContentEncoder,
    config: SpectrogramConfig,
    cache: Path,
    tell: Callable[[int, int], None],
) -> list[Said]:
    """Hear all pieces, fit the encoder's map on those with phonemes, and return their frames; kept in `cache`.

    Raises:
        ConfigError: If no piece has phonemes.
    """
    heard: dict[int, list[Tensor]] = torch.load(cache, weights_only=True) if cache.exists() else {}
    for number, piece in enumerate(pieces):
        if number not in heard:
            heard[number] = [encoder.layers(x).half() for x in _versions(piece.samples, number)]
        if number % 50 == 49 or number == len(pieces) - 1:
            tell(number + 1, len(pieces))
            cache.parent.mkdir(parents=True, exist_ok=True)
            with replacing(cache) as partial:
                torch.save(heard, partial)
    _fit(pieces, heard, encoder)
    said = []
    for number, piece in enumerate(pieces):
        count = len(piece.samples) // config.hop_length
        contents = [_spread((x.float() - encoder.mean) @ encoder.matrix, count) for x in heard[number]]
        frames = frames_of(piece.samples, encoder, config, contents[0])
        said.append(Said(piece.speaker, piece.split, frames, contents[-1]))
    return said


def _versions(samples: NDArray[np.float32], number: int) -> list[NDArray[np.float32]]:
    """Return a piece, and every other one at another speed as well."""
    if number % 2:
        return [samples]
    speed = _SPEEDS[number // 2 % len(_SPEEDS)]
    return [samples, resample_waveform(samples, round(_RATE * speed), _RATE)]


def _fit(pieces: Sequence[Piece], heard: dict[int, list[Tensor]], encoder: ContentEncoder) -> None:
    names = {"": 0}
    rows, labels = [], []
    for number, piece in enumerate(pieces):
        if piece.phonemes and piece.split == "train":
            own = heard[number][0].float().numpy()
            rows.append(own)
            labels.append(_labels(piece, len(own), names))
    if not rows:
        raise ConfigError("no recording says when its phonemes are said; build the speakers with espeak-ng or flite")
    size = encoder.matrix.shape[1]
    mean, matrix = discriminant(np.concatenate(rows), np.concatenate(labels), size)
    if matrix.shape[1] < size:
        raise ConfigError(f"content {size}: the recordings tell {len(names)} phonemes apart, which is too few for it")
    encoder.mean.data, encoder.matrix.data = torch.from_numpy(mean), torch.from_numpy(matrix)


def _spread(content: Tensor, count: int) -> Tensor:
    return F.interpolate(content.T[None], size=count, mode="linear", align_corners=False)[0].T
