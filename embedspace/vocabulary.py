"""The vocabulary: names of the training items with their vectors, which search and generation share.

It answers three questions: is a vector near anything known, which training items lie beside it, and what is the nearest
vector that a text could have had. Numpy only: no torch, so that a search by words and a document's vector need none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from embedspace.calibration.centring import centre
from embedspace.errors import WeightsError
from embedspace.files import read_config
from embedspace.modality import Modality, named_or_beside

__all__ = [
    "SHIPPED_GENERATORS",
    "Neighbour",
    "Vocabulary",
    "generator_targets",
    "generators_folder",
    "load_vocabulary",
    "names_of",
    "readings_of",
    "vocabulary_of",
]

SHIPPED_GENERATORS = Path(__file__).resolve().parent / "weights" / "heads"
"""The generators that ship with the package, one folder per target modality, and the vocabulary that they share."""
FORMAT = 1
_VECTORS, _NAMES = "memory.safetensors", "memory.json"
"""The files of a vocabulary; they keep the names that they had when it was called a memory."""
_SHARE_TEMPERATURE = 0.05
"""Temperature of the shares of names."""
_READ_AS_NAMES = (Modality.IMAGE, Modality.VIDEO)
"""Modalities whose vectors find documents better by the names they may have; sound and speech were no better. A video's
are means of pictures'."""
_READINGS, _READING_TEMPERATURE = 20, 0.04
"""How many names, and what divides their cosines: `eval/document_settings.py` shows what chose them."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A training item beside a vector or a sample.

    Attributes:
        item: Id in the training corpora.
        caption: What it is called.
        similarity: Cosine in the space (of the condition), or of the outputs themselves where `of` says so.
        of: "condition" or "output".
    """

    item: str
    caption: str
    similarity: float
    of: str = "condition"


class Vocabulary:
    """Names of training items and their centred text vectors.

    Args:
        vectors: (M, embed_dim) unit rows.
        captions: M names.
        items: M ids of a training item that has the name.
        known_cosine: Source modality -> cosine with the nearest name below which a vector counts as unknown.
        pictured: Places of the names that pictures bear, ascending; all where None.

    Raises:
        WeightsError: If their numbers differ, or a place is that of no name.
    """

    def __init__(
        self,
        vectors: NDArray[np.float32],
        captions: Sequence[str],
        items: Sequence[str],
        known_cosine: Mapping[str, float] | None = None,
        pictured: Sequence[int] | None = None,
    ) -> None:
        if not len(vectors) == len(captions) == len(items):
            raise WeightsError(f"{len(vectors)} vectors, {len(captions)} captions and {len(items)} ids do not match")
        self.vectors = vectors
        self.captions = list(captions)
        self.items = list(items)
        self.known_cosine = dict(known_cosine or {})
        self.pictured = None if pictured is None else np.asarray(pictured, np.int64)
        if self.pictured is not None and not np.isin(self.pictured, np.arange(len(captions))).all():
            raise WeightsError(f"pictured captions: places outside 0 to {len(captions) - 1}")

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self.captions)

    def cosines(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (N, M) cosines of centred unit rows (N, embed_dim)."""
        found: NDArray[np.float32] = vectors @ self.vectors.T
        return found

    def is_known(self, vectors: NDArray[np.float32], modality: str) -> NDArray[np.bool_]:
        """Return (N,) whether each centred vector is as near to a name as those of known things are."""
        threshold = named_or_beside(self.known_cosine, modality)
        if threshold is None:
            threshold = min(self.known_cosine.values(), default=-1.0)
        known: NDArray[np.bool_] = self.cosines(vectors).max(axis=1) >= threshold
        return known

    def neighbours(self, vector: NDArray[np.float32], k: int) -> tuple[Neighbour, ...]:
        """Return the k nearest training items of a centred vector (embed_dim,), nearest first."""
        row = self.cosines(vector[None])[0]
        order = np.argsort(-row, kind="stable")[:k]
        return tuple(Neighbour(self.items[i], self.captions[i], float(row[i])) for i in order)

    def names(self, vector: NDArray[np.float32], k: int) -> list[tuple[str, float]]:
        """Return the k nearest names of a centred vector (embed_dim,) with their shares, a softmax of the cosines."""
        beside = self.neighbours(vector, k)
        weights = np.exp((np.array([n.similarity for n in beside]) - beside[0].similarity) / _SHARE_TEMPERATURE)
        return [(n.caption, float(w)) for n, w in zip(beside, weights / weights.sum(), strict=True)]

    def readings(self, vectors: NDArray[np.float32], k: int, temperature: float) -> NDArray[np.float32]:
        """Return the names that pictures, centred vectors (N, embed_dim), may have: (N, k, embed_dim), likeliest first.

        A row's direction is the name's vector, its length the name's share: softmax(cosine / temperature) among the k
        nearest names that pictures bear. Names of songs or recipes, which no picture is called, take no part.
        """
        names = self.vectors if self.pictured is None else self.vectors[self.pictured]
        cosines = vectors @ names.T
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]  # (N, k)
        logits = np.take_along_axis(cosines, order, axis=1).astype(np.float64) / temperature
        shares = np.exp(logits - logits[:, :1])
        shares /= shares.sum(axis=1, keepdims=True)
        rows: NDArray[np.float32] = (names[order] * shares[..., None]).astype(np.float32)
        return rows

    def project(self, vectors: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
        """Return the text vectors that centred vectors (N, embed_dim) stand for, unit rows.

        Each is the mean of the names' vectors weighted by softmax(cosine / temperature): it lies where texts lie.

        Source: Li et al. 2023 (DeCap, https://arxiv.org/abs/2303.03032), equation 3.
        """
        logits = self.cosines(vectors).astype(np.float64) / temperature
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        rows = (weights / weights.sum(axis=1, keepdims=True)) @ self.vectors
        unit: NDArray[np.float32] = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(
            np.float32
        )
        return unit

    def project_noisy(
        self, vectors: NDArray[np.float32], sigma: NDArray[np.float32], temperature: float, projected_sigma: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Project the vectors whose noise is larger than what a projected vector has; leave the others as they are.

        Args:
            vectors: (N, embed_dim) centred unit rows.
            sigma: (N,) noise in each.
            temperature: Temperature of `project`; 0 leaves every vector as it is.
            projected_sigma: Noise that is then assumed in a projected vector.

        Returns:
            Vectors and noise, of the same shapes.
        """
        noisy = np.asarray(sigma) > projected_sigma
        if temperature <= 0 or not noisy.any():
            return vectors, sigma
        rows, noise = vectors.copy(), np.array(sigma, np.float32)
        rows[noisy], noise[noisy] = self.project(vectors[noisy], temperature), projected_sigma
        return rows, noise

    def save(self, folder: Path, text_head: str) -> None:
        """Write memory.safetensors (8-bit rows) and memory.json.

        Args:
            folder: Folder of the generators; made if it is not there.
            text_head: Checksum of the text projection that made the vectors.
        """
        folder.mkdir(parents=True, exist_ok=True)
        save_file(_packed(self.vectors), folder / _VECTORS)
        about = {
            "format": FORMAT,
            "text_head": text_head,
            "nearest": self.known_cosine,
            "captions": self.captions,
            "items": self.items,
            **({} if self.pictured is None else {"pictured": self.pictured.tolist()}),
        }
        (folder / _NAMES).write_text(json.dumps(about, ensure_ascii=False) + "\n", "utf-8")


def _packed(vectors: NDArray[np.float32]) -> dict[str, NDArray[np.generic]]:
    """Return int8 rows and their scales, as `embedspace.encoders.quantize.to_rows8` writes large matrices."""
    rows = np.asarray(vectors, np.float32)
    scale = np.maximum(np.abs(rows).max(axis=1, initial=0.0) / np.float32(127), np.float32(1e-12))
    return {"vectors": np.rint(rows / scale[:, None]).astype(np.int8), "vectors.row_scale": scale}


def _unpacked(tensors: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float32]:
    """Return (M, embed_dim) unit rows of what a file holds: int8 rows with scales, or rows in half precision."""
    rows = tensors["vectors"].astype(np.float32)
    if "vectors.row_scale" in tensors:
        rows *= tensors["vectors.row_scale"].astype(np.float32)[:, None]
    unit: NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))
    return unit


