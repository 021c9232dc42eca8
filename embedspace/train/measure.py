"""Vectors of validation items from cached features, for calibrating a space that was just trained."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedspace.calibration import Calibration, PairCalibration
from embedspace.encoders.audio import load_audio_heads
from embedspace.encoders.base import load_strict
from embedspace.encoders.heads import TextHead
from embedspace.encoders.image import ImageConfig, ImageHeads
from embedspace.encoders.speech import SpeechConfig, SpeechHeads, fuse
from embedspace.encoders.text import load_text_head
from embedspace.errors import ConfigError
from embedspace.space import EmbeddingSpace
from embedspace.train.batches import CaptionTable
from embedspace.train.calibrate import Anchored, calibrate
from embedspace.train.fusion import choose_share
from embedspace.train.recipe import Recipe
from embedspace.train.stage_audio import recall_without
from embedspace.train.tables import (
    Row,
    caption_table,
    fold_of,
    manifest_rows,
    read_features,
    read_recognised,
    read_sequences,
)

__all__ = ["SpokenRows", "calibration_of", "recognised_share", "spoken_rows"]

_MEMORY_FOLDS = 3
"""Folds of sounds that a memory is calibrated on, each by a memory without it."""


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


def _sounds(space: EmbeddingSpace, recipe: Recipe, text: TextHead) -> tuple[NDArray[np.float32], list[Row]]:
    heads = load_audio_heads(space.config["sections"]["audio"], space.folder)
    encoders = [recall_without(recipe, text, heads, fold) for fold in range(len(heads.members) or _MEMORY_FOLDS)]
    rows, vectors = [], []
    for name in recipe.audio.sources:
        table = read_features(Path(recipe.features), "audio", name, 1)
        for row in manifest_rows(Path(recipe.corpora), name, "audio"):
            fold = fold_of(row["id"])
            if row.get("split", "train") != "train" or row["id"] not in table.index or fold >= len(encoders):
                continue
            k = table.index[row["id"]][0]
            logits = torch.from_numpy(table.logits[k : k + 1].astype(np.float32))
            features = torch.from_numpy(table.features[k : k + 1, : heads.config.feature_dim].astype(np.float32))
            with torch.inference_mode():
                vectors.append(encoders[fold](features, logits)[0].numpy())
            rows.append(row)
    return (np.stack(vectors), rows) if rows else (np.empty((0, space.embed_dim), np.float32), [])


@dataclass(frozen=True)
class SpokenRows:
    """Validation clips in the shared space, by both ways.

    Attributes:
        rows: Their manifest rows.
        pooled: (N, embed_dim) unit rows of the head.
        recognised: (N, embed_dim) unit rows of what was recognised; the head's where nothing was or nothing is known.
    """

    rows: list[Row]
    pooled: Tensor
    recognised: Tensor


@torch.inference_mode()
def spoken_rows(folder: Path, section: Mapping[str, Any], recipe: Recipe, text: TextHead) -> SpokenRows:
    """Return the validation clips of a recipe's speech sources.

    Args:
        folder: The space's.
        section: Its speech section.
        recipe: Names sources and features, and says whether there is a recogniser.
        text: The space's text head.

    Raises:
        ConfigError: If the recipe names a recogniser and its features are not made.
    """
    heads = SpeechHeads(SpeechConfig(**{k: v for k, v in section.items() if k != "text_head"}))
    load_strict(heads, folder / "speech.safetensors")
    features, rows = Path(recipe.features), []
    pooled: list[Tensor] = []
    recognised: list[Tensor] = []
    for name in recipe.speech.sources:
        try:
            found = read_sequences(
                features, Path(recipe.corpora), name, lambda r: r.get("split") == "val" and bool(r.get("captions"))
            )
        except ConfigError:
            continue  # a source without a validation split
        known = read_recognised(features, name) if recipe.speech.decoder else {}
        for row, frames in zip(found.rows, found.frames, strict=True):
            own = text(heads(torch.from_numpy(frames[None].astype(np.float32))))[0]
            vector = known.get(row["id"])
            rows.append(row)
            pooled.append(own)
            if vector is not None and vector.any():
                recognised.append(text(torch.from_numpy(vector[None].astype(np.float32)))[0])
            else:
                recognised.append(own)
    empty = torch.empty(0, recipe.embed_dim)
    return SpokenRows(rows, torch.stack(pooled) if rows else empty, torch.stack(recognised) if rows else empty)


def recognised_share(space: Path, sections: Mapping[str, Any], recipe: Recipe) -> float:
    """Choose the recogniser's share in a space's speech vectors on the validation clips.

    Raises:
        ConfigError: If there are no such clips.
    """
    text = load_text_head(sections["text"]["head"], space)
    spoken = spoken_rows(space, sections["speech"], recipe, text)
    if not spoken.rows:
        raise ConfigError(f"{recipe.speech.decoder}: no validation clips to choose its share on; name [speech.sources]")
    captions = caption_table(Path(recipe.features))
    said = sorted({row["captions"][0] for row in spoken.rows})
    index = {caption: k for k, caption in enumerate(said)}
    with torch.inference_mode():
        words = text(torch.from_numpy(np.asarray(captions.features[captions.rows(said)], np.float32)))
    targets = torch.tensor([index[row["captions"][0]] for row in spoken.rows])
    share, _ = choose_share(spoken.pooled, spoken.recognised, words, targets)
    return share


def _speech(space: EmbeddingSpace, recipe: Recipe, text: TextHead) -> tuple[NDArray[np.float32], list[Row]]:
    section = space.config["sections"]["speech"]
    spoken = spoken_rows(space.folder, section, recipe, text)
    return fuse(spoken.pooled, spoken.recognised, section.get("recognised_share", 0.0)).numpy(), spoken.rows


def calibration_of(
    space: EmbeddingSpace, recipe: Recipe, changed: Collection[str] | None = None, given: Calibration | None = None
) -> Calibration:
    """Calibrate a space on items its heads did not train on.

    Pairs of modalities without enough common validation items take the mean of the pairs by way of text.

    Args:
        space: What to calibrate.
        recipe: Names sources and features.
        changed: Only these modalities' encoders are new; all by default.
        given: Calibration of the space that the others come from; theirs is kept.
    """
    captions: CaptionTable = caption_table(Path(recipe.features))
    text = load_text_head(space.config["sections"]["text"]["head"], space.folder)
    found: dict[str, tuple[NDArray[np.float32], list[Row]]] = {}
    makers: dict[str, Any] = {
        "image": lambda: _images(space, recipe),
        "audio": lambda: _sounds(space, recipe, text),
        "speech": lambda: _speech(space, recipe, text),
    }
    for modality, make in makers.items():
        if modality in space.config["sections"] and (changed is None or modality in changed):
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
    made = calibrate(anchored, recipe.seed)
    if changed is not None and given is not None:
        kept = {key: pair for key, pair in given.pairs.items() if not set(key.split(">")) & set(changed)}
        means = {**given.means, **{m: mean for m, mean in made.means.items() if m in changed}}
        made = Calibration(means, {**made.pairs, **kept})
    return _bridge(made, [*anchored, *(m.value for m in space.modalities if m.value not in anchored)])


def _bridge(calibration: Calibration, modalities: list[str]) -> Calibration:
    pairs = dict(calibration.pairs)
    for a in modalities:
        for b in modalities:
            known = [p for key in (f"{a}>text", f"text>{b}") if (p := calibration.pairs.get(key))]
            if f"{a}>{b}" not in pairs and known:
                values = np.mean([(p.mean, p.std, p.slope, p.intercept) for p in known], axis=0)
                pairs[f"{a}>{b}"] = PairCalibration(*(float(v) for v in values))
    return Calibration(calibration.means, pairs)
