"""Sounds for a film and films for a sound: by what they mean and by when something strikes, together.

Meaning says which sounds a film may have, and timing which of them strikes when something in it does. The score of a
hit is the weighted mean of both cosines.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import MediaError
from embedspace.modality import Modality
from embedspace.query.sources import QueryEncoder, Source

__all__ = ["TIMING_WEIGHT", "Timing", "merged", "timed_hits", "timing_of", "timing_wanted"]

TIMING_WEIGHT = 2.0
"""Weight of timing beside that of meaning, 1; chosen on validation clips (training/LOG.md)."""
_DEPTH = 1000
"""Items that are ranked anew, of each of both."""
_WINDOWS = 30
"""Windows of a query that are compared, from its start: two minutes."""
_OTHER = {Modality.MOTION.value: Modality.ONSET.value, Modality.ONSET.value: Modality.MOTION.value}
_FOUND = {Modality.MOTION.value: Modality.AUDIO.value, Modality.ONSET.value: Modality.VIDEO.value}
"""Timing of a query -> what is found by it."""
_OWN = {
    Modality.VIDEO.value: Modality.MOTION.value,
    Modality.AUDIO.value: Modality.ONSET.value,
    Modality.SPEECH.value: Modality.ONSET.value,
}
"""What a query is taken as -> its timing."""


class Timing(NamedTuple):
    """When something strikes in a query.

    Attributes:
        modality: "motion" or "onset".
        rows: (W, embed_dim) unit rows of its windows, in order.
    """

    modality: str
    rows: NDArray[np.float32]


def timing_of(source: Source, modality: str, space: QueryEncoder) -> Timing | None:
    """Return the timing of a film or a recording; None where the space knows none, or nothing strikes.

    Args:
        source: A file.
        modality: What it is taken as.
        space: The encoder.
    """
    own = _OWN.get(str(modality), "")
    if source.path is None or own not in getattr(space, "modalities", ()):
        return None
    try:
        decoded = space.decode(Path(source.path), source.kind, as_modality=own)
    except MediaError:  # silent, or no film after all
        return None
    rows = [segment.vector for segment in space.encode_decoded([decoded])[0] if segment.modality == own]
    return Timing(own, np.stack(rows[:_WINDOWS])) if rows else None


def timing_wanted(modality: str, to: str | Sequence[str] | None) -> str:
    """Return the timing that a search needs of a catalog: "onset" for sounds by a film, "motion" for films by a sound.

    Args:
        modality: Of the query.
        to: Modalities that are searched for.

    Returns:
        The modality; empty where timing has no part in the search.
    """
    own = _OWN.get(str(modality), "")
    names = [to] if isinstance(to, str) else [str(name) for name in to or ()]
    return _OTHER[own] if own and names == [_FOUND[own]] else ""


def timed_hits(
    search: Any,  # noqa: ANN401 - `Catalog.search`
    vector: NDArray[np.float32],
    modality: str,
    timing: Timing,
    options: Mapping[str, Any],
    weight: float = TIMING_WEIGHT,
) -> list[Any]:
    """Return the hits of one query, by both.

    Args:
        search: `Catalog.search`.
        vector: (embed_dim,) what the query means.
        modality: Its modality.
        timing: When something strikes in it.
        options: Of the search.
        weight: Of timing.
    """
    k = int(options.get("k", 10))
    depth = max(_DEPTH, k)
    rest = {name: value for name, value in options.items() if name in ("where", "filter_seconds")}
    meant = search(vector[None], query_modality=[modality], k=depth, to=[_FOUND[timing.modality]], **rest)[0]
    names = [timing.modality] * len(timing.rows)
    struck = search(timing.rows, query_modality=names, k=depth, to=[_OTHER[timing.modality]], **rest)
    return merged(meant, struck, weight, whole=len(meant) < depth)[:k]


def merged(meant: Sequence[Any], struck: Sequence[Sequence[Any]], weight: float, *, whole: bool) -> list[Any]:
    """Return hits in the order of both scores, best first.

    Args:
        meant: Hits by meaning.
        struck: Hits by timing of each window of the query.
        weight: Of timing.
        whole: Whether `meant` has every item that there is; an item that it lacks then is none of the modality. Else
            it counts as the last of them.
    """
    times: dict[str, Any] = {}
    for hit in (hit for window in struck for hit in window):
        if hit.id not in times or hit.score > times[hit.id].score:
            times[hit.id] = hit
    means = {hit.id: hit for hit in meant}
    lowest = min((hit.score for hit in meant), default=0.0)
    found = []
    for item in means.keys() | (set() if whole else times.keys()):
        hit = means.get(item) or dataclasses.replace(times[item], modality=meant[0].modality, score=lowest)
        time = times[item].score if item in times else 0.0
        score = (hit.score + weight * time) / (1 + weight)
        found.append(dataclasses.replace(hit, score=score, probability=None))
    found.sort(key=lambda hit: (-hit.score, hit.id))
    return [dataclasses.replace(hit, rank=rank) for rank, hit in enumerate(found, 1)]
