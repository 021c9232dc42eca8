"""Recipes of `embedspace train align` with a [youtube8m] table: video and audio from features, as published.

[youtube8m]
train = ["~/yt8m/train*.tfrecord"]               # video-level files, with wildcards
validation = ["~/yt8m/validate*.tfrecord"]
"""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from embedspace.config import load
from embedspace.errors import ConfigError, InputError
from embedspace.files import read_config, write_text
from embedspace.train.align.youtube8m.records import Video, read_videos
from embedspace.train.align.youtube8m.towers import FeatureTowers, cosine_margin
from embedspace.train.loop import FitConfig, FitProgress, fit
from embedspace.train.ranks import recall_scalars

__all__ = ["FeatureRecipe", "FeatureReport", "load_towers", "recalls_among", "train_features"]

_GALLERIES = (256, 1024)
_DRAWS = 8


@dataclass(frozen=True)
class FeatureSettings:
    """The [youtube8m] table.

    Attributes:
        train: Files of video-level features; relative ones begin at the recipe's folder.
        validation: The same.
        visual_layers: Widths of the hidden layers of the tower of pictures.
        audio_layers: Of the tower of sound.
        margin: Cosine that pairs may have that do not match.
        classification: Weight of the classification; 0: none.
        batch_size: Pairs per step.
    """

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    visual_layers: tuple[int, ...] = (2000, 700)
    audio_layers: tuple[int, ...] = (450, 200)
    embed_dim: int = 250
    margin: float = 0.2
    classification: float = 0.02
    batch_size: int = 1024
    steps: int = 5000
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    evaluate_every: int = 250


@dataclass(frozen=True)
class FeatureRecipe:
    """A recipe with a [youtube8m] table."""

    name: str
    seed: int = 0
    youtube8m: FeatureSettings = field(default_factory=FeatureSettings)


@dataclass(frozen=True)
class FeatureReport:
    """What a run did.

    Attributes:
        folder: Towers and report; None if the time ran out first.
        recalls: Shares of the validation videos; those of "shuffled" have pairs that do not match.
        skipped: Records that were left out, each with its reason.
    """

    folder: Path | None
    recalls: dict[str, float]
    skipped: list[str]


def train_features(
    path: Path,
    *,
    out: Path | None = None,
    minutes: float | None = None,
    resume: bool = False,
    seed: int | None = None,
    callback: Callable[[FitProgress], None] | None = None,
) -> FeatureReport:
    """Train both towers as a recipe says.

    Args:
        path: The recipe.
        out: Folder of the results; build/runs/<name> by default.
        minutes: Wall time of this call.
        resume: Go on from the checkpoint.
        seed: In place of the recipe's.
        callback: Told how it goes.

    Raises:
        ConfigError: If the recipe has a wrong key, or names no files.
        InputError: If fewer than two videos of a split can be read.
    """
    recipe = load(FeatureRecipe, path, what="recipe")
    recipe = recipe if seed is None else dataclasses.replace(recipe, seed=seed)
    wanted, folder = recipe.youtube8m, out or Path("build") / "runs" / recipe.name
    train, skipped = _read(path, "train", wanted.train)
    held, more = _read(path, "validation", wanted.validation)
    classes = 1 + max((label for video in train for label in video.labels), default=-1)
    torch.manual_seed(recipe.seed)
    model = FeatureTowers(
        wanted.visual_layers, wanted.audio_layers, wanted.embed_dim, classes if wanted.classification else 0
    )
    folder.mkdir(parents=True, exist_ok=True)
    visual, audio = _tensors(train)
    config = FitConfig(
        wanted.steps, wanted.learning_rate, wanted.weight_decay, minutes=60.0 * 24 if minutes is None else minutes,
        seed=recipe.seed, evaluate_every=wanted.evaluate_every,
    )  # fmt: skip

    def loss(module: nn.Module, generator: torch.Generator) -> Tensor:
        assert module is model
        rows = torch.randint(len(train), (min(wanted.batch_size, len(train)),), generator=generator)
        own = [train[row] for row in rows.tolist()]
        return _loss(model, visual[rows], audio[rows], _labels(own, classes), wanted)

    digest = hashlib.sha256(
        json.dumps([dataclasses.asdict(recipe), len(train), [video.id for video in train[:100]]]).encode()
    ).hexdigest()
    done = fit(
        model, loss, config, stage="youtube8m", checkpoint=folder / "checkpoint.pt", resume=resume, recipe=digest,
        evaluate=lambda module: recalls_among(model, held, recipe.seed), callback=callback,
    )  # fmt: skip
    recalls = recalls_among(model, held, recipe.seed)
    if done:
        _write(folder, model, wanted, recalls)
    return FeatureReport(folder if done else None, recalls, [*skipped, *more])


