"""Train what reads lips: CTC on letters, and where clips know them on mouth shapes, too."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedspace.files import write_text
from embedspace.generate.lips.network import BLANK, LipConfig, LipNetwork, text_of
from embedspace.generate.lips.words import WordModel, word_errors
from embedspace.train.generators.lip_clips import ClipBatch, LipClips, read_clips
from embedspace.train.generators.lip_recipe import LipRecipe
from embedspace.train.loop import FitConfig, FitProgress, fit

__all__ = ["LipRun", "greedy_texts", "lip_loss", "train_lips"]

_SHOWN = 200
"""Clips of validation that are looked at in training."""


@dataclass(frozen=True)
class LipRun:
    """What the training of a reader of lips is given.

    Attributes:
        recipe: The [lips] table.
        seed: Seed of everything.
        out: Where the checkpoint and the reader go; the reader itself into `out / "generator"`.
        minutes: Wall-time budget.
        resume: Go on from the checkpoint.
        tell: Told of progress.
    """

    recipe: LipRecipe
    seed: int
    out: Path
    minutes: float
    resume: bool
    tell: Callable[[FitProgress], None]


def lip_loss(network: LipNetwork, batch: ClipBatch, shape_weight: float) -> Tensor:
    """Return the CTC loss per letter, and the cross-entropy of mouth shapes where they are known."""
    features = network.features(batch.seen, batch.lengths)
    logits = F.log_softmax(network.letters(features), dim=2).transpose(0, 1)  # (T, B, classes)
    loss = F.ctc_loss(logits, batch.letters, batch.lengths, batch.counts, blank=BLANK, zero_infinity=True)
    if network.shapes is not None and shape_weight and bool((batch.shapes >= 0).any()):
        shapes = network.shapes(features).flatten(0, 1)
        loss = loss + shape_weight * F.cross_entropy(shapes, batch.shapes.flatten(), ignore_index=-1)
    return loss


@torch.inference_mode()
def greedy_texts(network: LipNetwork, batch: ClipBatch) -> list[str]:
    """Return the likeliest letters of each clip, without a language model."""
    best = network(batch.seen, batch.lengths).argmax(dim=2)
    out = []
    for row, length in zip(best, batch.lengths, strict=True):
        kept = torch.unique_consecutive(row[: int(length)]).tolist()
        out.append(text_of([int(k) for k in kept]))
    return out


def train_lips(run: LipRun, clips: Mapping[str, LipClips] | None = None) -> Path:
    """Train, and write the reader's folder.

    Args:
        run: The run.
        clips: Split -> clips; read from the recipe's folder where none are given.

    Returns:
        The folder of the reader.

    Raises:
        ConfigError: If there are no clips.
    """
    recipe = run.recipe
    found = read_clips(Path(recipe.clips)) if clips is None else clips
    train = found["train"]
    torch.manual_seed(run.seed)
    network = _network(recipe, train)
    held = found.get("val")
    batches = (
        [held.batch(range(k, min(k + 50, len(held), _SHOWN))) for k in range(0, min(len(held), _SHOWN), 50)]
        if held
        else []
    )

    def loss_of_step(model: nn.Module, generator: torch.Generator) -> Tensor:
        assert isinstance(model, LipNetwork)
        return lip_loss(model, train.batch(train.draw(recipe.batch_size, generator), generator), recipe.shape_weight)

    @torch.inference_mode()
    def evaluate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, LipNetwork)
        if not batches:
            return {}
        losses = [float(lip_loss(model, batch, 0.0)) * len(batch.texts) for batch in batches]
        read = [text for batch in batches for text in greedy_texts(model, batch)]
        said = [text for batch in batches for text in batch.texts]
        wrong, words = word_errors(said, read)
        return {"val_loss": sum(losses) / len(said), "val_wer": wrong / max(words, 1)}

    fit(
        network, loss_of_step, _fit_config(run), stage="lips", checkpoint=run.out / "lips.ckpt", resume=run.resume,
        evaluate=evaluate, callback=run.tell,
    )  # fmt: skip
    return write_reader(network, WordModel.of(train.texts), run.out / "generator", recipe.about)


def write_reader(network: LipNetwork, words: WordModel, folder: Path, about: str) -> Path:
    """Write the folder that a reader is opened from; weights in half precision."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    kept = {
        name: value.detach().to(torch.float16).contiguous()
        for name, value in network.state_dict().items()
        if not name.startswith("shapes.")
    }
    save_file(kept, folder / "network.safetensors")
    words.save(folder / "words.json")
    config: dict[str, Any] = {"format": 1, "about": about}
    config["network"] = dataclasses.asdict(dataclasses.replace(network.config, shapes=0))
    write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")
    return folder


def _network(recipe: LipRecipe, clips: LipClips) -> LipNetwork:
    return LipNetwork(
        LipConfig(
            recipe.channels,
            recipe.width,
            recipe.hidden,
            recipe.layers,
            recipe.points,
            clips.shape_kinds,
            recipe.dropout,
        )
    )


def _fit_config(run: LipRun) -> FitConfig:
    recipe = run.recipe
    return FitConfig(
        steps=recipe.steps,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        warmup_steps=min(100, recipe.steps // 10),
        minutes=run.minutes,
        seed=run.seed,
        cooldown=0.25,
        evaluate_every=max(1, min(250, recipe.steps // 4)),
    )
