"""From the best segments of each modality to hits: the most probable first, one per item."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration.background import Background
from embedspace.calibration.model import Calibration, shared_log_odds, to_probability
from embedspace.catalog.records import Hit
from embedspace.catalog.store.store import Store

__all__ = ["Candidate", "Scan", "fetch_hits", "merge_candidates", "rate_candidates", "standardised", "uncalibrated"]

_PRIOR = 4.0
"""How many items the pooled mean and variance of all modalities count as."""
_CONSTANT = 1e-12
"""Variances below this are of scores that do not differ: then plain cosines rank."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What one query found in one modality.

    Attributes:
        modality: The modality that was searched.
        seq: (n,) int64 sequence number of each item's best segment.
        key: (n, 2) uint64 content ids, as big numbers.
        scores: (n,) float32 cosines, descending.
        background: How the query scores against all items of the modality.
        share: Probability that what searched is the right reading of the query, in (0, 1].
    """

    modality: str
    seq: NDArray[np.int64]
    key: NDArray[np.uint64]
    scores: NDArray[np.float32]
    background: Background
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
            cosine.
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
    ranking. Else none is given, and the ranking is by standardised cosines.

    Args:
        scans: What was found in each modality.
        query: Modality of the query.
        calibration: Of the catalog's space.
    """
    strengths: Iterable[NDArray[np.float64]]
    calibrated = not uncalibrated([query], [scan.modality for scan in scans], calibration)
    if calibrated:
        strengths = [
            shared_log_odds(calibration.log_odds(scan.scores, query, scan.modality, scan.background), scan.share)
            for scan in scans
        ]
    else:
        strengths = [rows + np.log(scan.share) for rows, scan in zip(standardised(scans), scans, strict=True)]
    candidates: list[Candidate] = []
    for scan, strength in zip(scans, strengths, strict=True):
        chances = to_probability(strength).tolist() if calibrated else [None] * len(strength)
        columns = (scan.seq.tolist(), scan.key.tolist(), scan.scores.tolist(), strength.tolist(), chances)
        for seq, key, score, value, chance in zip(*columns, strict=True):
            candidates.append(Candidate(seq, (key[0], key[1]), scan.modality, score, value, chance))
    return candidates


def standardised(scans: Sequence[Scan]) -> list[NDArray[np.float64]]:
    """Return each scan's scores in standard deviations above the query's mean score in that modality.

    Cosines of different modalities differ by an offset and a scale. The scores of a few items say little about either,
    so the mean and variance of a modality of n items are drawn towards those of all modalities, by `_PRIOR`/n. Within
    one modality the order is that of the cosines.
    """
    sizes = np.array([scan.background.size for scan in scans], np.float64)
    means = np.array([scan.background.mean or 0.0 for scan in scans])
    variances = np.array([scan.background.std**2 for scan in scans])
    total = max(float(sizes.sum()), 1.0)
    means = (sizes * means + _PRIOR * (sizes @ means) / total) / (sizes + _PRIOR)
    variances = (sizes * variances + _PRIOR * (sizes @ variances) / total) / (sizes + _PRIOR)
    stds = np.where(variances > _CONSTANT, np.sqrt(variances), 1.0)
    return [(scan.scores.astype(np.float64) - means[at]) / stds[at] for at, scan in enumerate(scans)]


def merge_candidates(candidates: list[Candidate], k: int, min_probability: float | None) -> list[Candidate]:
    """Keep the best segment per item, and of these the best k; ties are broken by content id.

    Args:
        candidates: Of all modalities searched.
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
    rows: dict[int, tuple[Any, ...]] = {}
    for first in range(0, len(ranked), 5000):  # SQLite bounds the parameters of one statement
        sequence = [candidate.seq for candidate in ranked[first : first + 5000]]
        found = store.rows(
            'SELECT s.seq, i.id, i.kind, i.metadata, s.start, s."end", s.text, s.label, '
            "(SELECT u.uri FROM uris u WHERE u.item = i.item ORDER BY u.place LIMIT 1) "
            f"FROM segments s JOIN items i ON i.item = s.item WHERE s.seq IN ({','.join('?' * len(sequence))})",
            sequence,
        )
        rows.update({row[0]: row[1:] for row in found})
    hits: list[Hit] = []
    for candidate in ranked:
        if candidate.seq not in rows:
            continue
        content_id, kind, metadata, start, end, text, label, uri = rows[candidate.seq]
        score = float(np.clip(candidate.score, -1.0, 1.0))
        hits.append(
            Hit(content_id, uri or "", kind, candidate.modality, score, candidate.probability, start, end, text, label,
                json.loads(metadata), len(hits) + 1)
        )  # fmt: skip
    return hits
