"""Stage 2: audio heads onto the frozen text head, with the names of the tagger's classes as a start.

Two kinds, alone or mixed: a memory of the training sounds, which is fitted at once, and heads trained by steps.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from embedspace.encoders.projections import KernelProjection, LinearProjection, MLPProjection
from embedspace.encoders.shipped.audio import AudioConfig, AudioProjections
from embedspace.encoders.towers import create_backbone
from embedspace.encoders.towers.yamnet import YAMNet
from embedspace.train.batches import CaptionTable, PairBatches, PairSource
from embedspace.train.kernel_regression import fit_regression
from embedspace.train.loop import FitConfig, FitProgress, fit
from embedspace.train.losses import info_nce, mixup_pairs, siglip, soft_targets
from training.align.recipe import Recipe
from training.align.stages.memory import memory_items
from training.align.tables import Row, caption_table, fold_of, manifest_rows, pair_source, read_features

__all__ = ["Evaluate", "recall_without", "train_audio", "training_rows"]

Evaluate = Callable[[AudioProjections], dict[str, float]]

_EVALUATE_EVERY = 50


@functools.cache
def _name_vectors(text_backbone: str, names: tuple[str, ...]) -> NDArray[np.float32]:
    """Return the (len(names), text_dim) unit vectors of names of classes; one may list synonyms with commas."""
    backbone = create_backbone(text_backbone)
    words = [(k, word.lower()) for k, name in enumerate(names) for word in name.split(", ")]
    texts = [text for _, word in words for text in (f"the sound of {word}", word)]
    with torch.inference_mode():
        rows: Tensor = backbone([backbone.preprocess(t) for t in texts]).normalized  # type: ignore[operator]
    owners = torch.tensor([k for k, _ in words for _ in range(2)])
    sums = torch.zeros(len(names), rows.shape[1]).index_add_(0, owners, rows)
    return np.asarray(F.normalize(sums, dim=1), np.float32)


def training_rows(recipe: Recipe, name: str, left_out: int | None = None) -> list[Row]:
    """Return a source's rows to train on: neither excluded nor a copy of an excluded recording, without one fold.

    The name of the concept is one more caption of a row.
    """
    found = list(manifest_rows(Path(recipe.corpora), name, "audio"))
    excluded = set(recipe.audio.exclude)
    copies = {row["group"] for row in found if row["source"] in excluded and row.get("group")}
    kept = []
    for row in found:
        if row.get("split", "train") != "train" or row["source"] in excluded or row.get("group") in copies:
            continue
        if left_out is None or fold_of(row["id"]) != left_out:
            named = [*row.get("captions", ()), row.get("concept", "")]
            kept.append({**row, "captions": list(dict.fromkeys(filter(None, named)))})
    return kept


def _sources(recipe: Recipe, captions: CaptionTable, left_out: int | None = None) -> list[PairSource]:
    """Return the sources, without the items of one fold."""
    wanted, sources = recipe.audio, []
    for name, weight in wanted.sources.items():
        table = read_features(Path(recipe.features), "audio", name, wanted.views)
        joined = type(table)(table.index, np.concatenate([table.features, table.logits], axis=1), table.logits)
        rows = training_rows(recipe, name, left_out)
        sources.append(pair_source(name, rows, joined, captions, weight=weight))
    return sources


def _heads(recipe: Recipe, text: LinearProjection, captions: CaptionTable) -> tuple[AudioProjections, Tensor, Tensor]:
    """Return untrained heads with their class vectors, and mean and inverse deviation of the features."""
    wanted = recipe.audio
    sources = PairBatches(_sources(recipe, captions), captions, wanted.batch_size).sources
    plain = np.concatenate([np.asarray(s.features[s.views[:, 0]], np.float32) for s in sources])
    tagger = create_backbone(wanted.backbones[0])
    assert isinstance(tagger, YAMNet)
    width = plain.shape[1] - len(tagger.classes)
    config = AudioConfig(
        backbones=wanted.backbones,
        feature_dim=width,
        embed_dim=recipe.embed_dim,
        hidden_dim=wanted.hidden_dim,
        members=wanted.members,
        classes=len(tagger.classes),
        temperature=wanted.temperature,
        window_seconds=wanted.window_seconds,
    )
    heads = AudioProjections(config)
    with torch.inference_mode():
        vectors = text(torch.from_numpy(_name_vectors(recipe.text.backbone, tuple(tagger.classes))))
    heads.classes.copy_(vectors)
    mean = torch.from_numpy(plain[:, :width].mean(axis=0))
    return heads, mean, 1 / (torch.from_numpy(plain[:, :width].std(axis=0)) + 1e-2)


def _memory(
    recipe: Recipe, text: LinearProjection, captions: CaptionTable, width: int, left_out: int | None = None
) -> KernelProjection:
    """Fit a memory of all training sounds but those of one fold."""
    wanted = recipe.audio
    sources = [s for s in _sources(recipe, captions, left_out) if len(s.views)]
    return fit_regression(
        memory_items(sources, captions, text, width, wanted.memory_balance),
        wanted.memory_dim,
        bandwidth=wanted.memory_bandwidth,
        ridge=wanted.memory_ridge,
        prior_share=wanted.memory_prior,
    )


def _with_memory(
    recipe: Recipe, text: LinearProjection, captions: CaptionTable, heads: AudioProjections
) -> AudioProjections:
    """Return heads with the same classes and members and a memory of all training sounds."""
    memory = _memory(recipe, text, captions, heads.config.feature_dim)
    config = dataclasses.replace(
        heads.config,
        memory_items=len(memory.keys),
        memory_dim=len(memory.basis),
        memory_bandwidth=memory.bandwidth,
        memory_prior=memory.prior_share,
        memory_share=recipe.audio.memory_share,
    )
    both = AudioProjections(config)
    both.classes.copy_(heads.classes)
    both.members, both.memory = heads.members, memory
    return both


def train_audio(
    recipe: Recipe,
    text: LinearProjection,
    out: Path,
    minutes: float,
    resume: bool,
    tell: Callable[[FitProgress], None],
    evaluate: Evaluate | None = None,
) -> AudioProjections | None:
    """Fit the memory and train the audio heads against the frozen text head; arguments and result as `train_image`.

    `evaluate` measures heads that hold only the member in training; what it returns is told every 50 steps.
    """
    wanted, captions = recipe.audio, caption_table(Path(recipe.features))
    heads, mean, scale = _heads(recipe, text, captions)
    if wanted.memory_dim:
        heads = _with_memory(recipe, text, captions, heads)
    deadline = time.monotonic() + minutes * 60
    for number in range(wanted.members):
        seed = recipe.seed * 1000 + number
        torch.manual_seed(seed)
        member = MLPProjection(len(mean), recipe.embed_dim, wanted.hidden_dim, wanted.dropout, True)
        member.mean.copy_(mean)
        member.scale.copy_(scale)
        heads.members[number] = member
        batches = PairBatches(_sources(recipe, captions, number), captions, wanted.batch_size, 0.5)
        left = max(0.0, (deadline - time.monotonic()) / 60)
        done = fit(
            _Stage(member, wanted.loss == "siglip"),
            _loss(recipe, heads, text, batches),
            FitConfig(wanted.steps, wanted.learning_rate, wanted.weight_decay, 50, left, seed, _EVALUATE_EVERY),
            stage=f"audio {number}",
            checkpoint=out / f"audio-{number}.pt",
            resume=resume,
            recipe=recipe.digest("audio"),
            evaluate=_of_one(heads, number, evaluate) if evaluate else None,
            callback=tell,
        )
        if not done:
            return None
    return heads.eval()


def _of_one(heads: AudioProjections, number: int, evaluate: Evaluate) -> Callable[[nn.Module], dict[str, float]]:
    """Return what measures one member alone."""

    def measured(_: nn.Module) -> dict[str, float]:
        alone = AudioProjections(dataclasses.replace(heads.config, members=1, memory_items=0))
        alone.classes.copy_(heads.classes)
        alone.members[0] = heads.members[number]
        with torch.inference_mode():
            return evaluate(alone.eval())

    return measured


def _loss(
    recipe: Recipe, heads: AudioProjections, text: LinearProjection, batches: PairBatches
) -> Callable[[nn.Module, torch.Generator], Tensor]:
    wanted, width = recipe.audio, heads.config.feature_dim

    def loss_of_step(module: nn.Module, generator: torch.Generator) -> Tensor:
        assert isinstance(module, _Stage)
        joined, labels = batches.draw(generator)
        prior = heads.prior(joined[:, width:])
        targets, ignored = soft_targets(
            labels @ labels.T, positive_above=wanted.positive_above, ignore_above=wanted.ignore_above
        )
        both, labels = mixup_pairs(torch.cat([joined[:, :width], prior], dim=1), labels, wanted.mixup, generator)
        with torch.no_grad():
            y = text(F.normalize(labels, dim=1))
        z = module.head(both[:, :width], F.normalize(both[:, width:], dim=1))
        scale = module.logit_scale.exp().clamp(max=60)
        if module.logit_bias is not None:
            return siglip(z, y, scale, module.logit_bias, targets > 0, ignored)
        return info_nce(z, y, scale, targets, ignored)

    return loss_of_step


class _Stage(nn.Module):
    """What stage 2 optimises by steps; the bias belongs to the sigmoid loss."""

    def __init__(self, head: MLPProjection, sigmoid: bool) -> None:
        super().__init__()
        self.head = head
        self.logit_scale = nn.Parameter(torch.tensor(2.66))
        self.logit_bias = nn.Parameter(torch.tensor(-10.0)) if sigmoid else None


def recall_without(
    recipe: Recipe, text: LinearProjection, heads: AudioProjections, fold: int
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return (features, logits) -> unit rows by a memory that never held one fold, and the member that never saw it.

    For calibration: how alike a sound and its words are when the sound is new.
    """
    memory = None
    if heads.memory is not None:
        memory = _memory(recipe, text, caption_table(Path(recipe.features)), heads.config.feature_dim, fold)

    def encode(features: Tensor, logits: Tensor) -> Tensor:
        prior = heads.prior(logits)
        trained = [heads.members[fold](features, prior)] if fold < len(heads.members) else []
        return heads.mix(trained, None if memory is None else memory(features, prior))

    return encode
