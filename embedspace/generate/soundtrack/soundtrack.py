"""Sound for a silent film: events where something strikes, by what it means; quiet ground below; written with the film.

from embedspace.generate.soundtrack import soundtrack_of

track = soundtrack_of("silent.mp4", space)         # or space.soundtrack("silent.mp4")
track.write("scored.mp4")                          # the pictures are copied bit for bit; .wav: the sound alone
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import embedspace
from embedspace.errors import ArgumentError
from embedspace.generate.api import GeneratorsOwner
from embedspace.generate.base import Request
from embedspace.generate.soundtrack.impacts import ImpactSettings
from embedspace.generate.soundtrack.mixing import RATE, Mix, Placed, event_sound, ground_of
from embedspace.generate.soundtrack.naming import Named
from embedspace.generate.soundtrack.sounds import GALLERY, FoundSound, SoundBank, bank_of, sound_of_views
from embedspace.generate.soundtrack.watching import Strike, Tell, Watched, watch
from embedspace.media.mux import FILM_FORMATS, has_sound, own_sound, write_film
from embedspace.media.write import write_blocks
from embedspace.modality import Modality

__all__ = ["KEEP", "REPLACE", "SoundEvent", "Soundtrack", "scored", "soundtrack_of"]

KEEP, REPLACE = "mix", "replace"
_FULL = 1.2
"""Picture heights per second of a strike that is as loud as any."""
_LARGE = 0.08
"""Share of the picture of a thing that is as loud as any."""
_QUIETEST = 0.25
_WIDE = 0.8
"""Pan at the picture's edge."""
_WRITTEN = 2000
"""Events that a file's record lists at most."""


@dataclass(frozen=True, slots=True)
class SoundEvent:
    """One sound that a film was given.

    Attributes:
        time: Seconds at which its onset falls.
        name: What the sound is called.
        item: Where it is from.
        similarity: Cosine by which it was found; NaN where it was made.
        level: 0 to 1.
        pan: -1 left, 1 right.
        named: The name that was chosen for what strikes, and how sure that is; None where a vector found the sound.
    """

    time: float
    name: str
    item: str
    similarity: float
    level: float
    pan: float
    named: Named | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        near = {} if np.isnan(self.similarity) else {"similarity": round(self.similarity, 4)}
        about: dict[str, Any] = {"time": round(self.time, 3), "name": self.name, "item": self.item, **near}
        if self.named is not None:
            sure = {"probability": round(self.named.probability, 4), "similarity": round(self.named.similarity, 4)}
            about["named"] = {"name": self.named.name, **sure}
        return {**about, "level": round(self.level, 3), "pan": round(self.pan, 3)}


@dataclass(frozen=True, slots=True, eq=False)
class Soundtrack:
    """The sound of a film.

    Attributes:
        film: Whose it is.
        watched: What was seen.
        events: What is heard, in order of time.
        mix: Its samples, block by block.
        seed: It was made with.
        provenance: What it was made by and from; goes into the file.
    """

    film: Path
    watched: Watched
    events: tuple[SoundEvent, ...]
    mix: Mix
    seed: int
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return RATE

    def waveform(self) -> NDArray[np.float32]:
        """Return all of it, (T, 2) float32 in [-1, 1]; of a long film it is large, and `write` does without."""
        return np.concatenate([np.zeros((0, 2), np.float32), *self.mix.blocks()])

    def record(self) -> dict[str, Any]:
        """Return all that is known of it as JSON can hold it, its events included."""
        listed = [event.as_json() for event in self.events[:_WRITTEN]]
        more = len(self.events) - len(listed)
        return {
            "to": str(Modality.AUDIO), "query": str(self.film), "seed": self.seed, **self.provenance,
            "events": listed, **({"events_not_listed": more} if more else {}), "embedspace": embedspace.__version__,
        }  # fmt: skip

    def write(self, path: str | os.PathLike[str], about: Mapping[str, Any] | None = None) -> Path:
        """Write it, with the film or without.

        Args:
            path: A suffix of `FILM_FORMATS` (.mp4, .mkv, .mov, .webm, .avi): the film with this sound, its pictures
                copied; .wav, .flac or .ogg: the sound.
            about: Further keys of the record inside the file.

        Raises:
            MediaError: If the format is not known or cannot hold the film, or it cannot be written.
        """
        told = {"embedspace": json.dumps({**self.record(), **(about or {})}, ensure_ascii=False)}
        if Path(path).suffix.lower() in FILM_FORMATS:
            return write_film(path, self.film, self.mix.blocks(), RATE, told)
        return write_blocks(path, self.mix.blocks(), RATE, {**told, "software": "embedspace"})


