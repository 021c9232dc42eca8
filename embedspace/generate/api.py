"""Vectors in, media out: centring, the check for the unknown, the generator, and where everything comes from."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration.centring import MIXED, centre
from embedspace.errors import ArgumentError, InputError, OutsideError, UnknownModalityError
from embedspace.generate.base import Generator, GeneratorSpace, Neighbour, Request, Sample, Sources
from embedspace.generate.captions.legible import needed_cosine
from embedspace.generate.memory import generate_within
from embedspace.generate.pretrained.head import Head
from embedspace.generate.registry import create_generator
from embedspace.modality import Modality
from embedspace.vocabulary import Vocabulary, generator_targets, generators_folder, vocabulary_of

__all__ = ["Generators", "GeneratorsOwner", "generate", "interpolate"]


class Generators:
    """The generators of one space, each loaded when it is first used; `EmbeddingSpace.generators`.

    Args:
        space: Whose vectors they are given. Its own generators lie beside its weights; where it has none, it has those
            that ship with the package.
    """

    def __init__(self, space: GeneratorSpace) -> None:
        self.space = space
        self.folder = generators_folder(space.folder, composed=bool(space.config.get("towers")))
        self._loaded: dict[str, Generator] = {}
        self._heads: dict[tuple[Any, ...], Generator] = {}
        self._lock = threading.RLock()

    @property
    def targets(self) -> list[str]:
        """What can be made: "audio", "image", ..."""
        return generator_targets(self.folder)

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The names that generators know; None where they came without."""
        return vocabulary_of(self.folder, self.space.embed_dim)

    def __getitem__(self, to: Modality | str) -> Generator:
        """Return the generator of a target, loading its weights the first time.

        Raises:
            UnknownModalityError: If there is no such target.
            WeightsError: If this space has no generator of it, or a damaged one.
            ConfigError: If its configuration names an unknown type or key.
        """
        target = self._known_target(to)
        with self._lock:
            if target not in self._loaded:
                self._loaded[target] = create_generator(target, self.folder, self.space)
            return self._loaded[target]

    def of(self, to: Modality | str, head: Head | str | None = None) -> Generator:
        """Return a pretrained head, loading it the first time; without one, the space's own generator of a target.

        Args:
            to: Target.
            head: A reference, such as "diffusers:<folder or name>", or one with options; None: `self[to]`.

        Raises:
            ArgumentError: If no head has such a reference, or it makes something else.
            ConfigError: If no adapter knows it, or it takes vectors of another tower than this space's.
            WeightsError: If its files are missing or damaged, or would have to be downloaded.
            MissingExtraError: If it needs a library that is not installed.
        """
        if head is None:
            return self[to]
        from embedspace.generate.pretrained.registry import create_head

        target, asked = self._known_target(to), Head(head) if isinstance(head, str) else head
        with self._lock:
            if (target, *asked.key) not in self._heads:
                self._heads[target, *asked.key] = create_head(target, asked, self.space)
            return self._heads[target, *asked.key]

    def _known_target(self, to: Modality | str) -> str:
        target = str(to)
        if target not in list(Modality) and target not in self.targets:
            known = ", ".join(dict.fromkeys([*Modality, *self.targets]))
            raise UnknownModalityError(f"unknown modality {to!r}; known: {known}")
        return target

    def known(self, centred: NDArray[np.float32], modalities: Sequence[str], texts: Sequence[str]) -> list[bool]:
        """Return whether each centred row is near something known; everything is where there is no vocabulary.

        Args:
            centred: (N, embed_dim) centred unit rows.
            modalities: Which encoder made each.
            texts: The words that each row is of, "" for one that is of something else; or none at all.
        """
        vocabulary = self.vocabulary
        if vocabulary is None:
            return [True] * len(centred)
        near = [bool(vocabulary.is_known(row[None], name)[0]) for row, name in zip(centred, modalities, strict=True)]
        if not any(texts):
            return near
        return [
            own and self._is_legible(vocabulary, row, text) for own, row, text in zip(near, centred, texts, strict=True)
        ]

    def _is_legible(self, vocabulary: Vocabulary, centred: NDArray[np.float32], text: str) -> bool:
        """Return whether the encoder knows a word of a text, or its vector lies near enough to a name all the same."""
        encoder = getattr(self.space, "encoder", None) if text else None
        split = getattr(encoder(Modality.TEXT), "words_of", None) if encoder is not None else None
        needed = needed_cosine(split(text)) if split is not None else -1.0
        return needed <= -1.0 or float(vocabulary.cosines(centred[None]).max()) >= needed


class GeneratorsOwner(GeneratorSpace, Protocol):
    """A space that holds its generators; `EmbeddingSpace` fulfils it."""

    @property
    def generators(self) -> Generators:
        """The generators."""
        ...


