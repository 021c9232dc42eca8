"""What generators learn from: texts of the training split with their vectors, and items' own vectors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration.centring import centre
from embedspace.catalog.ingest.manifests import BadRow
from embedspace.catalog.ingest.tables import read_rows
from embedspace.errors import ConfigError
from embedspace.generate.conditioning import noise_for_cosine
from embedspace.modality import Modality
from embedspace.space import EmbeddingSpace

__all__ = ["GeneratorTexts", "OwnVectors", "own_vectors", "read_texts", "rows_of", "text_vectors"]

Row = dict[str, Any]


@dataclass(frozen=True)
class GeneratorTexts:
    """Texts of the training split.

    Attributes:
        texts: Unique, in lower case.
        vectors: (M, embed_dim) centred unit rows.
        items: Id of a training item that each names.
        kinds: "caption", "keyword", "class", "word" or "title": the best that each is for any item.
    """

    texts: list[str]
    vectors: NDArray[np.float32]
    items: list[str]
    kinds: list[str]


_ORDER = ("caption", "class", "word", "keyword", "title")


def rows_of(corpora: Path) -> list[Row]:
    """Return the rows of all manifests but those that were dropped.

    Raises:
        ConfigError: If no corpus is built, or a row is unreadable.
    """
    paths = sorted(corpora.glob("*/manifest.jsonl"))
    if not paths:
        raise ConfigError(f"{corpora}: no corpora there; corpora names a folder of folders, each with a manifest.jsonl")
    rows: list[Row] = []
    for path in paths:
        for number, row in enumerate(read_rows(path), 1):
            if isinstance(row, BadRow):
                raise ConfigError(f"{path}:{number}: {row.reason}")
            rows.append(row)
    return [row for row in rows if row.get("split", "train") != "drop"]


def text_vectors(features: Path, space: EmbeddingSpace) -> dict[str, NDArray[np.float32]]:
    """Return text -> centred unit vector (embed_dim,).

    Raises:
        ConfigError: If they were not made, or with another space's weights.
    """
    ids, vectors = _read(features / "vectors" / "text" / "texts.npz", space, Modality.TEXT)
    return dict(zip(ids, centre(vectors, Modality.TEXT, space.calibration.means), strict=True))


def _read(path: Path, space: EmbeddingSpace, modality: str) -> tuple[list[str], NDArray[np.float32]]:
    if not path.is_file():
        raise ConfigError(f"{path}: no vectors there; encode the {modality} items of the corpora with the space first")
    with np.load(path) as stored:
        if str(stored["fingerprint"]) != space.fingerprints()[modality]:
            raise ConfigError(f"{path}: made with other weights; encode the {modality} items with this space again")
        return stored["ids"].tolist(), stored["vectors"].astype(np.float32)


def read_texts(rows: list[Row], vectors: Mapping[str, NDArray[np.float32]], classes: Path) -> GeneratorTexts:
    """Return every text of the training split that has a vector; the same words in other case count once.

    Args:
        rows: Rows of all manifests.
        vectors: From `text_vectors`.
        classes: ImageNet's class names.
    """
    found: dict[str, tuple[int, str, str]] = {}  # lower case -> (order of its kind, item, text as written)

    def add(text: str, kind: str, item: str) -> None:
        rank = _ORDER.index(kind)
        key = " ".join(text.casefold().split())
        if text in vectors and key and (key not in found or rank < found[key][0]):
            found[key] = (rank, item, text)

    for row in rows:
        if row.get("split", "train") != "train" or row["modality"] == Modality.SPEECH:
            continue
        kind = "caption" if row["modality"] != Modality.TEXT else "title" if row["source"] == "recipes" else "word"
        for text in row.get("captions", ()):
            add(text, kind, row["id"])
        for text in row.get("keywords", ()):
            add(text, "keyword", row["id"])
    for number, entry in enumerate(json.loads(classes.read_text("utf-8"))):
        for text in (entry["name"], *entry["synonyms"]):
            add(text, "class", f"imagenet/{number}")
    keys = sorted(found)
    return GeneratorTexts(
        keys,
        np.stack([vectors[found[key][2]] for key in keys]),
        [found[key][1] for key in keys],
        [_ORDER[found[key][0]] for key in keys],
    )


@dataclass(frozen=True)
class OwnVectors:
    """Vectors of items of one modality.

    Attributes:
        modality: Which encoder made them.
        vectors: (N, embed_dim) centred unit rows.
        rows: Their manifest rows.
        sigma: Noise that would give the same cosine with the caption's vector, by the median of validation items; None
            where no item has a caption to compare with.
    """

    modality: str
    vectors: NDArray[np.float32]
    rows: list[Row]
    sigma: float | None

    def of_split(self, split: str) -> tuple[NDArray[np.float32], list[Row]]:
        """Return the vectors (n, embed_dim) and the manifest rows of a split."""
        chosen = [k for k, row in enumerate(self.rows) if row.get("split", "train") == split]
        return self.vectors[chosen], [self.rows[k] for k in chosen]


def own_vectors(
    features: Path,
    space: EmbeddingSpace,
    rows: list[Row],
    texts: Mapping[str, NDArray[np.float32]],
    modality: str,
    judge_split: str = "val",
) -> OwnVectors | None:
    """Read the vectors of a modality's items; None where none were made.

    Args:
        features: Folder of features.
        space: The space.
        rows: Rows of all manifests.
        texts: From `text_vectors`.
        modality: "image", "audio" or "speech".
        judge_split: Items that the noise is measured on; where there are fewer than 20, the training items, whose
            vectors are closer to their captions than new ones are.
    """
    by_id = {row["id"]: row for row in rows}
    blocks, chosen = [], []
    for path in sorted((features / "vectors" / modality).glob("*.npz")):
        ids, vectors = _read(path, space, modality)
        keep = [k for k, name in enumerate(ids) if name in by_id]
        blocks.append(vectors[keep])
        chosen += [by_id[ids[k]] for k in keep]
    if not chosen:
        return None
    centred = centre(np.concatenate(blocks), modality, space.calibration.means)
    cosines = {
        split: [
            float(vector @ texts[row["captions"][0]])
            for vector, row in zip(centred, chosen, strict=True)
            if row.get("split", "train") == split and row.get("captions") and row["captions"][0] in texts
        ]
        for split in (judge_split, "train")
    }
    enough = cosines[judge_split] if len(cosines[judge_split]) >= 20 else cosines["train"]
    sigma = noise_for_cosine(float(np.median(enough))) if enough else None
    return OwnVectors(modality, centred, chosen, sigma)
