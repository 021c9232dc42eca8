"""`embedspace train align`: run a recipe's stages, calibrate, and write a space that `from_pretrained` opens.

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

from embedspace.encoders.base import load_strict, save_tensors
from embedspace.encoders.heads import TextHead
from embedspace.errors import ConfigError
from embedspace.space import EmbeddingSpace, write_config
from embedspace.train.curves import Curves
from embedspace.train.loop import FitProgress
from embedspace.train.measure import calibration_of
from embedspace.train.recipe import Recipe, load_recipe
from embedspace.train.router import train_router
from embedspace.train.stage_audio import train_audio
from embedspace.train.stage_image import train_image
from embedspace.train.stage_speech import train_speech

__all__ = ["AlignReport", "align"]

STAGES = ("image", "audio", "speech")


@dataclass(frozen=True)
class AlignReport:
    """What a run did.

    Attributes:
        folder: Of the space; None if the time ran out before all stages were done.
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
    sections = _start(wanted, space)
    with contextlib.closing(Curves(folder)) as curves:

        def tell(progress: FitProgress) -> None:
            curves.add(progress)
            if callback is not None:
                callback(progress)

        for stage in [s for s in STAGES if s in wanted.stages]:
            made = left() > 0 and _STAGE[stage](wanted, space, folder / "checkpoints", left(), resume, tell, sections)
            if not made:
                return AlignReport(None, tuple(done), time.monotonic() - started)
            done.append(stage)
    _finish(wanted, space, sections)
    return AlignReport(space, tuple(done), time.monotonic() - started)


def _finish(recipe: Recipe, space: Path, sections: dict[str, Any]) -> None:
    """Write the configuration, calibrate, and keep the resolved recipe beside."""
    write_config(space, sections, recipe.embed_dim)
    calibration = calibration_of(EmbeddingSpace.from_pretrained(space), recipe)
    (space / "calibration.json").write_text(calibration.to_json() + "\n", "utf-8")
    resolved = json.dumps(dataclasses.asdict(recipe), indent=1)
    (space / "recipe.json").write_text(resolved + "\n", "utf-8")


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


def _text_head(recipe: Recipe, space: Path) -> TextHead:
    text = recipe.text
    head = TextHead(text.feature_dim, recipe.embed_dim, text.hidden_dim, text.dropout)
    path = space / "text.safetensors"
    if not path.is_file():
        raise ConfigError(f"{path}: no text head; run the image stage first, or name weights to start from")
    load_strict(head, path)
    return head


def _image(
    recipe: Recipe,
    space: Path,
    checkpoints: Path,
    minutes: float,
    resume: bool,
    tell: Any,  # noqa: ANN401
    sections: dict[str, Any],
) -> bool:
    import torch

    torch.manual_seed(recipe.seed)
    text = TextHead(recipe.text.feature_dim, recipe.embed_dim, recipe.text.hidden_dim, recipe.text.dropout)
    heads = train_image(recipe, text, checkpoints, minutes, resume, tell)
    if heads is None:
        return False
    save_tensors(text, space / "text.safetensors")
    save_tensors(heads, space / "image.safetensors")
    if recipe.image.tail:
        shutil.copyfile(Path(recipe.image.tail) / "image_tail.safetensors", space / "image_tail.safetensors")
    sections["text"] = {"backbone": recipe.text.backbone, "head": _text_section(recipe)}
    sections["image"] = dataclasses.asdict(heads.config)
    return True


def _audio(
    recipe: Recipe,
    space: Path,
    checkpoints: Path,
    minutes: float,
    resume: bool,
    tell: Any,  # noqa: ANN401
    sections: dict[str, Any],
) -> bool:
    heads = train_audio(recipe, _text_head(recipe, space), checkpoints, minutes, resume, tell)
    if heads is None:
        return False
    train_router(recipe, heads)
    save_tensors(heads, space / "audio.safetensors")
    sections["audio"] = dataclasses.asdict(heads.config)
    return True


def _speech(
    recipe: Recipe,
    space: Path,
    checkpoints: Path,
    minutes: float,
    resume: bool,
    tell: Any,  # noqa: ANN401
    sections: dict[str, Any],
) -> bool:
    heads = train_speech(recipe, _text_head(recipe, space), checkpoints, minutes, resume, tell)
    if heads is None:
        return False
    save_tensors(heads, space / "speech.safetensors")
    sections["speech"] = {**dataclasses.asdict(heads.config), "text_head": _text_section(recipe)}
    return True


_STAGE: dict[str, Callable[..., bool]] = {"image": _image, "audio": _audio, "speech": _speech}
