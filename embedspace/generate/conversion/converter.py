"""Speech in the voice of a reference recording.

from embedspace.generate.conversion import VoiceConverter

converter = VoiceConverter.from_pretrained()
voice = converter.reference("ref.wav")
waveform = converter.convert("talk.wav", voice)          # (T,) float32 at converter.sample_rate
"""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedspace.config import build
from embedspace.encoders.base import load_module
from embedspace.files import read_config
from embedspace.generate.conversion.content import ContentEncoder
from embedspace.generate.conversion.decoder import DecoderConfig, VoiceDecoder
from embedspace.generate.conversion.frames import (
    VoiceFrames,
    fitting_warp,
    frames_of,
    matched_envelope,
    nearest_frames,
    reference_sums,
    smoothed,
)
from embedspace.generate.conversion.reference import LEAST_SECONDS, LONGEST_SECONDS, check_speech
from embedspace.generate.conversion.vocoder import Vocoder, VocoderConfig
from embedspace.media.audio import load_audio

__all__ = ["NOTICE", "SHIPPED", "Reference", "VoiceConverter", "load_vocoder", "shipped_converter"]

NOTICE = (
    "Made by voice conversion: the person whose voice this resembles did not say it. "
    "Convert only to voices of people who agreed."
)
"""Goes into every converted file."""
SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "conversion"
_ABOUT = "what converts voices"
_PART, _CONTEXT = 1500, 40
"""Frames that are drawn at once, and what they see on both sides: memory does not grow with the recording."""
_FITTED = 2000
"""Frames of a source that the length of its throat is judged by."""
_SPREAD = (0.7, 1.4)
"""How far the liveliness of a pitch is changed at most."""
_SOURCE_SECONDS = 0.3
_LEVEL = 0.9
_STRANGE, _SAME = 0.45, 0.75
"""Cosines of contents that differ, and that say the same."""
_BALANCE, _NEARNESS = 1.0, 0.2
"""Shares of the way to the reference's mean and deviation, and to the nearest frames: chosen on validation speakers."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A voice to convert to.

    Attributes:
        frames: Of its speech.
        name: Of its file.
        sha256: Of its samples: which recording it was, without a copy of it.
    """

    frames: VoiceFrames
    name: str
    sha256: str


class VoiceConverter:
    """A frozen encoder of content, a decoder of frames, and a vocoder."""

    def __init__(
        self, content: ContentEncoder, decoder: VoiceDecoder, vocoder: Vocoder, about: str = "", digest: str = ""
    ) -> None:
        """Hold networks.

        Args:
            content: Says what is said.
            decoder: Draws frames.
            vocoder: Makes them heard.
            about: What they were trained on.
            digest: Hex digest of their files.
        """
        self.content, self.decoder, self.vocoder = content.eval(), decoder.eval(), vocoder.eval()
        self.about, self.digest = about, digest
        self.balance, self.nearness = _BALANCE, _NEARNESS

    @property
    def sample_rate(self) -> int:
        """Hz of what is made."""
        return self.vocoder.config.spectrogram.sample_rate

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str] | None = None) -> VoiceConverter:
        """Open a folder that `embedspace train generator` wrote; the one that ships by default.

        Raises:
            WeightsError: If a file is missing or damaged.
            ConfigError: If its configuration has an unknown key.
        """
        where = Path(folder) if folder is not None else SHIPPED
        config = read_config(where / "config.json", 1, _ABOUT)
        vocoder = load_vocoder(where)
        sizes = build(DecoderConfig, config.get("decoder", {}), str(where / "config.json"))
        decoder = load_module(lambda: VoiceDecoder(sizes, vocoder.config.spectrogram), where / "decoder.safetensors")
        content = load_module(lambda: ContentEncoder(sizes.content), where / "content.safetensors")
        names = ("config.json", "content.safetensors", "decoder.safetensors", "vocoder.safetensors")
        digest = hashlib.sha256(b"".join((where / name).read_bytes() for name in names)).hexdigest()
        return cls(content, decoder, vocoder, str(config.get("about", "")), digest)

    def reference(self, source: str | os.PathLike[str] | NDArray[np.float32], *, checked: bool = True) -> Reference:
        """Read a voice to convert to; of a long recording its first minute.

        Args:
            source: A recording or a video in which one person speaks, or its samples (T,) at 16 kHz.
            checked: Refuse what is no speech.

        Raises:
            InputError: If nobody speaks in it, or for less than `LEAST_SECONDS`.
            EmptyMediaError: If it is silent.
            MediaError: If it cannot be read.
        """
        name = "the reference" if isinstance(source, np.ndarray) else str(source)
        waveform = self._samples(source, LONGEST_SECONDS)
        if checked:
            check_speech(waveform, name, LEAST_SECONDS, "a reference")
        frames = frames_of(waveform, self.content, self.decoder.spectrogram)
        return Reference(frames, Path(name).name, hashlib.sha256(waveform.tobytes()).hexdigest())

    def convert(
        self, source: str | os.PathLike[str] | NDArray[np.float32], voice: Reference, *, checked: bool = True
    ) -> NDArray[np.float32]:
        """Return what is said in a recording, in another voice: (T,) float32 in [-1, 1] at `sample_rate`.

        Args:
            source: A recording, the sound of a video, or samples (T,) at 16 kHz.
            voice: Whose.
            checked: Refuse what is no speech.

        Raises:
            InputError: If nobody speaks in it.
            EmptyMediaError: If it is silent.
            MediaError: If it cannot be read.
        """
        name = "the source" if isinstance(source, np.ndarray) else str(source)
        waveform = self._samples(source, None)
        if checked:
            check_speech(waveform, name, _SOURCE_SECONDS, "what is converted")
        frames = frames_of(waveform, self.content, self.decoder.spectrogram)
        return self.heard(self.draw(frames, voice.frames))

    def heard(self, mel: Tensor) -> NDArray[np.float32]:
        """Return the samples (T * hop_length,) of log-mel frames (n_mels, T), as loud as they may be."""
        hop = self.vocoder.config.spectrogram.hop_length
        with torch.inference_mode():
            parts = [
                self.vocoder(mel[None, :, a:b])[0][(first - a) * hop : (last - a) * hop]
                for first, last, a, b in _spans(mel.shape[1])
            ]
        sound = torch.cat(parts)
        made: NDArray[np.float32] = (sound * (_LEVEL / max(float(sound.abs().max()), 1e-5))).numpy()
        return made

    def about_of(self, voice: Reference) -> dict[str, str]:
        """Return what goes into a converted file: which recording the voice is of, and that nobody said it."""
        return {
            "family": "voice conversion", "voice": voice.name, "voice_sha256": voice.sha256, "weights": self.digest,
            "notice": NOTICE,
        }  # fmt: skip

    @torch.inference_mode()
    def draw(self, source: VoiceFrames, voice: VoiceFrames) -> Tensor:
        """Return log-mel frames (n_mels, T) of what a source says in a reference's voice."""
        pitch = _pitch(source, voice)
        sums = reference_sums(voice)[None]
        first = VoiceFrames(
            source.mel[:_FITTED], source.content[:_FITTED], source.pitch[:_FITTED], source.loudness[:_FITTED]
        )
        neighbours = self.decoder.config.neighbours
        found = [nearest_frames(part, voice, neighbours) for part in torch.split(source.content, _PART)]
        near, cosine = (torch.cat(parts) for parts in zip(*found, strict=True))
        envelope = matched_envelope(source, voice, fitting_warp(first, voice, near[:_FITTED]))

        def part(first: int, last: int) -> Tensor:
            span = slice(first, last)
            inputs = self.decoder.inputs(
                source.content[span], pitch[span], source.loudness[span], envelope[span], voice
            )
            out: Tensor = self.decoder(inputs[None], sums)[0]
            return out

        drawn = torch.cat([part(a, b)[:, first - a : last - a] for first, last, a, b in _spans(len(source))], dim=1)
        return _balanced(_nearer(drawn, source, near, self.nearness * _trust(cosine)), source, voice, self.balance)

    def _samples(
        self, source: str | os.PathLike[str] | NDArray[np.float32], seconds: float | None
    ) -> NDArray[np.float32]:
        if isinstance(source, np.ndarray):
            waveform = source.astype(np.float32, copy=False)
            return waveform if seconds is None else waveform[: int(seconds * self.sample_rate)]
        return load_audio(source, sample_rate=self.sample_rate, duration=seconds).waveform  # mixed down


