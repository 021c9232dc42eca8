"""The generator of speech: a caption, said by a voice that is installed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.generate.base import Generator, GeneratorSpace, Request, Sample
from embedspace.generate.registry import create_generator, register_generator
from embedspace.generate.speech import voices
from embedspace.generate.targets import option_names
from embedspace.modality import Modality

__all__ = ["SpeechGenerator"]


class SpeechGenerator(Generator):
    """Words from the generator of captions, sound from a voice; the words are returned with the sound."""

    modality = Modality.SPEECH.value
    options = option_names("speech")
    families = ("spoken caption",)

    def __init__(self, captions: Generator) -> None:
        super().__init__()
        self.captions = captions
        self.sigma = captions.sigma

    def generate(
        self, vectors: NDArray[np.float32], sigma: NDArray[np.float32], request: Request
    ) -> list[list[Sample]]:
        """Return for each vector its best captions, spoken."""
        plain = dataclasses.replace(request, family=None, voice=None)
        return [
            [self._say(sample, request.voice) for sample in samples]
            for samples in self.captions.generate(vectors, sigma, plain)
        ]

    def _say(self, caption: Sample, voice: str | None) -> Sample:
        waveform, used = voices.speak(caption.text, voice)
        return dataclasses.replace(
            caption,
            modality=Modality.SPEECH.value,
            content=waveform,
            sample_rate=voices.SAMPLE_RATE,
            provenance={"voice": used, "words": caption.text, "caption_weights": self.captions.digest},
        )


@register_generator("speech")
def _create(config: Mapping[str, Any], folder: Path, space: GeneratorSpace) -> SpeechGenerator:
    if config:
        raise KeyError(f"unknown {sorted(config)}")
    return SpeechGenerator(create_generator("text", folder.parent, space))