def soundtrack_of(
    film: str | os.PathLike[str],
    space: Any,  # noqa: ANN401 - an EmbeddingSpace, which stands above
    *,
    seed: int = 0,
    sounds: SoundBank | str = GALLERY,
    film_sound: str | None = None,
    request: Request | None = None,
    settings: ImpactSettings | None = None,
    tell: Tell | None = None,
) -> Soundtrack:
    """Make the sound of a silent film.

    Args:
        film: A video file.
        space: Has an encoder of pictures, and, but for a catalog's sounds, a generator of sounds.
        seed: 0 takes the nearest sounds, another one draws among them; of sounds that are made, it is theirs.
        sounds: "gallery": the training items that ship with the generator of sounds; "made": the generator; or a bank
            such as `CatalogSounds(catalog)`.
        film_sound: Of a film that has sound: "mix" keeps it below what is added, "replace" leaves it out; "mix" where
            it is not said.
        request: How sounds are made, where they are.
        settings: What counts as an impact.
        tell: Told how far it is.

    Raises:
        EmptyMediaError: If the file has no pictures or nothing moves in it.
        ArgumentError: If an option is none of those above.
        MediaError: If it cannot be decoded.
        WeightsError: If the space lacks what is needed.
    """
    if film_sound not in (None, KEEP, REPLACE):
        raise ArgumentError("film_sound", f"{film_sound!r}: must be {KEEP} or {REPLACE}")
    bank = bank_of(space, sounds, request)
    return scored(watch(film, space, settings, tell), space, bank, seed=seed, film_sound=film_sound)


def scored(
    watched: Watched, space: GeneratorsOwner, bank: SoundBank, *, seed: int = 0, film_sound: str | None = None
) -> Soundtrack:
    """Make the sound of a film that was watched; arguments as of `soundtrack_of`."""
    sounding = has_sound(watched.path)
    kept = sounding and film_sound != REPLACE
    found = [sound_of_views(bank, views, _seed_of(seed, k)) for k, views in enumerate(watched.looks)]
    cut = [event_sound(one.waveform, one.sample_rate) for one in found]
    events, placed = [], []
    for strike in watched.strikes:
        level, pan = _level(strike), _pan(strike)
        one = found[strike.look]
        events.append(SoundEvent(strike.time, one.name, one.item, one.similarity, level, pan, one.named))
        placed.append(Placed(strike.time, strike.look, level, pan))
    ground = None if kept else bank.find(watched.whole, Modality.IMAGE, _seed_of(seed, len(found)))
    mix = Mix(
        watched.seconds,
        placed,
        cut,
        np.zeros((0, 2), np.float32) if ground is None else ground_of(ground.waveform, ground.sample_rate, seed),
        (lambda: own_sound(watched.path, RATE)) if kept else None,
    ).bounded()
    about = _provenance(watched, space, bank, ground)
    if sounding:
        about["film_sound"] = KEEP if kept else REPLACE
    return Soundtrack(watched.path, watched, tuple(events), mix, seed, about)


def _provenance(watched: Watched, space: GeneratorsOwner, bank: SoundBank, ground: FoundSound | None) -> dict[str, Any]:
    about: dict[str, Any] = {"soundtrack": True, "sounds": bank.name, "seconds": round(watched.seconds, 3)}
    if Modality.AUDIO in space.generators.targets:
        about["weights"] = space.generators[Modality.AUDIO].digest
    if ground is not None:
        about["ground"] = {"name": ground.name, "item": ground.item}
    return about


def _seed_of(seed: int, number: int) -> int:
    """Return the seed of one of a film's sounds; 0 stays 0."""
    return seed * 1009 + number if seed else 0


def _level(strike: Strike) -> float:
    """Return how loud a strike is, by its speed and the size of what strikes."""
    left, top, right, bottom = strike.box
    size = float(np.sqrt(min(1.0, (right - left) * (bottom - top) / _LARGE)))
    speed = min(1.0, strike.strength / _FULL)
    return _QUIETEST + (1 - _QUIETEST) * speed * (0.5 + 0.5 * size)


def _pan(strike: Strike) -> float:
    return _WIDE * float(np.clip(strike.box[0] + strike.box[2] - 1, -1.0, 1.0))
