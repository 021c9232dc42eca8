"""Train what reads lips: CTC on letters, and where clips know them on mouth shapes, too."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from embedspace.errors import ConfigError, WeightsError
from embedspace.files import write_text
from embedspace.generate.lips.network import BLANK, LipConfig, LipNetwork, text_of
from embedspace.generate.lips.reader import LipReader
from embedspace.generate.lips.words import WordModel, word_errors
from embedspace.modality import Modality
from embedspace.train.generators.lips.clips import ClipBatch, LipClips, read_clips
from embedspace.train.generators.lips.films import Transcribe, prepare_films
from embedspace.train.generators.lips.recipe import LipRecipe
from embedspace.train.generators.lips.scores import TextScores
from embedspace.train.generators.lips.signs import prepare_signs
from embedspace.train.generators.recipe import GeneratorRecipe
from embedspace.train.loop import FitConfig, FitProgress, fit

__all__ = ["LipRun", "greedy_texts", "lip_loss", "start_from", "train_lips", "train_recipe", "write_reader"]

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


def train_recipe(
    recipe: GeneratorRecipe,
    out: Path,
    minutes: float | None,
    resume: bool,
    tell: Callable[[FitProgress], None],
    videos: Path | None,
    landmarks: Path | None = None,
) -> Path:
    """Train as a recipe says: on videos, whose clips are prepared first and kept in `out`, or on prepared clips.

    Args:
        recipe: Of kind "lips".
        out: Folder of the run.
        minutes: Wall-time budget of the training; None for no limit.
        resume: Go on from the checkpoint in `out`.
        tell: Told of progress, and of films that were left out.
        videos: Folder of films.
        landmarks: Folder of the landmarks of those films, see `embedspace.generate.lips.landmarks`.

    Returns:
        The folder of the reader.

    Raises:
        ConfigError: If there is nothing to learn from.
        WeightsError: If the weights to begin with do not fit.
    """
    section = recipe.lips
    run = LipRun(section, recipe.seed, out, 1e9 if minutes is None else minutes, resume, tell)
    if landmarks is not None and (videos is None or section.layout == "how2sign"):
        raise ConfigError(f"{landmarks}: landmarks go with films (--videos); leave --landmarks out")
    if videos is None:
        return train_lips(run)
    clips = out / "clips"

    def told(done: int, films: int) -> None:
        tell(FitProgress("films", done, films, 0.0, {}))

    if section.layout == "how2sign":
        skipped = prepare_signs(videos, clips, tell=told)
    else:
        words = _recogniser(recipe.space) if section.layout == "folder" else _no_recogniser
        skipped = prepare_films(
            videos, section.layout, clips, words, val_share=section.val_share, locate=landmarks, tell=told
        )
    for number, line in enumerate(skipped):
        tell(FitProgress(f"left out: {line}", number + 1, len(skipped), 0.0, {}))
    rendered = [Path(section.clips)] if section.with_clips else []
    return train_lips(run, read_clips(clips, *rendered))


def _recogniser(space: str) -> Transcribe:
    """Return what writes the words of a recording: the recogniser of a space's speech."""
    from embedspace.space import EmbeddingSpace

    opened = EmbeddingSpace.from_pretrained(space or None)
    if not opened.has_recogniser:
        raise ConfigError(f"{opened.folder}: has no recogniser of speech; name another space, or a layout with texts")
    encoder = opened.encoder(Modality.SPEECH)

    def transcribe(waveform: NDArray[np.float32]) -> str:
        return str(encoder.encode_and_transcribe([encoder.prepare(waveform)])[1][0])

    return transcribe


def _no_recogniser(waveform: NDArray[np.float32]) -> str:
    raise AssertionError("films of a corpus have their own texts")


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
        MissingExtraError: If points of signs are learnt from, and sacrebleu is not installed.
    """
    recipe = run.recipe
    scores = TextScores() if recipe.points else None  # what is signed is a translation, and scored as one
    found = read_clips(Path(recipe.clips)) if clips is None else clips
    train = found["train"]
    torch.manual_seed(run.seed)
    network = _network(recipe, train)
    if recipe.start:
        start_from(network, recipe.start)
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
        scalars = {"val_loss": sum(losses) / len(said), "val_wer": wrong / max(words, 1)}
        if scores is not None:
            scalars |= {f"val_{name}": score for name, score in scores.beside_shuffled(said, read).items()}
        return scalars

    fit(
        network, loss_of_step, _fit_config(run), stage="lips", checkpoint=run.out / "lips.ckpt", resume=run.resume,
        recipe=_digest(recipe), evaluate=evaluate, callback=run.tell,
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


def start_from(network: LipNetwork, folder: str) -> None:
    """Take the weights of a reader; what it knows nothing of, such as mouth shapes, stays as it is.

    Raises:
        WeightsError: If it is a network of another size.
    """
    reader = LipReader.from_pretrained(None if folder == "shipped" else folder)
    have, want = reader.network.config, network.config
    if dataclasses.replace(have, shapes=0, dropout=0) != dataclasses.replace(want, shapes=0, dropout=0):
        raise WeightsError(f"start {folder!r}: is a network of another size; leave channels, width, hidden, layers out")
    network.load_state_dict(reader.network.state_dict(), strict=False)


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


def _digest(recipe: LipRecipe) -> str:
    """Return what a checkpoint is bound to: all of the recipe but how long it trains."""
    kept = {name: value for name, value in dataclasses.asdict(recipe).items() if name not in ("steps", "about")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


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
