"""Train the generator of pictures: read the pictures of the training split, then the parts of a latent generator."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from embedspace.encoders.shipped.image_features import crop_to_content
from embedspace.encoders.towers.efficientnet_lite import resize_padded
from embedspace.errors import ConfigError, MediaError
from embedspace.files import replacing
from embedspace.media.image import load_image
from embedspace.train.generators.autoencoder import MediaSet, Perceptual
from embedspace.train.generators.latents import train_latent_generator
from embedspace.train.generators.run import GeneratorRun
from embedspace.train.generators.texts import Row
from embedspace.train.loop import FitProgress

__all__ = ["read_pictures", "repeated", "train"]

_TWIN, _MAYBE = 0.999, 0.99
"""Correlation from which two pictures are the same, and that of their thumbnails from which they are compared."""


def train(run: GeneratorRun) -> None:
    """Train, and write the generator."""
    recipe = run.recipe.image
    if not recipe.sources:
        raise ConfigError(f"recipe {run.recipe.name}: [image] sources names no source of pictures")
    sets = {split: read_pictures(run, split) for split in ("train", "val")}
    clear = {
        row["id"]
        for row in run.rows
        if row["id"].split("/")[0] in recipe.may_ship and (not recipe.licences or row.get("licence") in recipe.licences)
    }
    may_ship = np.array([item in clear for item in sets["train"].items])
    if not may_ship.any():
        raise ConfigError(f"recipe {run.recipe.name}: [image] may_ship and licences leave no picture that may ship")
    perceptual = Perceptual() if recipe.autoencoder.perceptual > 0 else None
    train_latent_generator(run, recipe, sets["train"], sets["val"], may_ship, perceptual)


def read_pictures(run: GeneratorRun, split: str) -> MediaSet:
    """Read the pictures of a split, small and square on white, each once; kept beside the features.

    Raises:
        ConfigError: If a source has no pictures in the split `train`.
    """
    recipe = run.recipe.image
    rows: list[Row] = []
    blocks: list[NDArray[np.uint8]] = []
    for source in recipe.sources:
        own = [
            row
            for row in run.rows
            if row["id"].split("/")[0] == source
            and row["id"] not in recipe.leave_out
            and row["modality"] == "image"
            and row.get("split", "train") == split
            and row.get("captions")
            and row["captions"][0] in run.vectors
        ]
        if not own and split == "train":
            raise ConfigError(f"recipe {run.recipe.name}: no pictures of {source!r} to train on; build the corpus")
        pictures = _cached(run, source, split, own)
        own = [row for row in own if row["id"] in pictures]
        rows += own
        blocks += [pictures[row["id"]] for row in own]
    side = recipe.size
    pixels = np.stack(blocks) if blocks else np.zeros((0, side, side, 3), np.uint8)
    kept = np.setdiff1d(np.arange(len(rows)), repeated(pixels))
    if len(kept) < len(rows):
        twins = {"twins left out": float(len(rows) - len(kept))}
        run.tell(FitProgress(f"pictures of {split}", len(kept), len(rows), 0.0, twins))
    rows, pixels = [rows[k] for k in kept], pixels[kept]
    counts = Counter(row["id"].split("/")[0] for row in rows)
    weights = [
        recipe.sources[source] * float(row.get("extra", {}).get("weight", 1.0)) / counts[source]
        for row in rows
        for source in [row["id"].split("/")[0]]
    ]
    captions = [row["captions"][0] for row in rows]
    keys = np.stack([run.vectors[c] for c in captions]) if rows else np.zeros((0, run.space.embed_dim), np.float32)
    # (N, H, W, 3) -> (N, 3, H, W)
    media = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    return MediaSet(media, [row["id"] for row in rows], captions, torch.from_numpy(keys), torch.tensor(weights))


def repeated(pictures: NDArray[np.uint8]) -> list[int]:
    """Return the numbers of pictures that hardly differ from an earlier one, such as stars of 93 and 98 points.

    Args:
        pictures: (N, side, side, 3).
    """
    if len(pictures) < 2:
        return []
    small, whole = _deviations(_thumbnails(pictures)), pictures.reshape(len(pictures), -1)
    mean = whole.mean(axis=0, dtype=np.float32)
    found: set[int] = set()
    for number in range(1, len(pictures)):
        alike = np.flatnonzero(small[:number] @ small[number] > _MAYBE)
        others = [k for k in alike.tolist() if k not in found]
        if others:
            near = _deviations(whole[[*others, number]], mean)
            if float((near[:-1] @ near[-1]).max()) > _TWIN:
                found.add(number)
    return sorted(found)


def _thumbnails(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (N, 12 * 12 * 3) means of cells."""
    cells = [F.adaptive_avg_pool2d(torch.from_numpy(p).permute(2, 0, 1)[None].float(), 12) for p in pictures]
    return torch.cat(cells).flatten(1).numpy()


def _deviations(rows: NDArray[Any], mean: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Return unit rows of what differs from the mean, so that a product of two is their correlation."""
    far = rows.astype(np.float32) - (rows.mean(axis=0, dtype=np.float32) if mean is None else mean)
    unit: NDArray[np.float32] = far / np.maximum(np.linalg.norm(far, axis=1, keepdims=True), 1e-6)
    return unit


def _cached(run: GeneratorRun, source: str, split: str, rows: list[Row]) -> dict[str, np.ndarray]:
    """Return item id -> (side, side, 3) uint8."""
    side = run.recipe.image.size
    path = Path(run.recipe.features) / "pictures" / f"{source}.{split}.{side}.npz"
    have: dict[str, np.ndarray] = {}
    if path.is_file():
        with np.load(path) as stored:
            have = dict(zip(stored["ids"].tolist(), stored["pixels"], strict=True))
    missing = [row for row in rows if row["id"] not in have]
    for number, row in enumerate(missing):
        try:
            picture = crop_to_content(load_image(Path(run.recipe.corpora) / row["path"], min_side=side))
        except MediaError:
            continue  # the corpus's builder has already listed it
        have[row["id"]] = resize_padded(picture, side)
        if number % 1000 == 999:
            run.tell(FitProgress(f"read {source}", number + 1, len(missing), 0.0, {}))
    if missing and have:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(file, ids=np.array(list(have)), pixels=np.stack(list(have.values())))
    return have
