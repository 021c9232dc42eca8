"""Searches drawn from scores that are already there: galleries of many sizes with none, one or several matches.

A probability depends on what was searched, so its model is fitted on searches, not on pairs. Half of them hold no
match.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration.background import background_of
from embedspace.calibration.fit import cutoffs_of, cutoffs_of_line, fit_model
from embedspace.calibration.model import MatchModel, PairCalibration, match_features, to_probability

__all__ = ["SIZES", "Episodes", "draw_episodes", "fit_episodes", "measure_cutoffs"]

SIZES = (30, 100, 300, 1_000, 3_000, 10_000)
"""Items in a gallery."""
_HITS = 5
_LATER = 0.1
"""What a hit after the first counts for in the fit."""
_SEVERAL = 5
_SAMPLE = 4096
_FEWEST = 20
_RANGE = 10


@dataclass(frozen=True)
class Episodes:
    """Hits of many searches.

    Attributes:
        features: (n, 6) `match_features` of each hit.
        is_match: (n,) whether it is one.
        rank: (n,) its place, from 0.
        size: (n,) items in its gallery.
        weight: (n,) of its search.
        query: (n,) number of the query.
        present: (n,) matches in the gallery.
    """

    features: NDArray[np.float64]
    is_match: NDArray[np.bool_]
    rank: NDArray[np.int64]
    size: NDArray[np.int64]
    weight: NDArray[np.float64]
    query: NDArray[np.int64]
    present: NDArray[np.int64]

    @classmethod
    def joined(cls, several: Sequence[Episodes]) -> Episodes:
        """Join the hits of some searches; at least one."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(*(np.concatenate([getattr(found, name) for found in several]) for name in names))


def draw_episodes(
    scores: NDArray[np.float32],
    matches: NDArray[np.bool_],
    sizes: Sequence[int],
    random: np.random.Generator,
    *,
    barred: NDArray[np.bool_] | None = None,
) -> Episodes:
    """Search galleries drawn for each query: of every size one without a match, one with one, one with several.

    Args:
        scores: (Q, G) cosines of queries with all items.
        matches: (Q, G) which belong together.
        sizes: Items in a gallery; one of all that there are where the smallest is larger.
        random: Draws them.
        barred: (Q, G) items that a query never meets, itself above all.

    Returns:
        The first hits of every search. Searches without a match weigh as much as the others together.
    """
    drawn: list[Episodes] = []
    barred = np.zeros_like(matches) if barred is None else barred
    for query in range(len(scores)):
        right = scores[query, matches[query] & ~barred[query]]
        wrong = scores[query, ~matches[query] & ~barred[query]]
        if not len(right) or len(wrong) < _HITS:
            continue
        for size in [size for size in sizes if size <= len(wrong)] or [len(wrong)]:
            others = random.choice(wrong, size, replace=False)
            several = min(int(random.integers(2, _SEVERAL + 1)), len(right), size // 2)
            for count, weight in ((0, 2.0), (1, 1.0), (max(several, 1), 1.0)):
                features, labels = _search(random.choice(right, count, replace=False), others[count:], random)
                rank = np.arange(len(labels))
                facts = (np.full(len(labels), value) for value in (size, weight, query, count))
                drawn.append(Episodes(features, labels, rank, *facts))
    if not drawn:
        none = np.zeros(0, np.int64)
        return Episodes(np.zeros((0, 6)), none.astype(bool), none, none, none.astype(float), none, none)
    return Episodes.joined(drawn)


def _search(
    right: NDArray[np.float32], wrong: NDArray[np.float32], random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the features and labels of the first hits among some matches and others."""
    scores = np.concatenate([right, wrong])
    best = np.argpartition(-scores, _HITS - 1)[:_HITS] if len(scores) > _HITS else np.arange(len(scores))
    best = best[np.argsort(-scores[best], kind="stable")]
    seen = scores if len(scores) <= _SAMPLE else random.choice(scores, _SAMPLE, replace=False)
    return match_features(scores[best], background_of(seen, len(scores))[0]), best < len(right)


def fit_episodes(episodes: Sequence[Episodes]) -> MatchModel | None:
    """Fit the model of a pair on all its searches.

    Args:
        episodes: One for each kind of searches.

    Returns:
        The model; None where there are too few right or wrong first hits.
    """
    kept = [found for found in episodes if len(found.rank)]
    if not kept:
        return None
    joined = Episodes.joined(kept)
    first = joined.rank == 0
    if min(joined.is_match[first].sum(), (~joined.is_match[first]).sum()) < _FEWEST:
        return None
    weights = joined.weight * np.where(first, 1.0, _LATER)
    features = joined.features.copy()
    if joined.size.max() < _RANGE * joined.size.min():
        features[:, -1] = 0.0  # too few sizes to learn what size does beside what the expected best knows of it
    return fit_model(features, joined.is_match, weights=weights)


def measure_cutoffs(pair: PairCalibration, episodes: Sequence[Episodes]) -> tuple[tuple[float, float], ...]:
    """Return cut-offs that hide few right first hits of any kind of searches and size of gallery.

    Args:
        pair: Gives the probabilities, by its model or its line over the cosine.
        episodes: One for each kind of searches.
    """
    firsts = [(found, found.rank == 0) for found in episodes]
    if pair.model is None:
        return cutoffs_of_line(pair, [found.features[first & found.is_match, 0] for found, first in firsts], SIZES)
    weights, intercept = pair.model.weights, pair.model.intercept
    chances = [to_probability(found.features[first] @ weights + intercept) for found, first in firsts]
    return cutoffs_of(
        np.concatenate(chances),
        np.concatenate([found.is_match[first] for found, first in firsts]),
        np.repeat(np.arange(len(firsts)), [len(some) for some in chances]),
        np.concatenate([found.size[first] for found, first in firsts]),
    )
