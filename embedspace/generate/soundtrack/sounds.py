"""Where the sounds of a film come from: training items that ship with the generator of sounds, itself, a catalog.

Each takes what is seen and returns a sound of it; the first two choose a name for it first. A catalog is taken as it is
searched, so that nothing of `embedspace.catalog` is imported here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration.centring import centre
from embedspace.errors import InputError, MediaError, WeightsError
from embedspace.generate.api import GeneratorsOwner, generate
from embedspace.generate.base import Request
from embedspace.generate.soundtrack.naming import Named, SoundNames, load_names
from embedspace.generate.soundtrack.watching import mean_row
from embedspace.media.audio import load_audio
from embedspace.modality import Modality

__all__ = [
    "GALLERY", "MADE", "CatalogSounds", "FoundSound", "GallerySounds", "MadeSounds", "NamingBank", "SoundBank",
    "bank_of", "sound_of_views",
]  # fmt: skip

GALLERY, MADE = "gallery", "made"
_DRAWN_FROM = 4
"""A seed other than 0 draws among so many nearest sounds."""
_SPREAD = 0.05
"""A sound's chance then goes with exp(cosine / this)."""
_SECONDS = 4.0
"""What is read of a sound in a catalog."""
_HITS = 8


@dataclass(frozen=True, slots=True, eq=False)
class FoundSound:
    """A sound for something that is seen.

    Attributes:
        name: What it is called.
        item: Id in the training corpora, or the file.
        similarity: Cosine by which it was found; NaN where it was made.
        waveform: (T,) float32.
        sample_rate: Hz.
        named: The name that was chosen first for what is seen; None where the vector alone found the sound.
    """

    name: str
    item: str
    similarity: float
    waveform: NDArray[np.float32]
    sample_rate: int
    named: Named | None = None


class SoundBank(Protocol):
    """Gives sounds.

    Attributes:
        name: What the record calls it.
    """

    name: str

    def find(self, vector: NDArray[np.float32], modality: str, seed: int) -> FoundSound:
        """Return the sound of what a unit row (embed_dim,) of a modality means."""
        ...


@runtime_checkable
class NamingBank(SoundBank, Protocol):
    """Gives sounds by the name of what is seen."""

    def seen(self, views: NDArray[np.float32], seed: int) -> FoundSound:
        """Return the sound of a thing of which (V, embed_dim) unit rows of pictures are given."""
        ...


def sound_of_views(bank: SoundBank, views: NDArray[np.float32], seed: int) -> FoundSound:
    """Return a bank's sound of a thing that is seen: by its name where the bank gives names, else by its vector."""
    if isinstance(bank, NamingBank):
        return bank.seen(views, seed)
    return bank.find(mean_row(views), Modality.IMAGE, seed)


def _names_for(space: Any, generator: Any) -> SoundNames | None:  # noqa: ANN401
    """Return the names that ship, if this space sees as the one that they were made with and has their sounds."""
    names = load_names()
    if space.fingerprints().get(Modality.IMAGE) != names.encoder:
        return None
    return names.among(generator.neighbours.items)


class GallerySounds:
    """The training items beside the generator of sounds, found by what they are called.

    Args:
        space: Its generator of sounds has them.

    Raises:
        WeightsError: If the space has no such generator, or one without training items.
    """

    name = GALLERY

    def __init__(self, space: GeneratorsOwner) -> None:
        self._space = space
        self._generator: Any = space.generators[Modality.AUDIO]
        if not hasattr(self._generator, "neighbour_media"):
            raise WeightsError("this space's generator of sounds comes without training items; use a catalog of sounds")
        self._names = _names_for(space, self._generator)

    def seen(self, views: NDArray[np.float32], seed: int) -> FoundSound:
        """Return a sound of the likeliest name, or with a seed other than 0 one that is drawn among the name's.

        A space that sees otherwise than the one that the names were made with finds it by the vector.
        """
        if self._names is None:
            return self.find(mean_row(views), Modality.IMAGE, seed)
        named = self._names.of(views)
        own = self._names.items_of(named.name)[:_DRAWN_FROM]
        item = own[int(np.random.default_rng(seed).integers(len(own))) if seed else 0]
        waveform, caption = self._generator.item_media(item)
        rate = int(self._generator.spectrogram.sample_rate)
        return FoundSound(caption, item, named.similarity, np.asarray(waveform, np.float32), rate, named)

    def find(self, vector: NDArray[np.float32], modality: str, seed: int) -> FoundSound:
        """Return the nearest item, or with a seed other than 0 one that is drawn among the nearest."""
        centred = centre(vector[None], [modality], self._space.calibration.means)[0]
        near = self._generator.neighbour_media(centred, _DRAWN_FROM if seed else 1)
        found, waveform = near[_drawn([neighbour.similarity for neighbour, _ in near], seed)]
        rate = int(self._generator.spectrogram.sample_rate)
        return FoundSound(found.caption, found.item, found.similarity, np.asarray(waveform, np.float32), rate)


