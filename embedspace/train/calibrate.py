"""After training: the modalities' means, the background of each pair, and what a hit is worth as a probability."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration.fit import fit_pair
from embedspace.calibration.model import Calibration, PairCalibration
from embedspace.train.episodes import SIZES, Episodes, draw_episodes, fit_episodes, measure_cutoffs

__all__ = ["Anchored", "Searches", "calibrate", "draw", "fit_pairs", "with_cutoffs"]


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


@dataclass(frozen=True)
class Searches:
    """Queries and what they search, for fitting or measuring one ordered pair of modalities.

    Attributes:
        pair: "query>target".
        queries: A query per row.
        gallery: What can be found, and what only fills galleries.
        own: Whether the queries are items of the gallery themselves: exact copies are then never met.
    """

    pair: str
    queries: Anchored
    gallery: Anchored
    own: bool = False


def calibrate(anchored: Mapping[str, Anchored], seed: int = 0) -> Calibration:
    """Measure means and pairs.

    Args:
        anchored: Modality -> items of validation splits, with the concepts they show.
        seed: Seed of the sampled background pairs and galleries.

    Returns:
        A calibration with every ordered pair that has at least 20 matching and 20 other pairs; others keep the default.
    """
    anchored = {m: a for m, a in anchored.items() if len(a.vectors)}
    means = {m: a.vectors.mean(axis=0).astype(np.float32) for m, a in anchored.items()}
    every = [
        Searches(f"{left}>{right}", a, b, left == right)
        for left, a in anchored.items()
        for right, b in anchored.items()
    ]
    return Calibration(means, fit_pairs(every, seed))


def fit_pairs(searches: Iterable[Searches], seed: int = 0) -> dict[str, PairCalibration]:
    """Fit every pair that some searches are of.

    Args:
        searches: Several of one pair count alike, whatever their number of queries up to a bound.
        seed: Seed of the sampled background pairs and galleries.

    Returns:
        "query>target" -> calibration, its line over the cosine by the first searches of the pair; without what has
        fewer than 20 matching and 20 other pairs.
    """
    searches, random = list(searches), np.random.default_rng(seed)
    lines: dict[str, PairCalibration] = {}
    episodes: dict[str, list[Episodes]] = {}
    for some in searches:
        if some.pair not in lines:
            line = _cosine_pair(some.queries, some.gallery, some.own, random)
            if line is None:
                continue
            lines[some.pair] = line
        episodes.setdefault(some.pair, []).append(draw(some, SIZES, random))
    fitted = {
        pair: dataclasses.replace(lines[pair], model=fit_episodes(drawn)) for pair, drawn in sorted(episodes.items())
    }
    return with_cutoffs(fitted, searches, seed)


def with_cutoffs(
    pairs: Mapping[str, PairCalibration], searches: Iterable[Searches], seed: int = 0
) -> dict[str, PairCalibration]:
    """Measure the cut-offs of pairs that have a model, or their line over the cosine.

    Args:
        pairs: "query>target" -> calibration.
        searches: Those of other pairs are passed over.
        seed: Seed of the galleries.

    Returns:
        The pairs that some searches are of, with cut-offs.
    """
    random = np.random.default_rng(seed)
    episodes: dict[str, list[Episodes]] = {}
    for some in searches:
        if some.pair in pairs:
            episodes.setdefault(some.pair, []).append(draw(some, SIZES, random, most=_MANY))
    return {
        pair: dataclasses.replace(pairs[pair], cutoffs=measure_cutoffs(pairs[pair], drawn))
        for pair, drawn in sorted(episodes.items())
    }


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


def draw(searches: Searches, sizes: Sequence[int], random: np.random.Generator, *, most: int = 120) -> Episodes:
    """Draw galleries of some sizes for the queries, or for as many of them."""
    queries, gallery = searches.queries, searches.gallery
    chosen = np.sort(random.permutation(len(queries.vectors))[:most])
    starts = np.flatnonzero(np.diff(gallery.numbers, prepend=-1))
    scores = np.maximum.reduceat(queries.vectors[chosen] @ gallery.vectors.T, starts, axis=1)
    same = queries.concepts[chosen, None] == gallery.concepts[None, :]
    matches = np.maximum.reduceat(same, starts, axis=1)
    barred = scores > _COPY if searches.own else np.zeros_like(matches)
    return draw_episodes(scores, matches, sizes, random, barred=barred)


RIDGE = 1e-5  # the classes overlap and are large: it only guards against separable toys
_FEWEST = 20
_BACKGROUND = 200_000
_COPY = 0.9999
_MANY = 400
"""Queries that cut-offs are measured with: one in ten right first hits is what counts."""
