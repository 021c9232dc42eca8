"""Vectors of validation items from cached features, for calibrating a space that was just trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from embedspace.calibration.model import Calibration, mean_pair
from embedspace.encoders.projections import LinearProjection, fuse
from embedspace.encoders.shipped.audio import load_audio_projections
from embedspace.encoders.shipped.image import load_image_projections
from embedspace.encoders.shipped.speech import load_speech_projections
from embedspace.encoders.shipped.text_network import load_text_projection
from embedspace.errors import ConfigError
from embedspace.space import EmbeddingSpace
from embedspace.train.batches import CaptionTable
from embedspace.train.calibrate import Anchored, calibrate
from training.align.fusion import choose_share
from training.align.recipe import Recipe
from training.align.stages.audio import recall_without, training_rows
from training.align.tables import (
    Row,
    caption_table,
    find_sequences,
    fold_of,
    manifest_rows,
    read_features,
    read_recognised,
    read_vectors,
)

__all__ = ["TwoWays", "bridge", "calibration_of", "seen_rows", "share_of", "spoken_rows"]

_MEMORY_FOLDS = 3
"""Folds of sounds that a memory is calibrated on, each by a memory without it."""


def _concept(row: Row) -> str:
    """Return the first caption without its article: the one name that all modalities' rows share."""
    words = str(row["captions"][0]).lower().split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in _ARTICLES else words)


_ARTICLES = {"a", "an", "the", "some"}