class MadeSounds:
    """The generator of sounds, a sample for each vector.

    Args:
        space: Whose generator.
        request: How it samples; the seed is set for each sound.
    """

    name = MADE

    def __init__(self, space: GeneratorsOwner, request: Request | None = None) -> None:
        self._space: Any = space
        self._request = request or Request()
        known: Any = space.generators[Modality.AUDIO]
        self._names = _names_for(space, known) if hasattr(known, "neighbours") else None

    def seen(self, views: NDArray[np.float32], seed: int) -> FoundSound:
        """Return a sample of the likeliest name's text; see `GallerySounds.seen`."""
        if self._names is None:
            return self.find(mean_row(views), Modality.IMAGE, seed)
        named = self._names.of(views)
        found = self.find(self._space.encode_text([named.name])[0], Modality.TEXT, seed)
        return dataclasses.replace(found, name=named.name, named=named)

    def find(self, vector: NDArray[np.float32], modality: str, seed: int) -> FoundSound:
        """Return a sample; what is seen need not be known to it."""
        request = dataclasses.replace(self._request, num_samples=1, seed=seed)
        ((sample,),) = generate(
            self._space, vector, to=Modality.AUDIO, modality=modality, request=request, neighbours=1, force=True
        )
        near = sample.neighbours[0]
        return FoundSound(
            near.caption, f"made, seed {seed}", float("nan"), np.asarray(sample.content, np.float32), sample.sample_rate
        )


class _Searched(Protocol):
    def search(self, vectors: Any, *, query_modality: str, k: int, to: str) -> list[list[Any]]: ...  # noqa: ANN401


class CatalogSounds:
    """The sounds of a catalog of the user's.

    Args:
        catalog: An open `embedspace.Catalog` of vectors of the same space.
        name: What the record calls it.
    """

    def __init__(self, catalog: _Searched, name: str = "catalog") -> None:
        self._catalog, self.name = catalog, name

    def find(self, vector: NDArray[np.float32], modality: str, seed: int) -> FoundSound:
        """Return the nearest sound that can be read, or with a seed other than 0 one drawn among the nearest.

        Raises:
            InputError: If the catalog has no sound that can be read.
        """
        (hits,) = self._catalog.search(vector[None], query_modality=modality, k=_HITS, to=Modality.AUDIO)
        order = list(range(len(hits)))
        if seed and hits:
            drawn = _drawn([hit.score for hit in hits[:_DRAWN_FROM]], seed)
            order = [drawn, *(k for k in order if k != drawn)]
        problem = "it holds none"
        for hit in (hits[k] for k in order):
            try:
                sound = load_audio(hit.uri, start=hit.start or 0.0, duration=_SECONDS)
            except MediaError as error:
                problem = str(error)
                continue
            return FoundSound(hit.text or Path(hit.uri).stem, hit.uri, hit.score, sound.waveform, sound.sample_rate)
        raise InputError(f"{self.name}: no sound of it can be read ({problem}); index a folder of sounds")


def bank_of(space: GeneratorsOwner, sounds: SoundBank | str, request: Request | None = None) -> SoundBank:
    """Return what gives the sounds.

    Args:
        space: The space.
        sounds: "gallery", "made", or a bank.
        request: How sounds are made, where they are.

    Raises:
        InputError: If a word is neither.
        WeightsError: If the space has no generator of sounds.
    """
    if not isinstance(sounds, str):
        return sounds
    if sounds == GALLERY:
        return GallerySounds(space)
    if sounds == MADE:
        return MadeSounds(space, request)
    raise InputError(f"sounds {sounds!r}: must be {GALLERY!r}, {MADE!r}, or a catalog of sounds")


def _drawn(similarities: Sequence[float], seed: int) -> int:
    """Return the place of the sound that a seed draws; that of the first for seed 0."""
    if not seed:
        return 0
    chances = np.exp((np.asarray(similarities, np.float64) - max(similarities)) / _SPREAD)
    return int(np.random.default_rng(seed).choice(len(chances), p=chances / chances.sum()))
