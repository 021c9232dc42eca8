"""Train what makes faces from voices: one family on latents of pictures, told nothing but the voice."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from embedspace.errors import ConfigError
from embedspace.files import read_config
from embedspace.generate.faces.maker import PictureParts, picture_parts, write_face_config
from embedspace.generate.latents.autoencoder import DOWN
from embedspace.space import EmbeddingSpace
from embedspace.train.generators.faces.pairs import FaceSet, encode_pairs, read_pairs
from embedspace.train.generators.faces.voices import FileVoices
from embedspace.train.generators.families import train_family
from embedspace.train.generators.recipe import FamilyRecipe, GeneratorRecipe
from embedspace.train.generators.run import GeneratorRun
from embedspace.train.generators.texts import GeneratorTexts
from embedspace.train.loop import FitProgress

__all__ = ["SIDE", "train_recipe"]

SIDE = 96
"""Pixels of the pictures; their latents have an eighth as many cells a side."""


def train_recipe(
    recipe: GeneratorRecipe,
    out: Path,
    minutes: float | None,
    resume: bool,
    tell: Callable[[FitProgress], None],
    pairs: Path | None,
) -> Path:
    """Train as a recipe says.

    Args:
        recipe: Of kind "faces".
        out: Folder of the run.
        minutes: Wall-time budget; None for no limit.
        resume: Go on from the checkpoint in `out`.
        tell: Told of progress, and of files that were left out.
        pairs: Manifest, instead of the recipe's.

    Returns:
        The folder that `FaceMaker` opens.

    Raises:
        ConfigError: If the manifest is wrong, or there is nothing to learn from.
    """
    section = recipe.faces
    if len(section.families) != 1:
        raise ConfigError(f"faces.families: {len(section.families)} families; name one, such as [faces.families.gan]")
    parts = picture_parts()
    found = _encoded(recipe, pairs or Path(section.pairs), out, parts, tell)
    name, chosen = next(iter(section.families.items()))
    return _trained(recipe, chosen, name, found, parts, out=out, minutes=minutes, resume=resume, tell=tell)


def _encoded(
    recipe: GeneratorRecipe, pairs: Path, out: Path, parts: PictureParts, tell: Callable[[FitProgress], None]
) -> FaceSet:
    manifest = read_pairs(pairs)
    voices = FileVoices(out / "voices.npz")

    def told(done: int, total: int) -> None:
        tell(FitProgress("voices", done, total, 0.0, {}))

    try:
        found, skipped = encode_pairs(
            manifest, parts.autoencoder, SIDE, mirror=recipe.faces.mirror, voices=voices, tell=told
        )
    finally:
        voices.save()
    left_out = [*manifest.skipped, *skipped]
    for number, line in enumerate(left_out):
        tell(FitProgress(f"left out: {line}", number + 1, len(left_out), 0.0, {}))
    return found


def _trained(
    recipe: GeneratorRecipe,
    chosen: FamilyRecipe,
    name: str,
    found: FaceSet,
    parts: PictureParts,
    *,
    out: Path,
    minutes: float | None,
    resume: bool,
    tell: Callable[[FitProgress], None],
) -> Path:
    config = dataclasses.replace(chosen.config, neighbours=0)  # no training item's latents are a context
    chosen = FamilyRecipe(chosen.type, config)
    run = GeneratorRun(
        recipe=recipe,
        space=EmbeddingSpace.from_pretrained(recipe.space or None),
        out=out,
        minutes=1e9 if minutes is None else minutes,
        resume=resume,
        rows=[],
        vectors={},
        texts=GeneratorTexts([], np.zeros((0, found.embed_dim), np.float32), [], []),
        tell=tell,
    )
    before: dict[str, Any] = {}
    if (run.folder / "config.json").is_file():
        before = read_config(run.folder / "config.json", 1, "what makes faces from voices").get("trained", {})
    trained = train_family(run, "network", chosen, found, 1.0, before)
    settings = {"type": chosen.type, **dataclasses.asdict(config)}
    about = {"about": recipe.faces.about, "autoencoder": parts.digest, "trained": trained}
    write_face_config(run.folder, settings, found.shape, found.mean, about)
    assert found.shape[1] * DOWN == SIDE
    return run.folder