def load_vocoder(folder: Path) -> Vocoder:
    """Open a vocoder.

    Raises:
        WeightsError: If a file is missing or damaged.
        ConfigError: If its configuration has an unknown key.
    """
    config = read_config(folder / "config.json", 1, "a vocoder")
    sizes = build(VocoderConfig, config.get("vocoder", {}), str(folder / "config.json"))
    return load_module(lambda: Vocoder(sizes), folder / "vocoder.safetensors")


def _pitch(source: VoiceFrames, voice: VoiceFrames) -> NDArray[np.float32]:
    """Return the source's melody at the height, and about with the liveliness, of the reference's."""
    (mean, spread), (wanted, other) = source.log_pitch, voice.log_pitch
    scale = float(np.clip(other / max(spread, 1e-3), *_SPREAD))
    moved = np.exp(wanted + (np.log(np.maximum(source.pitch, 1.0)) - mean) * scale)
    return np.where(source.pitch > 0, moved, 0.0).astype(np.float32)


def _trust(cosine: Tensor) -> Tensor:
    """Return (T, 1) 0 to 1: how far nearest frames of a cosine say the same; few references say everything."""
    return ((cosine - _STRANGE) / (_SAME - _STRANGE)).clamp(0, 1)


def _nearer(mel: Tensor, source: VoiceFrames, near: Tensor, share: Tensor) -> Tensor:
    """Return frames (n_mels, T) whose envelopes are shares (T, 1) of the way to the nearest frames' (T, n_mels)."""
    away = smoothed(near) - smoothed(mel.T)
    return mel + (share * away * source.is_loud[:, None]).T


def _balanced(mel: Tensor, source: VoiceFrames, voice: VoiceFrames, share: float) -> Tensor:
    """Return frames whose loud ones have, band by band, the reference's mean and deviation, to a share.

    Source: Toda and Tokuda 2007, "A speech parameter generation algorithm considering global variance", section 3.
    """
    loud, wanted = source.is_loud, voice.mel[voice.is_loud].T
    own = mel[:, loud]
    mean, deviation = own.mean(dim=1, keepdim=True), own.std(dim=1, unbiased=False, keepdim=True).clamp(min=1e-3)
    scale = (wanted.std(dim=1, unbiased=False, keepdim=True) / deviation).clamp(0.7, 1.5)
    moved = (own - mean) * scale + wanted.mean(dim=1, keepdim=True)
    out = mel.clone()
    out[:, loud] = own + share * (moved - own)
    return out.clamp(-1, 1)


def _spans(count: int) -> list[tuple[int, int, int, int]]:
    """Return (first, last) of each part of so many frames, and the same with context."""
    return [
        (first, min(first + _PART, count), max(0, first - _CONTEXT), min(first + _PART + _CONTEXT, count))
        for first in range(0, count, _PART)
    ]


@functools.cache
def shipped_converter() -> VoiceConverter:
    """Return the converter that ships, opened once."""
    return VoiceConverter.from_pretrained()
