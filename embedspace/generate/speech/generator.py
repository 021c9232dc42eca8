"""The speech head: the text head's caption, said by a voice that is installed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from embedspace.generate.base import GeneratorHead, Request, Sample, create_head, register_head
from embedspace.generate.speech.voices import SAMPLE_RATE, speak
from embedspace.modality import Modality

if TYPE_CHECKING:
    from embedspace.space import EmbeddingSpace

__all__ = ["SpeechHead"]


class SpeechHead(GeneratorHead):
    """Words from the text head, sound from a voice; the words are returned with the sound."""

    modality: ClassVar[Modality] = Modality.SPEECH
    families = ("spoken caption",)

    def __init__(self, captions: GeneratorHead) -> None:
        super().__init__()
        self.captions = captions
        self.sigma = captions.sigma

    def generate(
        self, vectors: NDArray[np.float32], sigma: NDArray[np.float32], request: Request
    ) -> list[list[Sample]]:
        """Return for each vector its best captions, spoken."""
        self.check_family(request)
        plain = dataclasses.replace(request, family=None)
        return [
            [self._say(sample, request.voice) for sample in samples]
            for samples in self.captions.generate(vectors, sigma, plain)
        ]

    def _say(self, caption: Sample, voice: str | None) -> Sample:
        waveform, used = speak(caption.text, voice)
        return dataclasses.replace(
            caption,
            modality=Modality.SPEECH.value,
            content=waveform,
            sample_rate=SAMPLE_RATE,
            provenance={"voice": used, "words": caption.text, "caption_weights": self.captions.digest},
        )


@register_head(Modality.SPEECH)
def _create(config: Mapping[str, Any], folder: Path, space: EmbeddingSpace) -> SpeechHead:
    if set(config) - {"format", "text_head"}:
        raise KeyError(f"unknown {sorted(set(config) - {'format', 'text_head'})}")
    return SpeechHead(create_head(Modality.TEXT, folder.parent, space))
