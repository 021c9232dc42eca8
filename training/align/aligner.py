"""`python -m training.align`: run a recipe's stages, calibrate, and write a space that `from_pretrained` opens.

Stage 1 trains the text head with the image heads, stage 2 the audio heads onto the frozen text head, stage 3 the speech
heads into the text backbone's own space. Every stage checkpoints, stops when its time is up and goes on with `resume`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from embedspace.encoders.base import load_strict, save_tensors
from embedspace.encoders.film.pooled import POOLED_SECTION
from embedspace.encoders.projections import LinearProjection
from embedspace.encoders.quantize import to_groups4
from embedspace.encoders.shipped.audio import AudioProjections, load_audio_projections
from embedspace.encoders.shipped.image_network import NETWORK_FILE, TunedNetworks, load_network
from embedspace.encoders.shipped.text_network import load_text_projection
from embedspace.errors import ConfigError
from embedspace.files import write_text
from embedspace.space import EmbeddingSpace, write_config
from embedspace.train.curves import Curves
from embedspace.train.loop import FitProgress
from training.align.measure import TwoWays, calibration_of, seen_rows, share_of, spoken_rows
from training.align.recipe import Recipe, load_recipe
from training.align.stages.audio import train_audio
from training.align.stages.image import train_image
from training.align.stages.router import take_router, train_router
from training.align.stages.speech import train_speech

__all__ = ["AlignReport", "align"]

STAGES = ("image", "audio", "speech")


@dataclass(frozen=True)
class AlignReport:
    """What a run did.

    Attributes:
        folder: The space's folder; None if the time ran out before all stages were done.
        done: Stages finished.
        seconds: Wall time of this call.
    """

    folder: Path | None
    done: tuple[str, ...]
    seconds: float


def align(
    recipe: str | Path,
    *,
    minutes: float | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    seed: int | None = None,
    callback: Callable[[FitProgress], None] | None = None,
) -> AlignReport:
    """Train a space as a recipe says.

    Args:
        recipe: TOML file.
        minutes: Wall-time budget; what is missing then is done by another call with `resume`.
        out: Folder of checkpoints, curves and, in `space/`, the result; build/runs/<name> by default.
        resume: Go on from the checkpoints.
        seed: Instead of the recipe's.
        callback: Told of progress.

    Raises:
        ConfigError: If the recipe, the corpora or the features are not as they must be.
        WeightsError: If a checkpoint belongs to another recipe.
    """
    started = time.monotonic()
    wanted = load_recipe(recipe)
    wanted = wanted if seed is None else dataclasses.replace(wanted, seed=seed)
    unknown = set(wanted.stages) - set(STAGES)
    if unknown:
        raise ConfigError(f"{recipe}: unknown stage {', '.join(sorted(unknown))}; known: {', '.join(STAGES)}")
    folder = Path(out) if out is not None else Path("build/runs") / wanted.name
    space = folder / "space"
    space.mkdir(parents=True, exist_ok=True)

    def left() -> float:
        return 1e9 if minutes is None else minutes - (time.monotonic() - started) / 60

    done: list[str] = []
    with contextlib.closing(Curves(folder)) as curves:

        def tell(progress: FitProgress) -> None:
            curves.add(progress)
            if callback is not None:
                callback(progress)

        run = _Run(wanted, space, folder / "checkpoints", resume, tell, _start(wanted, space))
        for stage in [s for s in STAGES if s in wanted.stages]:
            if left() <= 0 or not _STAGE[stage](run, left()):
                return AlignReport(None, tuple(done), time.monotonic() - started)
            done.append(stage)
    _finish(run)
    return AlignReport(space, tuple(done), time.monotonic() - started)


@dataclass(frozen=True)
class _Run:
    """What the stages of a run share.

    Attributes:
        recipe: What to train.
        space: Folder of the result.
        checkpoints: Folder of the checkpoints.
        resume: Go on from them.
        tell: Told of progress.
        sections: Modality -> the encoder's configuration; each stage adds its own.
    """

    recipe: Recipe
    space: Path
    checkpoints: Path
    resume: bool
    tell: Callable[[FitProgress], None]
    sections: dict[str, Any]


def _finish(run: _Run) -> None:
    """Mix in the tuned network and the recogniser, write the configuration, calibrate, keep the resolved recipe."""
    recipe, space, sections = run.recipe, run.space, run.sections
    text, features = load_text_projection(sections["text"]["head"], space), Path(recipe.features)
    new_text = "image" in recipe.stages and not recipe.text.locked  # then every vector is new
    before = EmbeddingSpace.from_pretrained(recipe.start).calibration if recipe.start and not new_text else None
    changed = set(recipe.stages) if before else set(sections)
    ways: dict[str, TwoWays] = {}
    if recipe.image.networks and "image" in sections:
        sections["image"] = {**sections["image"], **_networks(recipe, space)}
        changed.add("image")
    if recipe.speech.decoder and "speech" in sections:
        given = {"decoder": recipe.speech.decoder, "text_backbone": recipe.text.backbone}
        sections["speech"] = {**sections["speech"], **given}
        changed.add("speech")
    if "image" in changed & set(sections):
        ways["image"] = seen_rows(space, sections["image"], recipe)
        if recipe.image.networks:
            sections["image"]["network_share"] = share_of(ways["image"], text, features)
    if "speech" in changed & set(sections):
        ways["speech"] = spoken_rows(space, sections["speech"], recipe, text)
        if recipe.speech.decoder:
            sections["speech"]["recognised_share"] = share_of(ways["speech"], text, features)
    if "image" in sections:
        sections.setdefault("video", dict(POOLED_SECTION))
    write_config(space, sections, recipe.embed_dim)
    opened = EmbeddingSpace.from_pretrained(space)
    calibration = calibration_of(opened, recipe, ways, changed if before else None, before)
    write_text(space / "calibration.json", calibration.to_json() + "\n")
    resolved = json.dumps(dataclasses.asdict(recipe), indent=1)
    write_text(space / "recipe.json", resolved + "\n")


def _networks(recipe: Recipe, space: Path) -> dict[str, Any]:
    """Write the tuned networks of some runs as one file; returns what the image section says of them."""
    found = [_tuned(Path(run)) for run in recipe.image.networks]
    sizes = {stored["image_size"] for stored in found}
    if len(sizes) > 1:
        raise ConfigError(f"{', '.join(recipe.image.networks)}: networks of one space read pictures of one size")
    runs = zip(recipe.image.networks, found, strict=True)
    members = [load_network(s["backbone"], recipe.embed_dim, s["image_size"], Path(run)) for run, s in runs]
    save_tensors(TunedNetworks(members), space / NETWORK_FILE)
    return {"networks": [stored["backbone"] for stored in found], "network_size": sizes.pop()}


def _tuned(run: Path) -> dict[str, Any]:
    """Return what finetune_network wrote of its network: its backbone's name and the size of its pictures."""
    path = run / "network.json"
    if not path.is_file():
        raise ConfigError(f"{path}: no tuned network; run: python -m training.finetune.network train --out {run}")
    stored: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return stored


