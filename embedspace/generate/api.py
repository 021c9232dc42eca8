"""Vectors in, media out: centring, the check for the unknown, the head, and where everything comes from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import InputError, OutsideError, UnknownModalityError
from embedspace.generate.base import GeneratorHead, Request, Sample, create_head
from embedspace.generate.captions.legible import needed_cosine
from embedspace.generate.captions.vocabulary import Memory, load_memory
from embedspace.generate.conditioning import MIXED, centre
from embedspace.modality import Modality

if TYPE_CHECKING:
    from embedspace.space import EmbeddingSpace

__all__ = ["HEADS", "generate", "head_of", "heads_folder", "interpolate", "known_rows", "readings"]

HEADS = Path(__file__).resolve().parents[1] / "weights" / "heads"
"""The heads that ship with the package, one folder a target modality."""

_NAMED = (Modality.IMAGE,)
"""Modalities whose vectors find documents better by the names they may have; the others were no better."""
_READINGS, _TEMPERATURE = 20, 0.04
"""How many names, and what divides their cosines: `eval/document_settings.py` shows what chose them."""

_heads: dict[tuple[int, Modality], tuple[EmbeddingSpace, GeneratorHead]] = {}


def heads_folder(space: EmbeddingSpace) -> Path:
    """Return where a space's heads lie: beside its own weights if there are any, else those of the package."""
    own = space.folder / "heads"
    return own if own.is_dir() else HEADS


def head_of(space: EmbeddingSpace, to: Modality | str) -> GeneratorHead:
    """Return the head that makes a modality, loading its weights the first time.

    Raises:
        UnknownModalityError: If there is no such modality.
        WeightsError: If this space has no head for it, or a damaged one.
    """
    try:
        wanted = Modality(to)
    except ValueError:
        raise UnknownModalityError(f"unknown modality {to!r}; known: {', '.join(Modality)}") from None
    key = (id(space), wanted)
    if key not in _heads or _heads[key][0] is not space:
        _heads[key] = (space, create_head(wanted, heads_folder(space), space))
    return _heads[key][1]


def generate(
    space: EmbeddingSpace,
    vectors: NDArray[np.float32],
    *,
    to: Modality | str,
    modality: str | Sequence[str] = "text",
    request: Request | None = None,
    neighbours: int = 0,
    force: bool = False,
    texts: Sequence[str] = (),
) -> list[list[Sample]]:
    """Turn vectors of the space into media.

    Args:
        space: The space.
        vectors: (embed_dim,) or (N, embed_dim), from `encode` or `embedspace.query.compose`.
        to: Target modality.
        modality: Of all vectors or of each: which encoder made it; "mixed" for a composed query that was centred.
        request: How many samples, seed, guidance, ...
        neighbours: So many nearest training items with each sample.
        force: Also generate from a vector that is far from everything known.
        texts: The words that each vector is of, "" for one that is of something else: words that the text encoder
            does not know count as unknown sooner.

    Returns:
        Result i holds the samples of vectors[i], best first where the head ranks them.

    Raises:
        InputError: If the vectors are no vectors of this space.
        OutsideError: If a vector is far from everything that the generators know, without `force`.
        UnknownModalityError: If there is no such target.
        WeightsError: If this space has no head for the target.
    """
    rows = np.atleast_2d(np.asarray(vectors, np.float32))
    if rows.ndim != 2 or rows.shape[1] != space.embed_dim or not len(rows):
        raise InputError(f"vectors must be (N, {space.embed_dim}) with N of at least 1, got shape {rows.shape}")
    names = [modality] * len(rows) if isinstance(modality, str) else list(modality)
    head = head_of(space, to)
    centred = centre(rows, names, space.calibration.means)
    memory = _memory(space)
    known = known_rows(memory, centred, names)
    if memory is not None and any(texts):
        known = [
            near and _legible(space, memory, row, text) for near, row, text in zip(known, centred, texts, strict=True)
        ]
    outside = [index for index, near in enumerate(known) if not near]
    if outside and not force:
        which = f"vector {outside[0] + 1}: " if len(rows) > 1 else ""
        nearest = memory.neighbours(centred[outside[0]], 1)[0] if memory is not None else None
        beside = f" (nearest: {nearest.caption!r}, cosine {nearest.similarity:.2f})" if nearest else ""
        raise OutsideError(f"{which}outside what the generator knows{beside}; --force generates all the same")
    asked = request or Request()
    sigma = np.array([head.noise_of(name) for name in names], np.float32)
    made = head.generate(centred, sigma, asked)
    return [
        [
            _finish(sample, head, asked, name, index in outside, memory.neighbours(row, neighbours) if memory else ())
            for sample in samples
        ]
        for index, (row, name, samples) in enumerate(zip(centred, names, made, strict=True))
    ]


