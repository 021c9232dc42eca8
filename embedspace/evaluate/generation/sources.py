"""What prompts are generated from: vectors of texts, pictures, sounds, recordings, or of the prompts read aloud."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import EmbedspaceError
from embedspace.evaluate.generation.session import Session
from embedspace.evaluate.generation.suites import VOICE
from embedspace.evaluate.items import EvalItem
from embedspace.generate.speech import voices
from embedspace.modality import Modality

__all__ = ["SourceVectors", "vectors_for"]


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


def vectors_for(session: Session[Any], prompts: Sequence[EvalItem], source: str) -> SourceVectors:
    """Return the vectors of a source for the prompts that it has.

    Args:
        session: Session of the suite; failures are recorded there.
        prompts: What is asked for.
        source: Name of a set, whose first item with a prompt's key is taken; or "voice engine:name".
    """
    if source.startswith(VOICE):
        return _spoken_vectors(session, prompts, source.removeprefix(VOICE))
    return _set_vectors(session, prompts, source)


def _set_vectors(session: Session[Any], prompts: Sequence[EvalItem], source: str) -> SourceVectors:
    modality = session.suite.sets[source].modality
    firsts: dict[str, EvalItem] = {}
    for item in session.items[source]:
        firsts.setdefault(item.key, item)
    have = [number for number, item in enumerate(prompts) if item.key in firsts]
    rows = session.encoder.encode([firsts[prompts[number].key] for number in have], modality, f"encode {source}")
    good = [k for k in range(len(have)) if np.isfinite(rows[k]).all()]
    return SourceVectors([have[k] for k in good], rows[good], modality)


def _spoken_vectors(session: Session[Any], prompts: Sequence[EvalItem], voice: str) -> SourceVectors:
    """Return the vectors of the prompts' words as a voice says them; what cannot be said is recorded and left out."""
    have: list[int] = []
    rows: list[NDArray[np.float32]] = []
    for number, item in enumerate(prompts):
        try:
            said, _ = voices.speak(item.content, voice)
            rows.append(session.space.encode_speech([said], sample_rate=voices.SAMPLE_RATE)[0])
        except EmbedspaceError as error:
            session.failures[f"{voice}: {item.id}"] = str(error)
            continue
        have.append(number)
        session.tell(f"hear {voice}", number + 1, len(prompts))
    empty = np.zeros((0, session.space.embed_dim), np.float32)
    return SourceVectors(have, np.stack(rows) if rows else empty, Modality.SPEECH.value)
