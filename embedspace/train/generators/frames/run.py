"""Train what draws the next frame of a film, on the latents of a generator's autoencoder.

    embedspace train generator training/recipes/generators/next_frame.toml --minutes 10
    embedspace train generator training/recipes/generators/next_frame.toml --videos ~/films --minutes 60

Plain regression: where several things may come next it draws their mean, which is blurred.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedspace.encoders.base import save_tensors
from embedspace.errors import ConfigError, MediaError
from embedspace.files import write_text
from embedspace.generate.latents.autoencoder import Autoencoder
from embedspace.generate.translation.frames import FORMAT, FrameConfig, FrameNetwork, FramePredictor
from embedspace.media.film import Film, iter_moments
from embedspace.modality import SUFFIXES
from embedspace.train.generators.frames.recipe import FrameRecipe
from embedspace.train.generators.recipe import GeneratorRecipe
from embedspace.train.generators.styles.run import autoencoder_of
from embedspace.train.generators.texts import rows_of
from embedspace.train.loop import FitConfig, FitProgress, fit
from embedspace.vocabulary import SHIPPED_GENERATORS

__all__ = ["films_of", "frame_loss", "frames_of_film", "train_recipe"]

LEAST = 3
"""Frames of a film: two, and the one that comes next."""
Tell = Callable[[FitProgress], None]


def films_of(recipe: GeneratorRecipe, videos: Path | None, split: str) -> list[Path]:
    """Return films: of a folder, or of the recipe's corpus in a split.

    Raises:
        ConfigError: If there are none.
    """
    own = recipe.frames
    if videos is not None:
        found = sorted(path for path in videos.rglob("*") if SUFFIXES.get(path.suffix.lower()) == "video")
    else:
        rows = [row for row in rows_of(Path(recipe.corpora)) if row["id"].split("/")[0] == own.source]
        chosen = [row["path"] for row in rows if row["modality"] == "video" and row.get("split", "train") == split]
        found = [Path(recipe.corpora) / path for path in chosen]
    if not found:
        where = videos or f"the corpus {own.source!r}, split {split!r}"
        raise ConfigError(f"recipe {recipe.name}: no films in {where}; build the corpus, or name a folder: --videos")
    most = own.films or len(found)
    return [found[k * len(found) // most] for k in range(most)] if len(found) > most else found


def frames_of_film(path: Path, recipe: FrameRecipe) -> list[NDArray[np.uint8]]:
    """Return the first frames (H, W, 3) of a film.

    Raises:
        MediaError: If it cannot be decoded.
    """
    frames = []
    for moment in iter_moments(path, Film(), per_second=recipe.per_second, side=recipe.side):
        assert moment.image is not None
        small = moment.image
        if min(small.size) > recipe.side:  # the first is as large as the film
            scale = recipe.side / min(small.size)
            small = small.resize((round(small.width * scale), round(small.height * scale)))
        frames.append(np.asarray(small.convert("RGB")))
        if len(frames) == recipe.most:
            break
    return frames


def frame_loss(network: nn.Module, frames: Tensor, moving: float) -> Tensor:
    """Return the error of the third of three frames' latents, more of it where something changes.

    Args:
        network: Predicts it.
        frames: (3, B, C, h, w).
        moving: Weight of a cell that changes as much as cells do that change.
    """
    before, last, wanted = frames
    change = (wanted - last).square().mean(dim=1, keepdim=True).sqrt()
    weight = 1 + moving * (change / change.mean().clamp(min=1e-6)).clamp(max=4.0)
    error: Tensor = (weight * (network(before, last) - wanted).abs()).mean()
    return error


def train_recipe(
    recipe: GeneratorRecipe, out: Path, minutes: float | None, resume: bool, tell: Tell, videos: Path | None
) -> Path:
    """Train it.

    Args:
        recipe: Of kind "frames".
        out: Folder of the run.
        minutes: Wall-time budget; None for no limit.
        resume: Go on from the checkpoint.
        tell: Told of progress.
        videos: Folder of films; None for the recipe's corpus.

    Returns:
        The folder that `load_predictor` reads.

    Raises:
        ConfigError: If there are no films, or the generator is none of pictures.
        WeightsError: If the generator is damaged.
    """
    own = recipe.frames
    generator = Path(own.generator) if own.generator else SHIPPED_GENERATORS / "image"
    autoencoder, _ = autoencoder_of(generator)
    config = FrameConfig(autoencoder.config.latent_dim, own.channels, own.blocks, own.per_second)
    torch.manual_seed(recipe.seed)
    network = FrameNetwork(config)
    films = encoded(films_of(recipe, videos, "train"), FramePredictor(autoencoder, network, config), own, tell)
    out.mkdir(parents=True, exist_ok=True)
    fit(
        network,
        lambda model, source: frame_loss(model, drawn(films, own.batch_size, source), own.moving),
        FitConfig(
            own.steps,
            own.learning_rate,
            own.weight_decay,
            minutes=minutes,
            seed=recipe.seed,
            cooldown=0.3,
        ),
        stage="frames",
        checkpoint=out / "frames.ckpt",
        resume=resume,
        recipe=_digest(own, films),
        callback=tell,
    )
    return written(network, config, autoencoder, generator, out / "generator")


def encoded(paths: Sequence[Path], predictor: FramePredictor, recipe: FrameRecipe, tell: Tell) -> list[Tensor]:
    """Return latents (T, C, h, w) of each film; one that cannot be read or is too short is told of and left out.

    Raises:
        ConfigError: If none is left.
    """
    films: list[Tensor] = []
    for number, path in enumerate(paths):
        try:
            frames = frames_of_film(path, recipe)
        except MediaError as error:
            tell(FitProgress(f"left out: {error}", number, len(paths), 0.0, {}))
            continue
        if len(frames) >= LEAST:
            films.append(torch.cat([predictor.latents(frames[k : k + 8]) for k in range(0, len(frames), 8)]))
    if not films:
        raise ConfigError(f"none of {len(paths)} films has {LEAST} frames; name others: --videos")
    return films


def drawn(films: Sequence[Tensor], size: int, source: torch.Generator) -> Tensor:
    """Return latents (3, B, C, h, w) of three frames each, forwards and backwards, mirrored and not, of one shape."""
    first = int(torch.randint(len(films), (1,), generator=source))
    alike = [film for film in films if film.shape[1:] == films[first].shape[1:]]
    chosen = torch.randint(len(alike), (size,), generator=source).tolist()
    triples = []
    for number in chosen:
        film = alike[number]
        start = int(torch.randint(len(film) - LEAST + 1, (1,), generator=source))
        part = film[start : start + LEAST]
        triples.append(part.flip(0) if int(torch.randint(2, (1,), generator=source)) else part)
    return torch.stack(triples, dim=1)


def written(
    network: FrameNetwork, config: FrameConfig, autoencoder: Autoencoder, generator: Path, folder: Path
) -> Path:
    """Write what `load_predictor` reads into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(network, folder / "frames.safetensors")
    shutil.copyfile(generator / "autoencoder.safetensors", folder / "autoencoder.safetensors")
    about = {
        "format": FORMAT,
        "network": dataclasses.asdict(config),
        "autoencoder": dataclasses.asdict(autoencoder.config),
    }
    write_text(folder / "config.json", json.dumps(about, indent=1) + "\n")
    return folder


def _digest(recipe: FrameRecipe, films: Sequence[Tensor]) -> str:
    total = hashlib.sha256(repr(recipe).encode())
    for latents in films:
        total.update(latents.numpy().tobytes())
    return total.hexdigest()
