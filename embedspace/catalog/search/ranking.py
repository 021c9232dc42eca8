"""From the best segments of each modality to hits: the most probable first, one per item."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration.model import Calibration, shared_log_odds, to_probability
from embedspace.catalog.index.base import Nearest
from embedspace.catalog.records import Hit
from embedspace.catalog.store.lookup import found_segments
from embedspace.catalog.store.store import Store

__all__ = ["Candidate", "Scan", "fetch_hits", "merge_candidates", "rate_candidates", "standardised", "uncalibrated"]

_PRIOR = 4.0
"""How many items the pooled mean and variance of all modalities count as."""
_CONSTANT = 1e-12
"""Variances below this are of scores that do not differ: then plain cosines rank."""


class Scan(NamedTuple):
    """What one query, or one reading of it, found in one modality.

    Attributes:
        modality: The modality that was searched.
        nearest: The best items.
        share: Probability that what searched is the right reading of the query, in (0, 1].
    """

    modality: str
    nearest: Nearest
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """One segment that may become a hit.

    Attributes:
        seq: Its sequence number.
        key: Content id of its item, as two numbers.
        modality: Its modality.
        score: Cosine of query and segment.
        strength: What candidates are ranked by: the log-odds of a match, or, without a calibration, the standardised
            cosine, or the cosine where that suffices.
        probability: That it is a match; None without a calibration.
    """

    seq: int
    key: tuple[int, int]
    modality: str
    score: float
    strength: float
    probability: float | None


def uncalibrated(queries: Iterable[str], targets: Iterable[str], calibration: Calibration) -> list[str]:
    """Return the pairs "query>target" of these modalities that have no calibration."""
    pairs = itertools.product(dict.fromkeys(queries), targets)
    return [f"{query}>{target}" for query, target in pairs if calibration.known_pair(query, target) is None]


def rate_candidates(scans: Sequence[Scan], query: str, calibration: Calibration) -> list[Candidate]:
    """Say how strong each candidate of one query is.

    Probabilities are given only where all modalities searched have a calibration: then they are in the order of the
    ranking. Else none is given, and the ranking is by standardised cosines, by cosines where there is one scan.

    Args:
        scans: What was found in each modality.
        query: Modality of the query.
        calibration: Calibration of the catalog's space.
    """
    strengths: Iterable[NDArray[np.float64]]
    calibrated = not uncalibrated([query], [scan.modality for scan in scans], calibration)
    if calibrated:
        strengths = [
            shared_log_odds(calibration.log_odds(one.scores, query, name, one.background), share)
            for name, one, share in scans
        ]
    elif len(scans) == 1:
        strengths = [scans[0].nearest.scores.astype(np.float64)]
    else:
        strengths = [rows + np.log(scan.share) for rows, scan in zip(standardised(scans), scans, strict=True)]
    candidates: list[Candidate] = []
    for (modality, one, _), strength in zip(scans, strengths, strict=True):
        chances = to_probability(strength).tolist() if calibrated else [None] * len(strength)
        columns = (one.seq.tolist(), one.key.tolist(), one.scores.tolist(), strength.tolist(), chances)
        for seq, key, score, value, chance in zip(*columns, strict=True):
            candidates.append(Candidate(seq, (key[0], key[1]), modality, score, value, chance))
    return candidates


def standardised(scans: Sequence[Scan]) -> list[NDArray[np.float64]]:
    """Return how far each score stands out from the query's other scores in its modality, in standard deviations.

    Cosines of different modalities differ by an offset and a scale. A few items say little about either, so the mean
    and variance of a modality are drawn towards those of all modalities, as if it had `_PRIOR` items more. A score is
    not among those that it is compared with. Within one modality the order is that of the cosines.

    Args:
        scans: What one query found in each modality.

    Returns:
        For each scan (n,) values, descending as its scores are.
    """
    sizes = np.array([scan.nearest.background.size for scan in scans], np.float64)
    means = np.array([scan.nearest.background.mean or 0.0 for scan in scans])
    variances = np.array([scan.nearest.background.std**2 for scan in scans])
    total = max(float(sizes.sum()), 1.0)
    prior_mean, prior_variance = float(sizes @ means) / total, float(sizes @ variances) / total
    found = []
    for scan, size, mean, variance in zip(scans, sizes, means, variances, strict=True):
        scores = scan.nearest.scores.astype(np.float64)
        others = max(size - 1.0, 0.0)
        rest = (size * mean - scores) / max(others, 1.0)  # mean of the other scores
        spread = np.maximum((size * (variance + mean**2) - scores**2) / max(others, 1.0) - rest**2, 0.0)
        centre = (others * rest + _PRIOR * prior_mean) / (others + _PRIOR)
        scale = (others * spread + _PRIOR * prior_variance) / (others + _PRIOR)
        values = (scores - centre) / np.where(scale > _CONSTANT, np.sqrt(scale), 1.0)
        found.append(np.minimum.accumulate(values))
    return found


def merge_candidates(candidates: list[Candidate], k: int, min_probability: float | None) -> list[Candidate]:
    """Keep the best segment per item, and of these the best k; ties are broken by content id.

    Args:
        candidates: Candidates of all modalities searched.
        k: Items wanted.
        min_probability: Items that are less likely a match are left out.
    """
    best: dict[tuple[int, int], Candidate] = {}
    for candidate in sorted(candidates, key=lambda found: (-found.strength, found.key, found.modality)):
        best.setdefault(candidate.key, candidate)
    kept = [one for one in best.values() if min_probability is None or (one.probability or 0.0) >= min_probability]
    return kept[:k]


def fetch_hits(store: Store, ranked: Sequence[Candidate]) -> list[Hit]:
    """Read what a user sees of each candidate; one that was deleted meanwhile is left out."""
    found = found_segments(store, [candidate.seq for candidate in ranked])
    there = [(candidate, found[candidate.seq]) for candidate in ranked if candidate.seq in found]
    metadata = json.loads(f"[{','.join(one.metadata for _, one in there)}]")  # together, in one step
    return [
        Hit(
            one.content_id, one.uri or "", one.kind, candidate.modality, min(max(candidate.score, -1.0), 1.0),
            candidate.probability, one.start, one.end, one.text, one.label, facts, rank,
        )
        for rank, ((candidate, one), facts) in enumerate(zip(there, metadata, strict=True), 1)
    ]  # fmt: skip
