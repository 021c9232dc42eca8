"""The generators' vocabulary: captions of the training split, and how near to one of them known things lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedspace.train.generators.run import GeneratorRun
from embedspace.train.loop import FitProgress
from embedspace.vocabulary import Vocabulary

__all__ = ["FEWEST", "KNOWN", "Validation", "refused_share", "threshold_of", "train", "validation_rows"]

KNOWN = 1.0
"""Percent of validation items that may count as unknown."""
FEWEST = 20
"""Validation items of a modality that are enough."""


@dataclass(frozen=True)
class Validation:
    """Validation items of one modality.

    Attributes:
        vectors: (N, embed_dim) centred unit rows.
        concepts: N names of what they show or say; items of one concept are alike.
    """

    vectors: NDArray[np.float32]
    concepts: list[str]


def train(run: GeneratorRun) -> None:
    """Write memory.safetensors and memory.json; nothing is learnt but the thresholds."""
    texts = run.texts
    unseen = {str(row["id"]) for row in run.rows if row.get("modality") != "image"}
    pictured = [place for place, item in enumerate(texts.items) if item not in unseen]
    vocabulary = Vocabulary(texts.vectors, texts.texts, texts.items, pictured=pictured)
    nearest = {name: threshold_of(vocabulary, held.vectors) for name, held in validation_rows(run).items()}
    nearest["mixed"] = min(nearest.values(), default=0.0)
    vocabulary.known_cosine = nearest
    vocabulary.save(run.folder, run.space.config["files"].get("text.safetensors", ""))
    run.tell(FitProgress("vocabulary", 1, 1, 0.0, {"captions": float(len(vocabulary)), **nearest}))


def validation_rows(run: GeneratorRun) -> dict[str, Validation]:
    """Return modality -> its validation items; training items where fewer than 20 are for validation."""
    captions = {
        row["captions"][0]: str(row.get("concept") or row["captions"][0])
        for row in run.rows
        if row.get("split") == "val" and row.get("captions") and row["captions"][0] in run.vectors
    }
    held = sorted(captions)
    found = {}
    if held:
        found["text"] = Validation(np.stack([run.vectors[text] for text in held]), [captions[text] for text in held])
    for modality in ("image", "audio", "speech"):
        own = run.own(modality)
        if own is None:
            continue
        vectors, rows = own.of_split("val")
        if len(vectors) < FEWEST:
            vectors, rows = own.of_split("train")  # never what was encoded for a test
        if not len(vectors):
            continue
        found[modality] = Validation(vectors, [str(row.get("concept") or row["id"]) for row in rows])
    return found


def threshold_of(vocabulary: Vocabulary, vectors: NDArray[np.float32], percent: float = KNOWN) -> float:
    """Return the cosine with the nearest caption that `percent` of known things do not reach.

    Args:
        vocabulary: Captions.
        vectors: (N, embed_dim) centred unit rows of known things.
        percent: Percentage of them that may count as unknown.
    """
    return round(float(np.percentile(vocabulary.cosines(vectors).max(axis=1), percent)), 4)


def refused_share(vocabulary: Vocabulary, held: Validation, percent: float = KNOWN) -> float:
    """Return the share of known things that a threshold set on other concepts refuses.

    Half of the concepts set the threshold, the other half is measured, and the other way round.
    """
    names = sorted(set(held.concepts))
    side = np.array([names.index(name) % 2 for name in held.concepts])
    refused: list[bool] = []
    for half in (0, 1):
        limit = threshold_of(vocabulary, held.vectors[side == half], percent)
        refused += _nearest(vocabulary, held.vectors[side != half], limit)
    return float(np.mean(refused))


def _nearest(vocabulary: Vocabulary, vectors: NDArray[np.float32], limit: float) -> Sequence[bool]:
    found: list[bool] = (vocabulary.cosines(vectors).max(axis=1) < limit).tolist()
    return found
