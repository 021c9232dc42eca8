"""Vectors of validation items from cached features, for calibrating a space that was just trained."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedspace.calibration import Calibration, PairCalibration
from embedspace.encoders.audio import AudioConfig, AudioHeads
from embedspace.encoders.base import load_strict
from embedspace.encoders.heads import TextHead
from embedspace.encoders.image import ImageConfig, ImageHeads
from embedspace.encoders.speech import SpeechConfig, SpeechHeads
from embedspace.encoders.text import load_text_head
from embedspace.errors import ConfigError
from embedspace.space import EmbeddingSpace
from embedspace.train.batches import CaptionTable
from embedspace.train.calibrate import Anchored, calibrate
from embedspace.train.recipe import Recipe
from embedspace.train.tables import Row, caption_table, manifest_rows, read_features, read_sequences

__all__ = ["AUDIO_FOLDS", "calibration_of", "fold_of"]

AUDIO_FOLDS = 10
"""Member k of the audio ensemble never sees fold k, so that the calibration has sounds each member did not train on."""


def fold_of(name: str) -> int:
    """Return the fold of an item by its id, stable across runs."""
    return zlib.crc32(name.encode()) % AUDIO_FOLDS


def _concept(row: Row) -> str:
    """Return the first caption without its article: the one name that all modalities' rows share."""
    words = str(row["captions"][0]).lower().split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in _ARTICLES else words)


_ARTICLES = {"a", "an", "the", "some"}


def _images(space: EmbeddingSpace, recipe: Recipe) -> tuple[NDArray[np.float32], list[Row]]:
    raw = space.config["sections"]["image"]
    heads = ImageHeads(ImageConfig(**{**raw, "backbones": tuple(raw["backbones"])}))
    load_strict(heads, space.folder / "image.safetensors")
    tail = Path(recipe.image.tail) if recipe.image.tail else None
    rows, parts = [], []
    for name in recipe.image.sources:
        table = read_features(Path(recipe.features), "image", name, 1, tail)
        for row in manifest_rows(Path(recipe.corpora), name, "image"):
            if row.get("split") == "val" and row["id"] in table.index and row.get("captions"):
                k = table.index[row["id"]][0]
                rows.append(row)
                parts.append((table.features[k], table.logits[k]))
    if not rows:
        return np.empty((0, space.embed_dim), np.float32), []
    features = torch.from_numpy(np.stack([p[0] for p in parts]).astype(np.float32))
    logits = torch.from_numpy(np.stack([p[1] for p in parts]).astype(np.float32))
    with torch.inference_mode():
        return heads(features, logits).numpy(), rows


def _sounds(space: EmbeddingSpace, recipe: Recipe) -> tuple[NDArray[np.float32], list[Row]]:
    raw = space.config["sections"]["audio"]
    config = AudioConfig(**{**raw, "backbones": tuple(raw["backbones"]), "label_sets": tuple(raw["label_sets"])})
    heads = AudioHeads(config)
    load_strict(heads, space.folder / "audio.safetensors")
    rows, vectors = [], []
    for name in recipe.audio.sources:
        table = read_features(Path(recipe.features), "audio", name, 1)
        for row in manifest_rows(Path(recipe.corpora), name, "audio"):
            fold = fold_of(row["id"])
            if row.get("split", "train") != "train" or row["id"] not in table.index or fold >= len(heads.members):
                continue
            k = table.index[row["id"]][0]
            logits = torch.from_numpy(table.logits[k : k + 1].astype(np.float32))
            features = torch.from_numpy(table.features[k : k + 1, : config.feature_dim].astype(np.float32))
            with torch.inference_mode():
                vectors.append(heads.members[fold](features, heads.prior(logits))[0].numpy())
            rows.append(row)
    return (np.stack(vectors), rows) if rows else (np.empty((0, space.embed_dim), np.float32), [])


def _speech(space: EmbeddingSpace, recipe: Recipe, text: TextHead) -> tuple[NDArray[np.float32], list[Row]]:
    raw = {k: v for k, v in space.config["sections"]["speech"].items() if k != "text_head"}
    heads = SpeechHeads(SpeechConfig(**raw))
    load_strict(heads, space.folder / "speech.safetensors")
    rows, vectors = [], []
    for name in recipe.speech.sources:
        try:
            found = read_sequences(
                Path(recipe.features),
                Path(recipe.corpora),
                name,
                lambda r: r.get("split") == "val" and bool(r.get("captions")),
            )
        except ConfigError:
            continue  # a source without a validation split
        for row, frames in zip(found.rows, found.frames, strict=True):
            with torch.inference_mode():
                vectors.append(text(heads(torch.from_numpy(frames[None].astype(np.float32))))[0].numpy())
            rows.append(row)
    return (np.stack(vectors), rows) if rows else (np.empty((0, space.embed_dim), np.float32), [])


def calibration_of(space: EmbeddingSpace, recipe: Recipe) -> Calibration:
    """Calibrate a space on items its heads did not train on.

    Pairs of modalities without enough common validation items take the mean of the pairs by way of text.
    """
    captions: CaptionTable = caption_table(Path(recipe.features))
    text = load_text_head(space.config["sections"]["text"]["head"], space.folder)
    found: dict[str, tuple[NDArray[np.float32], list[Row]]] = {}
    makers: dict[str, Any] = {
        "image": lambda: _images(space, recipe),
        "audio": lambda: _sounds(space, recipe),
        "speech": lambda: _speech(space, recipe, text),
    }
    for modality, make in makers.items():
        if modality in space.config["sections"]:
            found[modality] = make()
    said: dict[str, str] = {}
    for _, rows in found.values():
        said.update({row["captions"][0]: _concept(row) for row in rows if row["captions"][0] in captions.index})
    with torch.inference_mode():
        words = text(torch.from_numpy(np.asarray(captions.features[captions.rows(list(said))], np.float32))).numpy()
    anchored = {"text": Anchored(words, np.array(list(said.values())))}
    for modality, (vectors, rows) in found.items():
        if rows:
            anchored[modality] = Anchored(vectors, np.array([_concept(row) for row in rows]))
    return _bridge(calibrate(anchored, recipe.seed), list(anchored))


def _bridge(calibration: Calibration, modalities: list[str]) -> Calibration:
    pairs = dict(calibration.pairs)
    for a in modalities:
        for b in modalities:
            known = [p for key in (f"{a}>text", f"text>{b}") if (p := calibration.pairs.get(key))]
            if f"{a}>{b}" not in pairs and known:
                values = np.mean([(p.mean, p.std, p.slope, p.intercept) for p in known], axis=0)
                pairs[f"{a}>{b}"] = PairCalibration(*(float(v) for v in values))
    return Calibration(calibration.means, pairs)