@dataclass(frozen=True)
class TwoWays:
    """Validation items in the shared space, by both ways of their encoder.

    Attributes:
        rows: Their manifest rows.
        first: (N, embed_dim) unit rows of the heads.
        second: (N, embed_dim) unit rows of what is mixed with them, the recogniser or the tuned network; the heads'
            where it says nothing or there is none.
    """

    rows: list[Row]
    first: Tensor
    second: Tensor

    @classmethod
    def of(cls, rows: list[Row], first: list[Tensor], second: list[Tensor], embed_dim: int) -> TwoWays:
        """Stack (embed_dim,) rows, which may be none."""
        empty = torch.empty(0, embed_dim)
        return cls(rows, torch.stack(first) if rows else empty, torch.stack(second) if rows else empty)

    def fused(self, share: float) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows, the second way with the share."""
        return fuse(self.first, self.second, share).numpy()


@torch.inference_mode()
def seen_rows(folder: Path, section: Mapping[str, Any], recipe: Recipe) -> TwoWays:
    """Return the validation pictures of a recipe's image sources.

    Args:
        folder: The space's.
        section: Its image section.
        recipe: Names sources and features, and the runs of the tuned networks.

    Raises:
        ConfigError: If features are not made, or the tuned networks' vectors.
    """
    heads = load_image_projections(section, folder)
    tail = Path(recipe.image.tail) if recipe.image.tail else None
    rows: list[Row] = []
    first: list[Tensor] = []
    second: list[Tensor] = []
    for name in recipe.image.sources:
        table = read_features(Path(recipe.features), "image", name, 1, tail)
        tuned = [read_vectors(Path(run), name) for run in recipe.image.networks]
        for row in manifest_rows(Path(recipe.corpora), name, "image"):
            if row.get("split") == "val" and row["id"] in table.index and row.get("captions"):
                k = table.index[row["id"]][:1]
                features = torch.from_numpy(table.features[k].astype(np.float32))
                own = heads(features, torch.from_numpy(table.logits[k].astype(np.float32)))[0]
                others = [torch.from_numpy(t[row["id"]].astype(np.float32)) for t in tuned if row["id"] in t]
                rows.append(row)
                first.append(own)
                second.append(F.normalize(torch.stack(others).mean(dim=0), dim=0) if others else own)
    return TwoWays.of(rows, first, second, recipe.embed_dim)


def _sounds(space: EmbeddingSpace, recipe: Recipe, text: LinearProjection) -> tuple[NDArray[np.float32], list[Row]]:
    heads = load_audio_projections(space.config["sections"]["audio"], space.folder)
    encoders = [recall_without(recipe, text, heads, fold) for fold in range(len(heads.members) or _MEMORY_FOLDS)]
    rows, vectors = [], []
    for name in recipe.audio.sources:
        table = read_features(Path(recipe.features), "audio", name, 1)
        for row in training_rows(recipe, name):
            fold = fold_of(row["id"])
            if row["id"] not in table.index or fold >= len(encoders):
                continue
            k = table.index[row["id"]][0]
            logits = torch.from_numpy(table.logits[k : k + 1].astype(np.float32))
            features = torch.from_numpy(table.features[k : k + 1, : heads.config.feature_dim].astype(np.float32))
            with torch.inference_mode():
                vectors.append(encoders[fold](features, logits)[0].numpy())
            rows.append(row)
    return (np.stack(vectors), rows) if rows else (np.empty((0, space.embed_dim), np.float32), [])


@torch.inference_mode()
def spoken_rows(folder: Path, section: Mapping[str, Any], recipe: Recipe, text: LinearProjection) -> TwoWays:
    """Return the validation clips of a recipe's speech sources.

    Args:
        folder: The space's.
        section: Its speech section.
        recipe: Names sources and features, and says whether there is a recogniser.
        text: The space's text head.

    Raises:
        ConfigError: If the recipe names a recogniser and its features are not made.
    """
    heads = load_speech_projections(section, folder)
    features = Path(recipe.features)
    rows: list[Row] = []
    pooled: list[Tensor] = []
    recognised: list[Tensor] = []
    for name in recipe.speech.sources:
        found = find_sequences(
            features, Path(recipe.corpora), name, lambda r: r.get("split") == "val" and bool(r.get("captions"))
        )
        known = read_recognised(features, name) if recipe.speech.decoder and found.rows else {}
        for row, frames in zip(found.rows, found.frames, strict=True):
            own = text(heads(torch.from_numpy(frames[None].astype(np.float32))))[0]
            vector = known.get(row["id"])
            rows.append(row)
            pooled.append(own)
            if vector is not None and vector.any():
                recognised.append(text(torch.from_numpy(vector[None].astype(np.float32)))[0])
            else:
                recognised.append(own)
    return TwoWays.of(rows, pooled, recognised, recipe.embed_dim)


def share_of(ways: TwoWays, text: LinearProjection, features: Path) -> float:
    """Choose the second way's share where neither way trained, on validation items among their first captions.

    Raises:
        ConfigError: If there are no such items, or a caption has no features.
    """
    if not ways.rows:
        raise ConfigError("no validation items to choose a share on; name sources with a validation split")
    said = sorted({row["captions"][0] for row in ways.rows})
    index = {caption: k for k, caption in enumerate(said)}
    targets = torch.tensor([index[row["captions"][0]] for row in ways.rows])
    return choose_share(ways.first, ways.second, _words(said, text, caption_table(features)), targets)[0]


def _words(said: Sequence[str], text: LinearProjection, captions: CaptionTable) -> Tensor:
    """Return the (len(said), embed_dim) unit rows of some captions."""
    with torch.inference_mode():
        rows: Tensor = text(torch.from_numpy(np.asarray(captions.features[captions.rows(said)], np.float32)))
    return rows


def _fused(
    space: EmbeddingSpace, modality: str, share: str, ways: Mapping[str, TwoWays]
) -> tuple[NDArray[np.float32], list[Row]]:
    found = ways[modality]
    return found.fused(space.config["sections"][modality].get(share, 0.0)), found.rows


def calibration_of(
    space: EmbeddingSpace,
    recipe: Recipe,
    ways: Mapping[str, TwoWays],
    changed: Collection[str] | None = None,
    given: Calibration | None = None,
) -> Calibration:
    """Calibrate a space on items its heads did not train on.

    Pairs of modalities without enough common validation items take the mean of the pairs by way of text.

    Args:
        space: What to calibrate.
        recipe: Names sources and features.
        ways: The validation pictures and clips, by modality.
        changed: Only these modalities' encoders are new; all by default.
        given: Calibration of the space that the others come from; theirs is kept.
    """
    captions: CaptionTable = caption_table(Path(recipe.features))
    text = load_text_projection(space.config["sections"]["text"]["head"], space.folder)
    found: dict[str, tuple[NDArray[np.float32], list[Row]]] = {}
    makers: dict[str, Any] = {
        "image": lambda: _fused(space, "image", "network_share", ways),
        "audio": lambda: _sounds(space, recipe, text),
        "speech": lambda: _fused(space, "speech", "recognised_share", ways),
    }
    for modality, make in makers.items():
        if modality in space.config["sections"] and (changed is None or modality in changed):
            found[modality] = make()
    said: dict[str, str] = {}
    for _, rows in found.values():
        said.update({row["captions"][0]: _concept(row) for row in rows if row["captions"][0] in captions.index})
    words = _words(list(said), text, captions).numpy()
    anchored = {"text": Anchored(words, np.array(list(said.values())))}
    for modality, (vectors, rows) in found.items():
        if rows:
            anchored[modality] = Anchored(vectors, np.array([_concept(row) for row in rows]))
    made = calibrate(anchored, recipe.seed)
    if changed is not None and given is not None:
        kept = {key: pair for key, pair in given.pairs.items() if not set(key.split(">")) & set(changed)}
        means = {**given.means, **{m: mean for m, mean in made.means.items() if m in changed}}
        made = Calibration(means, {**made.pairs, **kept})
    return bridge(made, [*anchored, *(m for m in space.modalities if m not in anchored)])


def bridge(calibration: Calibration, modalities: Sequence[str]) -> Calibration:
    """Give pairs that lack a model, cut-offs by size or all of it the mean of the pairs by way of text."""
    pairs = dict(calibration.pairs)
    for a in modalities:
        for b in modalities:
            known = [p for key in (f"{a}>text", f"text>{b}") if (p := calibration.pairs.get(key))]
            own, mean = pairs.get(f"{a}>{b}"), mean_pair(known)
            if mean is not None and own is not None:
                cutoffs = own.cutoffs if len(own.cutoffs) > 1 else mean.cutoffs or own.cutoffs
                mean = dataclasses.replace(own, model=own.model or mean.model, cutoffs=cutoffs)
            if mean is not None:
                pairs[f"{a}>{b}"] = mean
    return Calibration(calibration.means, pairs)
