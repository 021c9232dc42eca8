"""From the best rows of each modality to hits: by their probabilities, one an item."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embedspace.catalog.records import Hit
from embedspace.catalog.store.store import Store

__all__ = ["Candidate", "fetch_hits", "merge_candidates"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One row that may become a hit: its sequence number and item, cosine, log-odds of a match, and probability."""

    seq: int
    item: int
    key: tuple[int, int]
    modality: str
    score: float
    log_odds: float
    probability: float


def merge_candidates(candidates: list[Candidate], k: int, min_probability: float | None) -> list[Candidate]:
    """Keep the best segment an item, the best k items; ties are broken by content id.

    Args:
        candidates: Of all modalities searched.
        k: Items wanted.
        min_probability: What is less likely a match is left out.
    """
    best: dict[int, Candidate] = {}
    for candidate in sorted(candidates, key=lambda found: (-found.log_odds, found.key, found.modality)):
        best.setdefault(candidate.item, candidate)
    kept = [found for found in best.values() if min_probability is None or found.probability >= min_probability]
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
