"""Train the sound head: spectrograms of the training split, then the parts of a latent generator."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from embedspace.errors import ConfigError, MediaError
from embedspace.generate.spectrogram import SpectrogramConfig, to_spectrogram
from embedspace.media.audio import load_audio
from embedspace.train.head import HeadRun
from embedspace.train.head_autoencoder import MediaSet
from embedspace.train.head_latent import train_latent_head

__all__ = ["read_sounds", "train"]

_LEVEL = 0.5
"""Peak that every clip is brought to: how loud a recording is says nothing about what it is of."""


def train(run: HeadRun) -> None:
    """Train, and write the head."""
    recipe = run.recipe.audio
    if not recipe.sources:
        raise ConfigError(f"recipe {run.recipe.name}: [audio] sources names no source of sounds")
    frames = round(recipe.seconds * recipe.sample_rate / recipe.hop_length / 8) * 8
    size = SpectrogramConfig(recipe.sample_rate, recipe.n_mels, 4 * recipe.hop_length, recipe.hop_length, frames)
    sounds = read_sounds(run, size)
    may_ship = np.array([item.split("/")[0] in recipe.gallery for item in sounds.items])
    if not may_ship.any():
        raise ConfigError(f"recipe {run.recipe.name}: [audio] gallery names no source that has sounds")
    held = np.random.default_rng(run.recipe.seed).permutation(len(sounds.items))[: len(sounds.items) // 20]
    rest = np.setdiff1d(np.arange(len(sounds.items)), held)
    parts = sounds.take(rest.tolist()), sounds.take(held.tolist())
    train_latent_head(
        run,
        (recipe.autoencoder, recipe.flow),
        *parts,
        may_ship[rest],
        about={"spectrogram": dataclasses.asdict(size)},
        options=recipe.options,
    )


def read_sounds(run: HeadRun, size: SpectrogramConfig) -> MediaSet:
    """Read the training sounds as spectrograms; kept beside the features.

    A longer clip is cut, a shorter one ends in silence: a clip starts where it starts.

    Raises:
        ConfigError: If a source has no sounds to train on.
    """
    recipe = run.recipe.audio
    wanted = [
        row
        for row in run.rows
        if row["id"].split("/")[0] in recipe.sources
        and row["modality"] == "audio"
        and row.get("split", "train") == "train"
        and row.get("captions")
        and row["captions"][0] in run.vectors
    ]
    missing = sorted(set(recipe.sources) - {row["id"].split("/")[0] for row in wanted})
    if missing:
        raise ConfigError(f"recipe {run.recipe.name}: no sounds of {', '.join(missing)}; build the corpus")
    path = Path(run.recipe.features) / "spectrograms" / f"{size.n_mels}x{size.frames}.{size.sample_rate}.npz"
    have: dict[str, np.ndarray] = {}
    if path.is_file():
        with np.load(path) as stored:
            have = dict(zip(stored["ids"].tolist(), stored["levels"], strict=True))
    new = [row for row in wanted if row["id"] not in have]
    for row in new:
        try:
            sound = load_audio(Path(run.recipe.corpora) / row["path"], sample_rate=size.sample_rate)
        except MediaError:
            continue
        waveform = torch.zeros(1, size.samples)
        samples = torch.from_numpy(sound.waveform[: size.samples])
        waveform[0, : len(samples)] = samples * (_LEVEL / samples.abs().max().clamp(min=1e-4))
        level = (to_spectrogram(waveform, size) + 1) * 127.5
        have[row["id"]] = level.round().byte().numpy()  # (1, n_mels, frames)
    if new and have:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, ids=np.array(list(have)), levels=np.stack(list(have.values())))
        partial.replace(path)
    rows = [row for row in wanted if row["id"] in have]
    counts = {name: sum(row["id"].split("/")[0] == name for row in rows) for name in recipe.sources}
    weights = [recipe.sources[name] / counts[name] for name in (row["id"].split("/")[0] for row in rows)]
    captions = [row["captions"][0] for row in rows]
    return MediaSet(
        torch.from_numpy(np.stack([have[row["id"]] for row in rows])),
        [row["id"] for row in rows],
        captions,
        torch.from_numpy(np.stack([run.vectors[c] for c in captions])),
        torch.tensor(weights),
    )
