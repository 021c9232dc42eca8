"""After training: the modalities' means, the background of each pair, and what a hit is worth as a probability."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration import Calibration, PairCalibration
from embedspace.calibration_fit import fit_pair
from embedspace.train.episodes import SIZES, Episodes, draw_episodes, fit_episodes

__all__ = ["Anchored", "calibrate"]


@dataclass(frozen=True)
class Anchored:
    """Items of one modality that were not trained on.

    Attributes:
        vectors: (N, embed_dim) unit rows.
        concepts: (N,) what each row shows; equal strings belong together.
        items: (N,) ascending: which item each row is a part of; every row is an item of its own where None. An item
            belongs to what any of its rows belongs to, and scores as the best of them.
    """

    vectors: NDArray[np.float32]
    concepts: NDArray[np.str_]
    items: NDArray[np.int64] | None = None

    @property
    def numbers(self) -> NDArray[np.int64]:
        """(N,) ascending item numbers."""
        return np.arange(len(self.vectors)) if self.items is None else self.items


def calibrate(
    anchored: Mapping[str, Anchored],
    seed: int = 0,
    *,
    asked: Mapping[str, Anchored] | None = None,
    fillers: Mapping[str, Anchored] | None = None,
    sizes: Sequence[int] = SIZES,
) -> Calibration:
    """Measure means and pairs.

    Args:
        anchored: Modality -> items of validation splits, with the concepts they show: queries and answers.
        seed: Of the sampled background pairs and galleries.
        asked: Modality -> further queries, which are nothing to be found: questions, paraphrases, composed ("mixed").
        fillers: Modality -> items that only fill galleries; may be of training splits.
        sizes: Galleries to fit on, as far as there are items.

    Returns:
        A calibration with every ordered pair that has at least 20 matching and 20 other pairs; others keep the default.
    """
    anchored = {m: a for m, a in anchored.items() if len(a.vectors)}
    means = {m: a.vectors.mean(axis=0).astype(np.float32) for m, a in anchored.items()}
    random = np.random.default_rng(seed)
    pairs: dict[str, PairCalibration] = {}
    for left in [*anchored, *(m for m in asked or {} if m not in anchored)]:
        for right, found in anchored.items():
            pair = _cosine_pair(anchored.get(left) or (asked or {})[left], found, left == right, random)
            if pair is None:
                continue
            episodes = []
            gallery = _joined(found, (fillers or {}).get(right))
            for queries, own in ((anchored.get(left), left == right), ((asked or {}).get(left), False)):
                if queries is not None and len(queries.vectors):
                    episodes.append(_episodes(queries, gallery, own, sizes, random))
            model = fit_episodes(episodes)
            pairs[f"{left}>{right}"] = pair if model is None else dataclasses.replace(pair, model=model)
    return Calibration(means, pairs)


def _cosine_pair(a: Anchored, b: Anchored, same_side: bool, random: np.random.Generator) -> PairCalibration | None:
    """Fit the line over the cosine; None where too few pairs match or differ."""
    scores = a.vectors @ b.vectors.T
    same = a.concepts[:, None] == b.concepts[None, :]
    if same_side:
        np.fill_diagonal(same, False)
    match, other = scores[same], scores[~same]
    if same_side:
        other = other[other < _COPY]  # an item with itself, or an exact copy
    if min(len(match), len(other)) < _FEWEST:
        return None
    return fit_pair(match, random.choice(other, min(len(other), _BACKGROUND), replace=False), ridge=RIDGE)


def _joined(items: Anchored, more: Anchored | None) -> Anchored:
    if more is None or not len(more.vectors):
        return items
    numbers = items.numbers
    return Anchored(
        np.concatenate([items.vectors, more.vectors]),
        np.concatenate([items.concepts, more.concepts]),
        np.concatenate([numbers, more.numbers + int(numbers[-1]) + 1]),
    )


def _episodes(
    queries: Anchored, gallery: Anchored, own: bool, sizes: Sequence[int], random: np.random.Generator
) -> Episodes:
    """Draw galleries for at most `_QUERIES` queries; `own` if these are the gallery's first items themselves."""
    chosen = np.sort(random.permutation(len(queries.vectors))[:_QUERIES])
    starts = np.flatnonzero(np.diff(gallery.numbers, prepend=-1))
    rows = queries.vectors[chosen] @ gallery.vectors.T
    scores = np.maximum.reduceat(rows, starts, axis=1)
    matches = np.maximum.reduceat(queries.concepts[chosen, None] == gallery.concepts[None, :], starts, axis=1)
    barred = scores > _COPY if own else np.zeros_like(matches)
    return draw_episodes(scores, matches, sizes, random, barred=barred)


RIDGE = 1e-5  # the classes overlap and are large: it only guards against separable toys
_FEWEST = 20
_BACKGROUND = 200_000
_COPY = 0.9999
_QUERIES = 300
