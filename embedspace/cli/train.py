"""`embedspace train`: make weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedspace.errors import ConfigError

if TYPE_CHECKING:
    from embedspace.train.loop import FitProgress

__all__ = ["app", "head"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make weights.")


@app.callback()
def group() -> None:
    """Make weights."""


@app.command()
def head(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="A head's recipe, for example training/recipes/heads/text.toml.")
    ],
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.0, help="Stop after so many minutes, with what there is.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Where the head, checkpoints, logs and plots go.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    seed: Annotated[int | None, typer.Option("--seed", help="Another seed than the recipe's.")] = None,
) -> None:
    """Train a generator head on vectors of a space, as a recipe says; prints its folder at the end."""
    if not recipe.is_file():
        raise ConfigError(f"{recipe}: no such recipe; the shipped ones are in training/recipes/heads")
    from embedspace.cli.shared.output import Interrupted
    from embedspace.train.generators.run import train_head

    try:
        print(train_head(recipe, minutes=minutes, out=out, resume=resume, seed=seed, callback=_tell))
    except KeyboardInterrupt:
        raise Interrupted("interrupted; go on from the last checkpoint with --resume") from None


def _tell(progress: FitProgress) -> None:
    """Print one line of progress."""
    scalars = "  ".join(f"{name} {value:.4g}" for name, value in progress.scalars.items())
    print(f"{progress.stage}  step {progress.step}/{progress.steps}  {progress.seconds:.0f} s  {scalars}", flush=True)
