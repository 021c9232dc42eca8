"""Train the vocoder: magnitudes of several transforms of what it makes are to be those of the recording.

Source: Yamamoto et al. 2020, "Parallel WaveGAN" (https://arxiv.org/abs/1910.11480), section 2.2, for the loss on
    several transforms: windows other than the vocoder's own are what makes its phases fit one another.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedspace.encoders.quantize import to_rows8
from embedspace.encoders.towers.mel import hann
from embedspace.errors import ConfigError
from embedspace.files import write_text
from embedspace.generate.conversion.vocoder import Vocoder, VocoderConfig
from embedspace.generate.spectrogram import to_spectrogram
from embedspace.train.generators.conversion.clips import Recording, read_recordings
from embedspace.train.generators.conversion.recipe import VocoderRecipe
from embedspace.train.loop import FitConfig, FitProgress, fit

__all__ = ["save_network", "stft_loss", "train_vocoder"]

_WINDOWS = (256, 512, 1024, 2048)
_FLOOR = 1e-4
_VALIDATION = 40
"""Recordings of validation that are looked at in training."""


def stft_loss(made: Tensor, real: Tensor, windows: Sequence[int] = _WINDOWS) -> Tensor:
    """Return how far magnitudes of samples (B, T) are from those of others, in logarithms and linearly, per window."""
    total = made.new_zeros(())
    for size in windows:
        a, b = (
            torch.stft(x, size, size // 4, window=hann(size), return_complex=True).abs().clamp(min=_FLOOR)
            for x in (made, real)
        )
        total = total + (a.log() - b.log()).abs().mean() + (a - b).norm() / b.norm().clamp(min=1.0)
    return total / len(windows)


class _Pool:
    """Recordings in memory, drawn by speaker."""

    def __init__(self, speech: Sequence[Recording], sounds: Sequence[Recording]) -> None:
        self.groups: list[list[NDArray[np.float32]]] = []
        by_speaker: dict[str, list[NDArray[np.float32]]] = {}
        for one in speech:
            by_speaker.setdefault(one.speaker, []).append(one.samples().astype(np.float16))
        self.speakers = list(by_speaker.values())
        self.sounds = [one.samples().astype(np.float16) for one in sounds]

    def draw(self, count: int, samples: int, sound_share: float, generator: torch.Generator) -> Tensor:
        """Return crops (count, samples), each at a level of its own."""
        seed = int(torch.randint(1 << 62, (1,), generator=generator))
        random = np.random.default_rng(seed)
        rows = [self._crop(samples, sound_share, random) for _ in range(count)]
        return torch.from_numpy(np.stack(rows))

    def _crop(self, samples: int, sound_share: float, random: np.random.Generator) -> NDArray[np.float32]:
        is_sound = bool(self.sounds) and random.random() < sound_share
        group = self.sounds if is_sound else self.speakers[random.integers(len(self.speakers))]
        whole = group[random.integers(len(group))]
        first = int(random.integers(max(1, len(whole) - samples + 1)))
        crop = whole[first : first + samples].astype(np.float32)
        crop = np.pad(crop, (0, samples - len(crop)))
        peak = float(np.abs(crop).max())
        return crop * np.float32(10 ** random.uniform(-1.2, -0.05) / max(peak, 1e-3))


def train_vocoder(
    recipe: VocoderRecipe,
    corpora: Path,
    out: Path,
    *,
    seed: int = 0,
    minutes: float | None = None,
    resume: bool = False,
    tell: Callable[[FitProgress], None] = lambda progress: None,
) -> Path:
    """Train, and write the vocoder into `out / "generator"`.

    Args:
        recipe: How.
        corpora: Folder of the built corpora.
        out: Folder of the run, with its checkpoint.
        seed: Of everything.
        minutes: Wall-time budget; None for no limit.
        resume: Go on from the checkpoint.
        tell: Told of progress.

    Returns:
        The folder of the vocoder.

    Raises:
        ConfigError: If there is nothing to learn from.
    """
    pool, all_held = _read(recipe, corpora)
    torch.manual_seed(seed)
    network = Vocoder(VocoderConfig(recipe.channels, recipe.hidden, recipe.blocks))
    size = network.config.spectrogram
    held = _held(all_held, 2 * recipe.frames * size.hop_length)

    def loss_of_step(model: nn.Module, generator: torch.Generator) -> Tensor:
        samples = recipe.frames * size.hop_length
        real = pool.draw(recipe.batch_size, samples, recipe.sound_share, generator)
        return stft_loss(model(to_spectrogram(real, size)), real)

    @torch.inference_mode()
    def evaluate(model: nn.Module) -> dict[str, float]:
        return {"val_loss": float(stft_loss(model(to_spectrogram(held, size)), held))} if len(held) else {}

    config = FitConfig(
        steps=recipe.steps, learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay, warmup_steps=100,
        minutes=minutes, seed=seed, cooldown=0.25, evaluate_every=500,
    )  # fmt: skip
    fit(
        network, loss_of_step, config, stage="vocoder", checkpoint=out / "vocoder.ckpt", resume=resume,
        recipe=_digest(recipe), evaluate=evaluate, callback=tell,
    )  # fmt: skip
    folder = out / "generator"
    save_network(network, folder / "vocoder.safetensors")
    write_text(
        folder / "config.json",
        json.dumps({"format": 1, "vocoder": dataclasses.asdict(network.config)}, indent=1) + "\n",
    )
    return folder


def _read(recipe: VocoderRecipe, corpora: Path) -> tuple[_Pool, list[Recording]]:
    """Return what is learnt from, and the recordings of validation.

    Raises:
        ConfigError: If there is no speaker to learn from.
    """
    speech, sounds = read_recordings(corpora, [recipe.speech]), read_recordings(corpora, recipe.sounds)
    pool = _Pool([one for one in speech if one.split == "train"], [one for one in sounds if one.split == "train"])
    if not pool.speakers:
        raise ConfigError(f"{corpora}/{recipe.speech}: no speaker is of the training split")
    return pool, [one for one in (*speech, *sounds) if one.split == "val"]


def _held(recordings: Sequence[Recording], samples: int) -> Tensor:
    """Return the loud beginnings of some recordings of validation, (N, samples)."""
    step = max(1, len(recordings) // _VALIDATION)
    rows = []
    for one in recordings[::step][:_VALIDATION]:
        found = one.samples()[:samples]
        row = np.pad(found, (0, samples - len(found)))
        rows.append(row * np.float32(0.5 / max(float(np.abs(row).max()), 1e-3)))
    return torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, samples)


def save_network(network: nn.Module, path: Path) -> None:
    """Write a network's weights, large matrices in 8-bit rows."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(to_rows8(dict(network.state_dict())), path)


def _digest(recipe: VocoderRecipe) -> str:
    """Return what a checkpoint is bound to: all of the recipe but how long it trains."""
    kept = {name: value for name, value in dataclasses.asdict(recipe).items() if name != "steps"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
