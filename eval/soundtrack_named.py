"""What is heard in a soundtrack: is it of what strikes, by its name and by the judge of sounds?

A part of `python -m eval.soundtrack --known`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.evaluate.generation.judges import Judge, known_among
from embedspace.evaluate.generation.measures.clusters import clustered_mean
from embedspace.generate.soundtrack import FoundSound
from embedspace.generate.soundtrack.naming import load_names
from training.corpora.manifest import CORPORA, read_manifest
from training.corpora.sounds.clips import read_clip
from training.corpora.video.rendered import effect_of
from training.corpora.video.scenes import RATE

__all__ = ["NEAR", "Clip", "named"]

NEAR = 0.1
"""Seconds by which a sound may be off."""
Wave = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A clip and what was found in it.

    Attributes:
        row: Of the manifest.
        times: Seconds of the sounds.
        curve: (T, 3) times, how much moves, and strength of impacts.
        sounds: What is heard at each of these times; none where only times are measured.
    """

    row: dict[str, Any]
    times: list[float]
    curve: NDArray[np.float64]
    sounds: list[FoundSound]

    @property
    def truth(self) -> list[float]:
        """Seconds of the impacts."""
        return list(self.row["extra"]["events"])

    @property
    def right(self) -> list[FoundSound]:
        """What is heard where something strikes."""
        heard = zip(self.times, self.sounds, strict=True)
        return [sound for time, sound in heard if any(abs(time - at) <= NEAR for at in self.truth)]


def named(clips: Sequence[Clip], judge: Judge | None, concepts: Sequence[str], generator: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return how often a right event's sound is of what strikes: by its name, and by the judge; and what limits it.

    Args:
        clips: With their sounds.
        judge: Knows `concepts`; None: names alone are looked at.
        concepts: What it is chosen among.
        generator: Of sounds; its training items are what sounds are chosen from.
    """
    known = [clip for clip in clips if clip.row["concept"] in concepts and clip.sounds]
    rows = [(str(clip.row["concept"]), clip, sound) for clip in known for sound in clip.right]
    wanted = [concept for concept, _, _ in rows]
    entry: dict[str, Any] = {"clips": len(known), "events": len(rows), "concepts": len(set(wanted))}
    if not rows:
        return entry
    others = [_other(wanted, k) for k in range(len(rows))]
    heard = _Heard(judge, concepts, {sound.item: (sound.waveform, sound.sample_rate) for *_, sound in rows})
    for label, names in (("", wanted), ("shuffled_", others)):
        says = [bool(re.search(rf"\b{name}\b", sound.name)) for name, (*_, sound) in zip(names, rows, strict=True)]
        entry[f"{label}by_name"] = clustered_mean(np.array(says, np.float64), wanted)
        if judge is not None:
            entry[f"{label}by_judge"] = heard.are([sound.item for *_, sound in rows], names, wanted)
    if judge is not None:
        entry |= _bounds(
            [(concept, str(clip.row["extra"]["sound"])) for concept, clip, _ in rows], judge, concepts, generator
        )
    entry["heard"] = {concept: _counted(concept, rows) for concept in sorted(set(wanted))}
    return entry


def _other(wanted: Sequence[str], place: int) -> str:
    """Return another clip's thing for an event: the next that is something else, from half of the list away."""
    around = [wanted[(place + len(wanted) // 2 + k) % len(wanted)] for k in range(len(wanted))]
    return next((one for one in around if one != wanted[place]), wanted[place])


def _counted(concept: str, rows: Sequence[tuple[str, Clip, FoundSound]]) -> dict[str, int]:
    """Return what is heard for a thing -> how often, the most frequent first."""
    names = [sound.name for one, _, sound in rows if one == concept]
    return {name: names.count(name) for name in sorted(set(names), key=lambda name: (-names.count(name), name))}


class _Heard:
    """What the judge says of sounds, each listened to once."""

    def __init__(self, judge: Judge | None, concepts: Sequence[str], sounds: Mapping[str, tuple[Wave, int]]) -> None:
        self._judge, self._concepts, self._places = judge, concepts, {item: k for k, item in enumerate(sounds)}
        self._rows = (
            np.concatenate([judge.features([wave], rate) for wave, rate in sounds.values()])
            if judge and sounds
            else None
        )

    def are(self, items: Sequence[str | None], names: Sequence[str], clusters: Sequence[str]) -> list[float]:
        """Return which share of some sounds is what it should be; None is no sound, and is nothing."""
        assert self._judge is not None
        hits = np.zeros(len(items))
        there = [k for k, item in enumerate(items) if item is not None]
        if there and self._rows is not None:
            rows = self._rows[[self._places[str(items[k])] for k in there]]
            hits[there] = known_among(self._judge, rows, [names[k] for k in there], self._concepts, 1)
        return clustered_mean(hits, clusters)


def _bounds(
    own: Sequence[tuple[str, str]],
    judge: Judge,
    concepts: Sequence[str],
    generator: Any,  # noqa: ANN401
) -> dict[str, list[float]]:
    """Return what the judge says of better choices: how far it can be trusted.

    Args:
        own: Concept and own sound of the clip of each event.
        judge: The judge.
        concepts: What it is chosen among.
        generator: Of sounds.

    Returns:
        `own_whole`: of the clips' own sounds; `own_as_heard`: of the half second of them that is heard at an impact;
        `right_name`: of the sound that ships for the right name, wrong where there is none.
    """
    items = {item.id: item for item in read_manifest(CORPORA / "sounds/manifest.jsonl")}
    wanted, sounds = [concept for concept, _ in own], [sound for _, sound in own]
    whole = {one: (np.asarray(read_clip(items[one], RATE), np.float32), RATE) for one in sorted(set(sounds))}
    part = {one: (effect_of(items[one]), RATE) for one in whole}
    names, rate = load_names(), int(generator.spectrogram.sample_rate)
    called = {concept: next((n for n in names.names if re.fullmatch(rf"an? {concept}", n)), None) for concept in wanted}
    best = {concept: names.items_of(name)[0] for concept, name in called.items() if name is not None}
    ships = {item: (np.asarray(generator.item_media(item)[0], np.float32), rate) for item in sorted(set(best.values()))}
    return {
        "own_whole": _Heard(judge, concepts, whole).are(sounds, wanted, wanted),
        "own_as_heard": _Heard(judge, concepts, part).are(sounds, wanted, wanted),
        "right_name": _Heard(judge, concepts, ships).are([best.get(concept) for concept in wanted], wanted, wanted),
    }