@lru_cache(maxsize=2)
def load_vocabulary(folder: Path) -> Vocabulary:
    """Read what `Vocabulary.save` wrote.

    Raises:
        WeightsError: If it is missing or damaged.
    """
    about = read_config(folder / _NAMES, FORMAT, "names of a vocabulary")
    try:
        vectors, names, items = _unpacked(load_file(folder / _VECTORS)), about["captions"], about["items"]
        return Vocabulary(vectors, names, items, about["nearest"], about.get("pictured"))
    except (SafetensorError, KeyError, TypeError, AttributeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(f"{folder / _VECTORS}: not the vectors of a vocabulary: {reason}") from error


def generators_folder(space_folder: Path, *, composed: bool = False) -> Path:
    """Return where the generators of a space lie, its vocabulary among them: beside its weights, else the package's.

    Args:
        space_folder: Holds the space's weights.
        composed: The space is one of other towers: what the package's generators know lies in another space.
    """
    own = space_folder / "heads"
    return own if composed or own.is_dir() else SHIPPED_GENERATORS


def generator_targets(folder: Path) -> list[str]:
    """Return what can be made by the generators in a folder: the names of the folders that hold a configuration."""
    return sorted(path.parent.name for path in folder.glob("*/config.json"))


def vocabulary_of(folder: Path, embed_dim: int | None = None) -> Vocabulary | None:
    """Return the vocabulary in a folder of generators; None where there is none, or one of another width's space.

    Raises:
        WeightsError: If it is damaged.
    """
    found = load_vocabulary(folder) if (folder / _NAMES).is_file() else None
    return None if found is None or embed_dim not in (None, found.vectors.shape[1]) else found


def names_of(
    vocabulary: Vocabulary | None,
    vectors: NDArray[np.float32],
    modality: str,
    k: int,
    means: Mapping[str, NDArray[np.float32]],
) -> list[list[tuple[str, float]]]:
    """Return the k nearest names of each vector with their shares; see `EmbeddingSpace.names`.

    Args:
        vocabulary: The names; None where there are none.
        vectors: (N, embed_dim) unit rows of the space.
        modality: Modality of all of them.
        k: Names per vector.
        means: Modality -> (embed_dim,) mean.
    """
    if vocabulary is None:
        return [[] for _ in vectors]
    return [vocabulary.names(row, k) for row in centre(vectors, [modality] * len(vectors), means)]


def readings_of(
    vocabulary: Vocabulary | None,
    vectors: NDArray[np.float32],
    modality: str,
    means: Mapping[str, NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Return (N, K, embed_dim) vectors of the names that things may have; see `EmbeddingSpace.for_documents`.

    Args: as `names_of`.
    """
    if vocabulary is None or modality not in _READ_AS_NAMES:
        return np.asarray(vectors, np.float32)[:, None]
    return vocabulary.readings(centre(vectors, [modality] * len(vectors), means), _READINGS, _READING_TEMPERATURE)