def _loss(model: FeatureTowers, visual: Tensor, audio: Tensor, labels: Tensor, wanted: FeatureSettings) -> Tensor:
    """Return the loss of a batch; what does not match is the next row's sound."""
    seen, heard = model.encode_visual(visual), model.encode_audio(audio)
    total = cosine_margin(seen, heard, torch.roll(torch.arange(len(seen)), 1), wanted.margin)
    if model.classifier is None:
        return total
    both = [F.binary_cross_entropy_with_logits(model.classifier(side), labels) for side in (seen, heard)]
    return total + wanted.classification * (both[0] + both[1])


def _read(recipe: Path, name: str, patterns: Sequence[str]) -> tuple[list[Video], list[str]]:
    places = [str(recipe.parent / Path(pattern).expanduser()) for pattern in patterns]
    paths = [Path(found) for place in places for found in sorted(glob.glob(place))]
    if not paths:
        raise ConfigError(f"{recipe}: youtube8m.{name}: no such files: {', '.join(patterns) or 'none is named'}")
    read = read_videos(paths)
    if len(read.rows) < 2:
        problem = f"; the first problem: {read.skipped[0]}" if read.skipped else ""
        raise InputError(f"{recipe}: youtube8m.{name}: {len(read.rows)} videos can be read, need 2{problem}")
    return read.rows, read.skipped


def _tensors(videos: Sequence[Video]) -> tuple[Tensor, Tensor]:
    return (
        torch.from_numpy(np.stack([video.visual for video in videos])),
        torch.from_numpy(np.stack([video.audio for video in videos])),
    )


def _labels(videos: Sequence[Video], classes: int) -> Tensor:
    rows = torch.zeros(len(videos), classes)
    for row, video in zip(rows, videos, strict=True):
        row[list(video.labels)] = 1.0
    return rows


@torch.inference_mode()
def recalls_among(model: FeatureTowers, videos: Sequence[Video], seed: int) -> dict[str, float]:
    """Return R@1, 5 and 10 both ways among galleries of 256 and 1,024 videos, or of all where there are fewer.

    Each is the mean over galleries that are drawn; "shuffled" stands for pairs that do not match, and so for chance.
    """
    visual, audio = _tensors(videos)
    seen, heard = model.encode_visual(visual), model.encode_audio(audio)
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, list[float]] = {}
    for size in dict.fromkeys(min(size, len(videos)) for size in _GALLERIES):
        for _ in range(_DRAWS):
            rows = torch.randperm(len(videos), generator=generator)[:size]
            right = torch.arange(size)
            for label, targets in (("", right), ("shuffled_", torch.roll(right, 1))):
                scores = seen[rows] @ heard[rows].T
                for way, one in (("video_to_audio", scores), ("audio_to_video", scores.T)):
                    for name, value in recall_scalars(one, targets, (1, 5, 10)).items():
                        found.setdefault(f"{label}{way}_{size}_{name}", []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def _write(folder: Path, model: FeatureTowers, wanted: FeatureSettings, recalls: dict[str, float]) -> None:
    save_file(model.state_dict(), folder / "towers.safetensors")
    classes = model.classifier.out_features if model.classifier is not None else 0
    about = {
        "format": 1, "visual_layers": wanted.visual_layers, "audio_layers": wanted.audio_layers,
        "embed_dim": wanted.embed_dim, "classes": classes, "recalls": {k: round(v, 4) for k, v in recalls.items()},
    }  # fmt: skip
    write_text(folder / "config.json", json.dumps(about, indent=1) + "\n")


def load_towers(folder: Path) -> FeatureTowers:
    """Open towers that `train_features` wrote.

    Raises:
        WeightsError: If they are missing or damaged.
    """
    about = read_config(folder / "config.json", 1, "configuration of towers of features")
    model = FeatureTowers(about["visual_layers"], about["audio_layers"], about["embed_dim"], about["classes"])
    model.load_state_dict(load_file(folder / "towers.safetensors"))
    return model.eval()
