"""Read the built corpora and their cached features into `PairSource`s.

A corpus is `<corpora>/<source>/manifest.jsonl`, one JSON object a line (`id`, `modality`, `captions`, `keywords`,
`split`, `extra`, ...). Features are `<features>/<kind>/<source>.<view>.npz` with arrays `ids`, `features`, `logits`;
those of speech are `<features>/speech/<source>/*.npz` with `ids`, `starts` and `frames`; the vectors of all texts are
`<features>/text/texts.npz`.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import ConfigError
from embedspace.train.batches import CaptionTable, PairSource

__all__ = [
    "AUDIO_FOLDS",
    "FeatureTable",
    "Sequences",
    "body_of",
    "caption_table",
    "find_sequences",
    "fold_of",
    "manifest_rows",
    "pair_source",
    "read_features",
    "read_recognised",
    "read_sequences",
    "read_vectors",
]

Row = dict[str, Any]

AUDIO_FOLDS = 10
"""Member k of the audio ensemble never sees fold k, so that the calibration has sounds each member did not train on."""


def fold_of(name: str) -> int:
    """Return the fold of an item by its id, stable across runs."""
    return zlib.crc32(name.encode()) % AUDIO_FOLDS


def manifest_rows(corpora: Path, source: str, modality: str) -> Iterator[Row]:
    """Yield the rows of one modality of a source's manifest.

    Raises:
        ConfigError: If the corpus is not built.
    """
    path = corpora / source / "manifest.jsonl"
    if not path.is_file():
        raise ConfigError(f"{path}: this corpus is not built; run: python -m training.corpora --only {source}")
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            if row["modality"] == modality:
                yield row


def body_of(extra: Mapping[str, Any]) -> str:
    """Return what a recipe says besides its title."""
    return f"{extra.get('ingredients', '')}\n\n{extra.get('steps', '')}".strip()


def caption_table(features: Path) -> CaptionTable:
    """Read the vectors of every caption.

    Raises:
        ConfigError: If they were not made.
    """
    path = features / "text" / "texts.npz"
    if not path.is_file():
        raise ConfigError(f"{path}: no text features; run: python -m training.align.features text")
    stored = np.load(path)
    return CaptionTable({t: k for k, t in enumerate(stored["texts"].tolist())}, stored["features"])


@dataclass(frozen=True)
class FeatureTable:
    """Features of a source's items: `index[id][view]` is a row of `features` and of `logits`."""

    index: dict[str, list[int]]
    features: NDArray[np.float16]
    logits: NDArray[np.float16]


def read_features(features: Path, kind: str, source: str, views: int, tail: Path | None = None) -> FeatureTable:
    """Read the cached features of a source.

    Args:
        features: Folder of features.
        kind: "image" or "audio".
        source: Name of the source.
        views: Views to read at most; the first is the plain one.
        tail: Folder with `<source>.<view>.npz` of a tuned tail, whose features are appended.

    Raises:
        ConfigError: If there are none.
    """
    index: dict[str, list[int]] = {}
    blocks, scores, count = [], [], 0
    for view in range(views):
        path = features / kind / f"{source}.{view}.npz"
        if not path.is_file():
            if view == 0:
                raise ConfigError(
                    f"{path}: no such features; run: python -m training.align.features {kind} --only {source}"
                )
            break
        stored = np.load(path)
        block, logits, ids = stored["features"], stored["logits"], stored["ids"].tolist()
        if tail is not None:
            tail_path = tail / path.name
            if not tail_path.is_file():
                raise ConfigError(f"{tail_path}: no such features; run: python -m training.finetune.image train")
            tuned = np.load(tail_path)
            rows = {i: k for k, i in enumerate(tuned["ids"].tolist())}
            both = [k for k, i in enumerate(ids) if i in rows]  # a copy of a test item found later is not tuned on
            block = np.concatenate([block[both], tuned["features"][[rows[ids[k]] for k in both]]], axis=1)
            ids, logits = [ids[k] for k in both], logits[both]
        for k, name in enumerate(ids):
            index.setdefault(name, []).append(count + k)
        blocks.append(block)
        scores.append(logits)
        count += len(ids)
    return FeatureTable(index, np.concatenate(blocks), np.concatenate(scores))