def known_rows(memory: Memory | None, centred: NDArray[np.float32], names: Sequence[str]) -> list[bool]:
    """Return whether each centred row is near something known; everything is where there is no memory."""
    if memory is None:
        return [True] * len(centred)
    return [bool(memory.is_known(row[None], name)[0]) for row, name in zip(centred, names, strict=True)]


def _legible(space: EmbeddingSpace, memory: Memory, centred: NDArray[np.float32], text: str) -> bool:
    """Return whether the encoder knows a word of a text, or its vector lies near enough to a name all the same."""
    split = getattr(space.encoder(Modality.TEXT), "words_of", None) if text and hasattr(space, "encoder") else None
    needed = needed_cosine(split(text)) if split is not None else -1.0
    return needed <= -1.0 or float(memory.cosines(centred[None]).max()) >= needed


def names_of(
    space: EmbeddingSpace, vectors: NDArray[np.float32], modality: str, k: int
) -> list[list[tuple[str, float]]]:
    """Return the k nearest names of each vector with their shares; see `EmbeddingSpace.names`."""
    memory = _memory(space)
    if memory is None:
        return [[] for _ in vectors]
    centred = centre(vectors, [modality] * len(vectors), space.calibration.means)
    return [memory.names(row, k) for row in centred]


def readings(space: EmbeddingSpace, vectors: NDArray[np.float32], modality: str) -> NDArray[np.float32]:
    """Return the vectors of the names that things may have; see `EmbeddingSpace.for_documents`."""
    memory = _memory(space) if modality in _NAMED else None
    if memory is None:
        return np.asarray(vectors, np.float32)[:, None]
    centred = centre(vectors, [modality] * len(vectors), space.calibration.means)
    return memory.readings(centred, _READINGS, _TEMPERATURE)


def _memory(space: EmbeddingSpace) -> Memory | None:
    folder = heads_folder(space)
    return load_memory(folder) if (folder / "memory.json").is_file() else None


def _finish(
    sample: Sample, head: GeneratorHead, request: Request, source: str, outside: bool, beside: tuple[Any, ...]
) -> Sample:
    """Add what it was made by, and its neighbours."""
    about = {
        "head": head.modality.value,
        "family": request.family or (head.families[0] if head.families else ""),
        "weights": head.digest,
        "seed": sample.seed,
        "source_modality": source,
        **{name: value for name in _ASKED if (value := getattr(request, name)) is not None},
        **({"outside": True} if outside else {}),
        **sample.provenance,
    }
    return dataclasses.replace(sample, provenance=about, neighbours=(*beside, *sample.neighbours) if beside else ())


_ASKED = ("num_steps", "guidance_scale", "size", "seconds", "voice", "candidates")


def interpolate(
    first: tuple[NDArray[np.float32], str],
    last: tuple[NDArray[np.float32], str],
    frames: int,
    space: EmbeddingSpace,
) -> NDArray[np.float32]:
    """Return vectors on the great circle between two, both ends included: (frames, embed_dim) of modality "mixed".

    Args:
        first: Vector (embed_dim,) and its modality.
        last: The same.
        frames: At least 2.
        space: Whose means are taken out first.

    Raises:
        InputError: If there are fewer than two frames.

    Source: Shoemake 1985, "Animating rotation with quaternion curves", slerp.
    """
    if frames < 2:
        raise InputError(f"-n {frames}: a morph has at least 2 frames")
    a, b = (centre(vector[None], name, space.calibration.means)[0].astype(np.float64) for vector, name in (first, last))
    angle = math.acos(float(np.clip(a @ b, -1.0, 1.0)))
    shares = np.linspace(0.0, 1.0, frames)[:, None]
    if math.sin(angle) < 1e-4:  # the same, or opposite: the straight line serves as well
        rows = (1 - shares) * a + shares * b
    else:
        rows = (np.sin((1 - shares) * angle) * a + np.sin(shares * angle) * b) / math.sin(angle)
    return centre(rows.astype(np.float32), MIXED, {})
