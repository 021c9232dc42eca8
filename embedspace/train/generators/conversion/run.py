"""Train a vocoder, or what gives speech another voice, as a recipe says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from embedspace.train.generators.conversion.decoder import train_decoder
from embedspace.train.generators.conversion.vocoder import train_vocoder
from embedspace.train.generators.recipe import GeneratorRecipe
from embedspace.train.loop import FitProgress

__all__ = ["train_recipe"]


def train_recipe(
    recipe: GeneratorRecipe,
    out: Path,
    minutes: float | None,
    resume: bool,
    tell: Callable[[FitProgress], None],
    videos: Path | None,
) -> Path:
    """Train as a recipe says, and return the folder of what was trained.

    Args:
        recipe: Of kind "vocoder" or "conversion".
        out: Folder of the run.
        minutes: Wall-time budget; None for no limit.
        resume: Go on from the checkpoint in `out`.
        tell: Told of progress.
        videos: None: it learns from no films.

    Raises:
        ConfigError: If there is nothing to learn from.
    """
    del videos
    corpora = Path(recipe.corpora)
    if recipe.kind == "vocoder":
        return train_vocoder(recipe.vocoder, corpora, out, seed=recipe.seed, minutes=minutes, resume=resume, tell=tell)
    return train_decoder(recipe.conversion, corpora, out, seed=recipe.seed, minutes=minutes, resume=resume, tell=tell)