def pair_source(
    name: str,
    rows: Sequence[Row],
    table: FeatureTable,
    captions: CaptionTable,
    *,
    weight: float,
    keywords: int = 0,
) -> PairSource:
    """Join manifest rows, features and captions; rows without features or known captions are left out."""
    views: list[list[int]] = []
    texts: list[NDArray[np.int64]] = []
    weights: list[float] = []
    for row in rows:
        known = [c for c in [*row.get("captions", ()), *row.get("keywords", ())[:keywords]] if c in captions.index]
        if row["id"] not in table.index or not known:
            continue
        views.append(table.index[row["id"]])
        texts.append(captions.rows(known))
        weights.append(float(row.get("extra", {}).get("weight", 1.0)))
    width = max((len(v) for v in views), default=1)
    padded = np.array([(v * width)[:width] for v in views], dtype=np.int64).reshape(-1, width)
    return PairSource(name, table.features, padded, texts, weight, np.array(weights, dtype=np.float64))


def read_recognised(features: Path, source: str) -> dict[str, NDArray[np.float16]]:
    """Return clip id -> (text_dim,) vector of what was recognised in it; zero where nothing was.

    Raises:
        ConfigError: If there are none.
    """
    return _read_vectors(
        features / "recognised" / f"{source}.npz", f"python -m training.align.features recognised --only {source}"
    )


def read_vectors(run: Path, source: str) -> dict[str, NDArray[np.float16]]:
    """Return picture id -> (embed_dim,) unit row of a tuned network, of a source's validation split.

    Raises:
        ConfigError: If there are none.
    """
    return _read_vectors(run / f"{source}.npz", "python -m training.finetune.network train")


def _read_vectors(path: Path, command: str) -> dict[str, NDArray[np.float16]]:
    if not path.is_file():
        raise ConfigError(f"{path}: no such vectors; run: {command}")
    stored = np.load(path)
    return dict(zip(stored["ids"].tolist(), stored["vectors"], strict=True))


@dataclass(frozen=True)
class Sequences:
    """Packed sequences: item k of a source is `frames[starts[k] : starts[k] + lengths[k]]`."""

    rows: list[Row]
    frames: list[NDArray[np.float16]]


def read_sequences(features: Path, corpora: Path, source: str, keep: Callable[[Row], bool]) -> Sequences:
    """Read the packed speech sequences of a source, memory permitting (50 KB a clip of 2 s).

    Raises:
        ConfigError: If there are none.
    """
    found = find_sequences(features, corpora, source, keep)
    if not found.rows:
        raise ConfigError(
            f"{features / 'speech' / source}: no speech features; "
            f"run: python -m training.align.features speech --only {source}"
        )
    return found


def find_sequences(features: Path, corpora: Path, source: str, keep: Callable[[Row], bool]) -> Sequences:
    """As `read_sequences`, for what a source need not have, such as a validation split: there may be none."""
    rows = {row["id"]: row for row in manifest_rows(corpora, source, "speech") if keep(row)}
    chosen: list[Row] = []
    frames: list[NDArray[np.float16]] = []
    folder = features / "speech" / source
    seen: set[str] = set()
    for path in sorted(folder.glob("*.npz")):
        stored = np.load(path)
        ids, starts, packed = stored["ids"].tolist(), stored["starts"], stored["frames"]
        for k, name in enumerate(ids):
            if name in rows and name not in seen:
                seen.add(name)
                chosen.append(rows[name])
                frames.append(packed[starts[k] : starts[k + 1]])
    return Sequences(chosen, frames)
