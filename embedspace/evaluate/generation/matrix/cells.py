"""Score one cell of the matrix: how often what is made from a source is known for what it should be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import ConfigError
from embedspace.evaluate.generation.judges import Judge, known_among, load_judge, named_function
from embedspace.evaluate.generation.matrix.suite import MatrixSuite
from embedspace.evaluate.generation.measures.words import names_any
from embedspace.evaluate.generation.media.medium import medium_of
from embedspace.evaluate.generation.samples import SampleCache
from embedspace.evaluate.generation.session import Session
from embedspace.evaluate.generation.sources import SourceVectors
from embedspace.evaluate.items import EvalItem
from embedspace.generate import Request, Sample, generate
from embedspace.media.resample import resample_waveform
from embedspace.modality import Modality

__all__ = ["MADE", "RECALL_AT", "Cells", "open_cells"]

RECALL_AT = 10
MADE = (Modality.IMAGE, Modality.AUDIO, Modality.TEXT, Modality.SPEECH)
"""What the cells know a judge of."""
_EARS = 16_000  # Hz, what the recogniser hears at


@dataclass(frozen=True)
class Cells:
    """What cells are scored with.

    Attributes:
        session: Session of the suite.
        pictures: Judge of pictures.
        sounds: Judge of sounds.
        hear: Turns waveforms at 16 kHz into words.
        prompts: The concepts that are asked for.
        captions: Captions among which a picture's own is searched.
    """

    session: Session[MatrixSuite]
    pictures: Judge
    sounds: Judge
    hear: Callable[[list[Any]], list[str]]
    prompts: list[EvalItem]
    captions: list[str]

    def score(self, to: str, found: SourceVectors) -> NDArray[np.float64]:
        """Return (len(found.have),) share of each prompt's samples that are known for what they should be."""
        scorers = {
            Modality.IMAGE.value: self._pictures,
            Modality.AUDIO.value: self._sounds,
            Modality.TEXT.value: self._texts,
            Modality.SPEECH.value: self._speech,
        }
        return scorers[to](found)

    def _names(self, number: int) -> list[str]:
        """Return what a prompt's concept is called."""
        prompt = self.prompts[number]
        return [prompt.key, prompt.content, *map(str, prompt.row.get("captions", ()))]

    def _pictures(self, found: SourceVectors) -> NDArray[np.float64]:
        own = [item.content for item in self.prompts]
        return self._known("image", self.pictures, found, self.captions, own, RECALL_AT)

    def _sounds(self, found: SourceVectors) -> NDArray[np.float64]:
        own = [item.key for item in self.prompts]
        return self._known("audio", self.sounds, found, list(self.sounds.concepts), own, 1)

    def _known(
        self, to: str, judge: Judge, found: SourceVectors, names: list[str], own: Sequence[str], depth: int
    ) -> NDArray[np.float64]:
        """Return the share of each prompt's samples in which the judge names its own among the first `depth`."""
        session, seeds = self.session, self.session.suite.seeds
        _, medium = medium_of(session.space.generators[to])
        samples = SampleCache(session.space, to, medium, seeds, session.cache, session.tell)
        contents = samples.of(found.vectors, found.modality, f"{found.modality} -> {to}")
        features = judge.features([content for group in contents for content in group], medium.sample_rate)
        wanted = [own[number] for number in found.have for _ in seeds]
        hits = known_among(judge, features, wanted, names, depth).reshape(-1, len(seeds))
        means: NDArray[np.float64] = hits.mean(axis=1)
        return means

    def _texts(self, found: SourceVectors) -> NDArray[np.float64]:
        return self._named(Modality.TEXT, found, lambda sample: sample.text)

    def _speech(self, found: SourceVectors) -> NDArray[np.float64]:
        def words(sample: Sample) -> str:
            clip = resample_waveform(np.asarray(sample.content, np.float32), sample.sample_rate, _EARS)
            return self.hear([clip])[0]

        return self._named(Modality.SPEECH, found, words)

    def _named(self, to: Modality, found: SourceVectors, words: Callable[[Sample], str]) -> NDArray[np.float64]:
        """Return (len(found.have),) whether the words of each prompt's sample hold a name of its concept."""
        suite = self.session.suite
        request = Request(seed=suite.seeds[0], voice=suite.voice if to == Modality.SPEECH else None)
        hits = []
        for number, vector in zip(found.have, found.vectors, strict=True):
            (samples,) = generate(
                self.session.space, vector, to=to, modality=found.modality, request=request, force=True
            )
            hits.append(float(names_any(words(samples[0]), self._names(number))))
            self.session.tell(f"{found.modality} -> {to}", len(hits), len(found.have))
        return np.array(hits)


def open_cells(session: Session[MatrixSuite]) -> Cells:
    """Load the judges, and choose the concepts that they know.

    Raises:
        ConfigError: If a judge cannot be loaded, or the judge of sounds knows none of the concepts.
    """
    suite, items = session.suite, session.items
    pictures, sounds = load_judge(suite.pictures), load_judge(suite.sounds)
    prompts = [item for item in items[suite.concepts] if item.key in sounds.concepts]
    if not prompts:
        raise ConfigError(f"suite {suite.name}: the judge of sounds knows no concept of set {suite.concepts!r}")
    own = (item.content for item in prompts)
    more = (item.content for name in suite.captions for item in items[name])
    captions = list(dict.fromkeys([*own, *more]))[: suite.gallery]
    return Cells(session, pictures, sounds, named_function(suite.ears), prompts, captions)