def generate(
    space: GeneratorsOwner,
    vectors: NDArray[np.float32],
    *,
    to: Modality | str,
    modality: str | Sequence[str] = "text",
    request: Request | None = None,
    neighbours: int = 0,
    force: bool = False,
    texts: Sequence[str] = (),
    head: Head | str | None = None,
) -> list[list[Sample]]:
    """Turn vectors of the space into media.

    Args:
        space: The space.
        vectors: (embed_dim,) or (N, embed_dim), from `encode` or `embedspace.query.compose`.
        to: Target modality.
        modality: Modality of all vectors or of each: which encoder made it; "mixed" for a composed query that was
            centred.
        request: How many samples, seed, guidance, ...
        neighbours: So many nearest training items with each sample.
        force: Also generate from a vector that is far from everything known.
        texts: The words that each vector is of, "" for one that is of something else: words that the text encoder
            does not know count as unknown sooner.
        head: A published generator in place of the space's own, see `Generators.of`.

    Returns:
        Result i holds the samples of vectors[i], best first where the generator ranks them.

    Raises:
        InputError: If the vectors are no vectors of this space.
        ArgumentError: If the request has an option that the generator does not take, or there is no such head, or a
            sample is too large for the memory.
        ConfigError: If a head takes vectors of another tower than this space's.
        OutsideError: If a vector is far from everything that the generators know, without `force`.
        UnknownModalityError: If there is no such target.
        WeightsError: If this space has no generator of the target.
    """
    rows = np.atleast_2d(np.asarray(vectors, np.float32))
    if rows.ndim != 2 or rows.shape[1] != space.embed_dim or not len(rows):
        raise InputError(f"vectors must be (N, {space.embed_dim}) with N of at least 1, got shape {rows.shape}")
    names = [modality] * len(rows) if isinstance(modality, str) else list(modality)
    asked, generator = request or Request(), space.generators.of(to, head)
    generator.check(asked)
    centred = centre(rows, names, space.calibration.means)
    vocabulary = space.generators.vocabulary
    near = space.generators.known(centred, names, texts) if generator.is_limited else [True] * len(rows)
    outside = [row for row, known in enumerate(near) if not known]
    if outside and not force:
        raise _outside(vocabulary, centred, outside[0])
    sigma = np.array([generator.noise_of(name) for name in names], np.float32)
    words = list(texts) or [""] * len(rows)
    drawn = generate_within(generator, Sources(rows, centred, sigma, names, words), asked)
    beside = [vocabulary.neighbours(row, neighbours) if vocabulary is not None else () for row in centred]
    return [
        [_with_origin(sample, generator, asked, names[row], row in outside, beside[row]) for sample in samples]
        for row, samples in enumerate(drawn)
    ]


def _outside(vocabulary: Vocabulary | None, centred: NDArray[np.float32], row: int) -> OutsideError:
    """Return the error that names the nearest thing that is known to a row of the centred vectors."""
    which = f"vector {row + 1}: " if len(centred) > 1 else ""
    nearest = vocabulary.neighbours(centred[row], 1)[0] if vocabulary is not None else None
    beside = f" (nearest: {nearest.caption!r}, cosine {nearest.similarity:.2f})" if nearest else ""
    return OutsideError(f"{which}outside what the generator knows{beside}; force=True generates all the same")


def _with_origin(
    sample: Sample,
    generator: Generator,
    request: Request,
    source: str,
    outside: bool,
    beside: tuple[Neighbour, ...],
) -> Sample:
    """Add what a sample was made by, and its neighbours."""
    about = {
        "head": str(generator.modality),  # the key of files written before it was called a generator
        "family": request.family or next(iter(generator.families), ""),
        "weights": generator.digest,
        "seed": sample.seed,
        "source_modality": source,
        **{name: value for name, value in request.asked.items() if name != "family"},
        **({"outside": True} if outside else {}),
        **sample.provenance,
    }
    return dataclasses.replace(sample, provenance=about, neighbours=(*beside, *sample.neighbours) if beside else ())


def interpolate(
    first: tuple[NDArray[np.float32], str],
    last: tuple[NDArray[np.float32], str],
    frames: int,
    space: GeneratorSpace,
) -> NDArray[np.float32]:
    """Return vectors on the great circle between two, both ends included: (frames, embed_dim) of modality "mixed".

    Args:
        first: Vector (embed_dim,) and its modality.
        last: The same.
        frames: At least 2.
        space: Whose means are taken out first.

    Raises:
        ArgumentError: If there are fewer than two frames.

    Source: Shoemake 1985, "Animating rotation with quaternion curves", slerp.
    """
    if frames < 2:
        raise ArgumentError("frames", f"{frames}: a morph has at least 2 frames")
    a, b = (centre(vector[None], name, space.calibration.means)[0].astype(np.float64) for vector, name in (first, last))
    angle = math.acos(float(np.clip(a @ b, -1.0, 1.0)))
    shares = np.linspace(0.0, 1.0, frames)[:, None]
    if math.sin(angle) < 1e-4:  # the same, or opposite: the straight line serves as well
        rows = (1 - shares) * a + shares * b
    else:
        rows = (np.sin((1 - shares) * angle) * a + np.sin(shares * angle) * b) / math.sin(angle)
    return centre(rows.astype(np.float32), MIXED, {})
