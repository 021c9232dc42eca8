"""Train the generator of sounds: spectrograms of the training split, then the parts of a latent generator."""

from __future__ import annotations

import dataclasses
import hashlib
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from embedspace.errors import ConfigError, MediaError
from embedspace.files import replacing
from embedspace.generate.spectrogram import LEVEL, SpectrogramConfig, to_spectrogram
from embedspace.media.audio import load_audio
from embedspace.train.generators.autoencoder import MediaSet
from embedspace.train.generators.latents import train_latent_generator
from embedspace.train.generators.recipe import AudioGeneratorRecipe
from embedspace.train.generators.run import GeneratorRun
from embedspace.train.generators.texts import Row

__all__ = ["read_sounds", "train"]

_HELD = 20
"""One clip in so many is held out."""
_SPEED = 0.08
"""Views of a clip are up to so much faster or slower."""
_LATER = 0.15
"""Seconds of silence before a view, at most."""


def train(run: GeneratorRun) -> None:
    """Train, and write the generator."""
    recipe = run.recipe.audio
    if not recipe.sources:
        raise ConfigError(f"recipe {run.recipe.name}: [audio] sources names no source of sounds")
    frames = round(recipe.seconds * recipe.sample_rate / recipe.hop_length / 8) * 8
    size = SpectrogramConfig(recipe.sample_rate, recipe.n_mels, recipe.n_fft, recipe.hop_length, frames)
    rows = _wanted(run)
    order = np.random.default_rng(run.recipe.seed).permutation(len(rows))
    held = {rows[k]["id"] for k in order[: len(rows) // _HELD]}
    rest = [row for row in rows if row["id"] not in held]
    clear = {row["id"] for row in rest if row.get("licence") in recipe.licences}
    if not clear:
        raise ConfigError(f"recipe {run.recipe.name}: no sound has one of the [audio] licences that may ship")
    spectrograms = read_sounds(run, size, rows)
    sounds = _media_set(run, rest, spectrograms, recipe.views)
    first = np.arange(len(sounds.items)) % recipe.views == 0
    train_latent_generator(
        run,
        recipe,
        sounds,
        _media_set(run, [row for row in rows if row["id"] in held], spectrograms, 1),
        np.array([item in clear for item in sounds.items]) & first,
        about={"spectrogram": dataclasses.asdict(size)},
    )


def _wanted(run: GeneratorRun) -> list[Row]:
    """Return the rows of the sounds to train on.

    Raises:
        ConfigError: If a source has none.
    """
    recipe = run.recipe.audio
    rows = [
        row
        for row in run.rows
        if row["id"].split("/")[0] in recipe.sources
        and row["modality"] == "audio"
        and row.get("split", "train") == "train"
        and row.get("captions")
        and row["captions"][0] in run.vectors
    ]
    missing = sorted(set(recipe.sources) - {row["id"].split("/")[0] for row in rows})
    if missing:
        raise ConfigError(f"recipe {run.recipe.name}: no sounds of {', '.join(missing)}; build the corpus")
    return rows


def read_sounds(run: GeneratorRun, size: SpectrogramConfig, rows: list[Row]) -> dict[str, NDArray[np.uint8]]:
    """Return id -> (views, 1, n_mels, frames) spectrograms; kept beside the features.

    A longer clip is cut, a shorter one ends in silence. The first view starts where the clip starts.

    Raises:
        MediaError: If a file of the corpus cannot be read.
    """
    recipe = run.recipe.audio
    made_with = hashlib.sha256(repr((size, recipe.views)).encode()).hexdigest()[:12]
    path = Path(run.recipe.features) / "spectrograms" / f"{made_with}.npz"
    have: dict[str, NDArray[np.uint8]] = {}
    if path.is_file():
        with np.load(path) as stored:
            have = dict(zip(stored["ids"].tolist(), stored["levels"], strict=True))
    new = [row for row in rows if row["id"] not in have]
    for row in new:
        try:
            sound = load_audio(Path(run.recipe.corpora) / row["path"], sample_rate=size.sample_rate)
        except MediaError as error:
            raise MediaError(f"{row['path']}: {error}; build the corpus again") from error
        samples = torch.from_numpy(np.asarray(sound.waveform, np.float32))
        views = torch.stack(list(_views(samples, size, row["id"], recipe)))
        levels = (to_spectrogram(views, size) + 1) * 127.5
        have[row["id"]] = levels.round().byte().numpy()[:, None]
    if new:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(file, ids=np.array(list(have)), levels=np.stack(list(have.values())))
    return have


def _views(
    samples: torch.Tensor, size: SpectrogramConfig, item: str, recipe: AudioGeneratorRecipe
) -> Iterator[torch.Tensor]:
    """Yield waveforms (T,) of one clip: itself, then played at other speeds, later, or from elsewhere in a long one."""
    dice = np.random.default_rng(zlib.crc32(item.encode()))
    for view in range(recipe.views):
        part, start = samples, 0
        if view:
            part = _played(samples, float(np.exp(dice.uniform(-_SPEED, _SPEED))))
            if len(part) > size.samples:
                first = int(dice.integers(len(part) - size.samples + 1))
                part = part[first : first + size.samples]
            else:
                start = int(dice.integers(round(_LATER * size.sample_rate) + 1))
        waveform = torch.zeros(size.samples)
        part = part[: size.samples - start]
        waveform[start : start + len(part)] = part * (LEVEL / part.abs().max().clamp(min=1e-4))
        yield waveform


def _played(samples: torch.Tensor, speed: float) -> torch.Tensor:
    """Play (T,) faster or slower, and so higher or lower."""
    length = max(1, round(len(samples) / speed))
    return torch.nn.functional.interpolate(samples[None, None], size=length, mode="linear", align_corners=False)[0, 0]


def _media_set(
    run: GeneratorRun, rows: list[Row], spectrograms: Mapping[str, NDArray[np.uint8]], views: int
) -> MediaSet:
    """Return all views of each row, one after the other."""
    recipe = run.recipe.audio
    counts = Counter(row.get("concept", "") for row in rows)
    media, captions, weights = [], [], []
    for row in rows:
        names = [name for name in (row["captions"][0], row.get("concept"), *row["captions"][1:]) if name in run.vectors]
        media.append(spectrograms[row["id"]][:views])
        captions += [names[view % len(names)] for view in range(views)]
        weights += [recipe.sources[row["id"].split("/")[0]] * counts[row.get("concept", "")] ** -recipe.balance] * views
    size = next(iter(spectrograms.values())).shape[1:]
    stacked = np.concatenate(media) if media else np.zeros((0, *size), np.uint8)
    keys = [run.vectors[caption] for caption in captions]
    return MediaSet(
        torch.from_numpy(stacked),
        [row["id"] for row in rows for _ in range(views)],
        captions,
        torch.from_numpy(np.stack(keys) if keys else np.zeros((0, run.space.embed_dim), np.float32)),
        torch.tensor(weights),
    )
