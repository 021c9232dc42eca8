"""Who speaks when: short stretches of speech with a vector each become the turns of some speakers.

Stretches are joined by average linkage until no two groups of them are alike enough. A turn is what one group says
without another in between, and has the vector of the group: what somebody says in a second is found by all that they
say.

Source: Sell and Garcia-Romero 2014, "Speaker diarization with PLDA i-vector scoring and unsupervised calibration",
    section 2: agglomerative clustering of short segments, here by cosine. (https://doi.org/10.1109/SLT.2014.7078610)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedspace.segment import Segment

__all__ = ["group_speakers", "join_turns"]

_TOGETHER = 300
"""Stretches that are grouped at once; of a longer recording, each such part's groups meet in the next step."""
_PAUSE = 1.0
"""Seconds: after a longer one a speaker's turn begins anew."""


def join_turns(segments: Sequence[Segment], likeness: float, shortest: float) -> list[Segment]:
    """Return the turns of an item's speakers.

    Args:
        segments: Of one item and one modality, with times, in any order; turns that were joined before go on being so.
        likeness: Mean cosine from which two groups are one speaker.
        shortest: A speaker who says less than so many seconds in all is taken for the most alike one, if there is one.

    Returns:
        Turns in order of time; those of one speaker have the same vector.
    """
    ordered = sorted(segments, key=lambda one: (one.start or 0.0, one.end or 0.0))
    if len(ordered) < 2:
        return ordered
    rows = np.stack([one.vector for one in ordered]).astype(np.float64)
    lengths = np.array([max((one.end or 0.0) - (one.start or 0.0), 1e-3) for one in ordered])
    speakers = _in_parts(rows, lengths, likeness)
    speakers = _without_short(rows, lengths, speakers, shortest)
    vectors = {name: row.astype(np.float32) for name, row in _means(rows, lengths, speakers).items()}
    turns: list[Segment] = []
    last = -1
    for one, speaker in zip(ordered, speakers.tolist(), strict=True):
        if turns and speaker == last and (one.start or 0.0) - (turns[-1].end or 0.0) <= _PAUSE:
            turns[-1] = dataclasses.replace(turns[-1], end=max(turns[-1].end or 0.0, one.end or 0.0))
        else:
            turns.append(dataclasses.replace(one, vector=vectors[speaker]))
        last = speaker
    return turns


def _in_parts(rows: NDArray[np.float64], lengths: NDArray[np.float64], likeness: float) -> NDArray[np.int64]:
    """Group stretches, however many: part by part, then the groups of all parts, until these are no longer fewer."""
    groups = np.arange(len(rows))
    while True:
        names = np.unique(groups)
        means = _means(rows, lengths, groups)
        centres = np.stack([means[int(name)] for name in names])
        weights = np.array([lengths[groups == name].sum() for name in names])
        found = np.empty(len(names), np.int64)
        given = 0
        for part in _parts(len(names)):
            own = group_speakers(centres[part], weights[part], likeness)
            found[part] = own + given
            given += int(own.max()) + 1
        groups = found[np.searchsorted(names, groups)]
        if len(names) <= _TOGETHER or given == len(names):
            return groups


def _parts(count: int) -> list[slice]:
    return [slice(first, min(first + _TOGETHER, count)) for first in range(0, count, _TOGETHER)]


def group_speakers(rows: NDArray[np.float64], weights: NDArray[np.float64], likeness: float) -> NDArray[np.int64]:
    """Group rows by average linkage of their cosines.

    Args:
        rows: (N, width) unit rows.
        weights: (N,) positive: how much each counts.
        likeness: Mean cosine of two groups from which they are joined.

    Returns:
        (N,) numbers of groups from 0, in order of their first member.
    """
    members = [[number] for number in range(len(rows))]
    sums = weights[:, None] * rows  # a group's sum: the mean cosine of two groups is sums @ sums / their weights
    heavy = weights.astype(np.float64).copy()
    alike = (sums @ sums.T) / np.outer(heavy, heavy)
    np.fill_diagonal(alike, -np.inf)
    for _ in range(len(rows) - 1):
        first, second = sorted(divmod(int(alike.argmax()), len(rows)))
        if not alike[first, second] >= likeness:
            break
        members[first] += members[second]
        members[second] = []
        sums[first] += sums[second]
        heavy[first] += heavy[second]
        alike[second, :] = alike[:, second] = -np.inf
        living = np.array([bool(one) for one in members])
        new = np.where(living, (sums @ sums[first]) / (heavy * heavy[first]), -np.inf)
        new[first] = -np.inf
        alike[first, :] = alike[:, first] = new
    groups = np.empty(len(rows), np.int64)
    for number, own in enumerate(sorted((one for one in members if one), key=min)):
        groups[own] = number
    return groups


def _means(
    rows: NDArray[np.float64], lengths: NDArray[np.float64], speakers: NDArray[np.int64]
) -> dict[int, NDArray[np.float64]]:
    """Return each speaker's mean row, at unit length."""
    found = {}
    for name in np.unique(speakers).tolist():
        mean = (lengths[speakers == name, None] * rows[speakers == name]).sum(axis=0)
        found[int(name)] = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return found


def _without_short(
    rows: NDArray[np.float64], lengths: NDArray[np.float64], speakers: NDArray[np.int64], shortest: float
) -> NDArray[np.int64]:
    """Give what is said by those who hardly say anything, mostly a change of speaker in its middle, to the others."""
    said = {int(name): float(lengths[speakers == name].sum()) for name in np.unique(speakers)}
    kept = [name for name, seconds in said.items() if seconds >= shortest]
    if not kept or len(kept) == len(said):
        return speakers
    means = _means(rows, lengths, speakers)
    centres = np.stack([means[name] for name in kept])
    out = speakers.copy()
    for number in np.flatnonzero(~np.isin(speakers, kept)):
        out[number] = kept[int((centres @ rows[number]).argmax())]
    return out
