"""Train the generator of pictures: read the pictures of the training split, then the parts of a latent generator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

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

__all__ = ["read_pictures", "train"]


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
    """Read the pictures of a split, small and square on white; kept beside the features.

    Raises:
        ConfigError: If a source has no pictures in the split `train`.
    """
    recipe = run.recipe.image
    rows, blocks, weights = [], [], []
    for source, weight in recipe.sources.items():
        own = [
            row
            for row in run.rows
            if row["id"].split("/")[0] == source
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
        weights += [weight * float(row.get("extra", {}).get("weight", 1.0)) / max(len(own), 1) for row in own]
    side = recipe.size
    pixels = np.stack(blocks) if blocks else np.zeros((0, side, side, 3), np.uint8)
    captions = [row["captions"][0] for row in rows]
    keys = np.stack([run.vectors[c] for c in captions]) if rows else np.zeros((0, run.space.embed_dim), np.float32)
    # (N, H, W, 3) -> (N, 3, H, W)
    media = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    return MediaSet(media, [row["id"] for row in rows], captions, torch.from_numpy(keys), torch.tensor(weights))


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