def _start(recipe: Recipe, space: Path) -> dict[str, Any]:
    """Take over weights and sections of the stages that this run leaves alone."""
    if not recipe.start:
        if "image" not in recipe.stages:
            raise ConfigError(f"{space}: no text head; run the image stage first, or name weights to start from")
        return {}
    given = EmbeddingSpace.from_pretrained(recipe.start)
    for file in given.folder.glob("*.safetensors"):
        shutil.copyfile(file, space / file.name)
    return dict(given.config["sections"])


def _text_section(recipe: Recipe) -> dict[str, Any]:
    text = recipe.text
    return {"feature_dim": text.feature_dim, "embed_dim": recipe.embed_dim, "hidden_dim": text.hidden_dim}


def _text_head(recipe: Recipe, space: Path) -> LinearProjection:
    text = recipe.text
    head = LinearProjection(text.feature_dim, recipe.embed_dim, text.hidden_dim, text.dropout)
    path = space / "text.safetensors"
    if not path.is_file():
        raise ConfigError(f"{path}: no text head; run the image stage first, or name weights to start from")
    load_strict(head, path)
    return head


def _image(run: _Run, minutes: float) -> bool:
    recipe, text = run.recipe, run.recipe.text
    torch.manual_seed(recipe.seed)
    fresh = LinearProjection(text.feature_dim, recipe.embed_dim, text.hidden_dim, text.dropout)
    head = _text_head(recipe, run.space) if text.locked else fresh
    heads = train_image(recipe, head, run.checkpoints, minutes, run.resume, run.tell)
    if heads is None:
        return False
    if not text.locked:
        save_tensors(head, run.space / "text.safetensors")
    save_tensors(heads, run.space / "image.safetensors")
    if recipe.image.tail:
        shutil.copyfile(Path(recipe.image.tail) / "image_tail.safetensors", run.space / "image_tail.safetensors")
    run.sections["text"] = {"backbone": text.backbone, "head": _text_section(recipe)}
    run.sections["image"] = dataclasses.asdict(heads.config)
    return True


def _audio(run: _Run, minutes: float) -> bool:
    recipe = run.recipe
    heads = train_audio(recipe, _text_head(recipe, run.space), run.checkpoints, minutes, run.resume, run.tell)
    if heads is None:
        return False
    if recipe.audio.keep_router:
        take_router(_given_audio(recipe), heads)
    else:
        train_router(recipe, heads)
    save_tensors(heads, run.space / "audio.safetensors")
    run.sections["audio"] = dataclasses.asdict(heads.config)
    return True


def _given_audio(recipe: Recipe) -> AudioProjections:
    """Return the audio heads of the space that the run starts from."""
    given = EmbeddingSpace.from_pretrained(recipe.start)
    section = given.config["sections"].get("audio")
    if section is None:
        raise ConfigError(f"{recipe.start}: this space has no audio, so no router to keep; set keep_router = false")
    return load_audio_projections(section, given.folder)


def _speech(run: _Run, minutes: float) -> bool:
    recipe = run.recipe
    heads = train_speech(recipe, _text_head(recipe, run.space), run.checkpoints, minutes, run.resume, run.tell)
    if heads is None:
        return False
    # Four bits cost nothing here: validation R@1 / R@10 28.7 / 56.2 in float, 28.6 / 56.2 so.
    save_tensors(heads, run.space / "speech.safetensors", to_groups4)
    run.sections["speech"] = {**dataclasses.asdict(heads.config), "text_head": _text_section(recipe)}
    return True


_STAGE: dict[str, Callable[[_Run, float], bool]] = {"image": _image, "audio": _audio, "speech": _speech}
"""Each trains within some minutes and adds to the run's sections; False if the time ran out."""
