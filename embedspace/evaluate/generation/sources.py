"""What prompts are generated from: vectors of texts, pictures, sounds, recordings, or of the prompts read aloud."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import EmbedspaceError
from embedspace.evaluate.encode import Progress, SuiteEncoder
from embedspace.evaluate.items import EvalItem
from embedspace.evaluate.suite import ItemSet
from embedspace.modality import Modality
from embedspace.space import EmbeddingSpace

__all__ = ["VOICE", "SourceVectors", "source_vectors", "spoken_vectors"]

VOICE = "voice "
"""A source that starts with this is the prompts' words, said by the voice that it names."""


@dataclass(frozen=True, slots=True, eq=False)
class SourceVectors:
    """Vectors that prompts are generated from.

    Attributes:
        have: Which prompts have one.
        vectors: (len(have), embed_dim) rows of the space.
        modality: What encoded them.
    """

    have: list[int]
    vectors: NDArray[np.float32]
    modality: str


def source_vectors(
    prompts: Sequence[EvalItem],
    source: str,
    sets: Mapping[str, ItemSet],
    items: Mapping[str, list[EvalItem]],
    encoder: SuiteEncoder,
) -> SourceVectors:
    """Return the vectors of a set's items that have the prompts' keys, the first of each key.

    Args:
        prompts: What is asked for.
        source: Name of the set.
        sets: Of the suite.
        items: Of each set.
        encoder: Keeps vectors, and what could not be encoded.
    """
    modality = sets[source].modality
    firsts: dict[str, EvalItem] = {}
    for item in items[source]:
        firsts.setdefault(item.key, item)
    have = [number for number, item in enumerate(prompts) if item.key in firsts]
    rows = encoder.encode([firsts[prompts[number].key] for number in have], modality, f"encode {source}")
    good = [k for k in range(len(have)) if np.isfinite(rows[k]).all()]
    return SourceVectors([have[k] for k in good], rows[good], modality)


def spoken_vectors(
    prompts: Sequence[EvalItem], voice: str, space: EmbeddingSpace, failures: dict[str, str], tell: Progress
) -> SourceVectors:
    """Return the vectors of the prompts' words as a voice says them; what cannot be said is recorded and left out."""
    from embedspace.generate.speech.voices import SAMPLE_RATE, speak

    have: list[int] = []
    rows: list[NDArray[np.float32]] = []
    for number, item in enumerate(prompts):
        try:
            said, _ = speak(item.content, voice)
            rows.append(space.encode_speech([said], sample_rate=SAMPLE_RATE)[0])
        except EmbedspaceError as error:
            failures[f"{voice}: {item.id}"] = str(error)
            continue
        have.append(number)
        tell(f"hear {voice}", number + 1, len(prompts))
    empty = np.zeros((0, space.embed_dim), np.float32)
    return SourceVectors(have, np.stack(rows) if rows else empty, Modality.SPEECH.value)
