"""`embedspace train`: make weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedspace.cli.shared.options import Device
from embedspace.config import read_toml
from embedspace.errors import ConfigError
from embedspace.generate.families.registry import family_names

if TYPE_CHECKING:
    from embedspace.train.loop import FitProgress

__all__ = ["align", "app", "generator"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make weights.")

Minutes = Annotated[
    float | None, typer.Option("--minutes", min=0.0, help="Stop after so many minutes, with what there is.")
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FOLDER", help="Where the weights, checkpoints, logs and plots go.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")]
Families = Annotated[
    list[str] | None,
    typer.Option(
        "--family",
        metavar="NAME",
        help="Train this family only, on the latents of the generator in --out where there is one; repeated, several. "
        f"Families are {', '.join(family_names())}.",
    ),
]
Videos = Annotated[
    Path | None,
    typer.Option(
        "--videos", metavar="FOLDER", help="Films: of people who speak for recipes of kind lips, any for kind frames."
    ),
]
Landmarks = Annotated[
    Path | None,
    typer.Option(
        "--landmarks",
        metavar="FOLDER",
        help="Landmarks of the faces in those films, named as they are (docs/lips.md); for recipes of kind lips.",
    ),
]
FromFolder = Annotated[
    Path | None,
    typer.Option("--from", metavar="FOLDER", help="Pictures of one kind; for recipes of kind style."),
]
ToFolder = Annotated[
    Path | None,
    typer.Option("--to", metavar="FOLDER", help="Pictures of the kind that those of --from are to become."),
]
Pairs = Annotated[
    Path | None,
    typer.Option(
        "--pairs", metavar="MANIFEST", help="Recordings and pictures of people who speak; for recipes of kind faces."
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Another seed than the recipe's.")]


@app.callback()
def group() -> None:
    """Make weights."""


@app.command()
def align(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A TOML file: towers, pairs and how long to train.")],
    minutes: Minutes = None,
    out: Out = None,
    resume: Resume = False,
    seed: Seed = None,
    device: Device = "cpu",
    download: Annotated[bool, typer.Option("--download", help="Fetch towers that are not on this machine.")] = False,
) -> None:
    """Train projections, and if wanted towers, on your pairs of media and captions; prints the space's folder.

    Pairs come from CSV, JSONL or parquet manifests and from WebDataset shards; a recipe with a [youtube8m] table trains
    video and audio towers on features of YouTube-8M. With --resume the recipe may name
    another number of steps. Started by torchrun (torchrun --nproc-per-node 2 -m embedspace train align RECIPE), the
    processes train together.
    """
    _require(recipe)
    if "youtube8m" in read_toml(recipe, what="recipe"):
        _features(recipe, minutes, out, resume, seed)
        return
    from embedspace.train.align import align as run

    with _interrupted():
        report = run(
            recipe,
            minutes=minutes,
            out=out,
            resume=resume,
            seed=seed,
            device=device,
            download=download,
            callback=_tell,
        )
    if not report.first:  # one of several processes speaks for all
        return
    _say(report.skipped, report.folder)


_SHOWN = 10


def _features(recipe: Path, minutes: float | None, out: Path | None, resume: bool, seed: int | None) -> None:
    """Train on features of YouTube-8M."""
    from embedspace.train.align.youtube8m.run import train_features

    with _interrupted():
        report = train_features(recipe, minutes=minutes, out=out, resume=resume, seed=seed, callback=_tell)
    _say(report.skipped, report.folder)


def _say(skipped: list[str], folder: Path | None) -> None:
    """Say what was left out, and where the results are."""
    for line in skipped[:_SHOWN]:
        typer.echo(f"skipped: {line}", err=True)
    if len(skipped) > _SHOWN:
        typer.echo(f"skipped: {len(skipped) - _SHOWN} more", err=True)
    print(folder or "out of time; go on with --resume")


@app.command()
def generator(
    recipe: Annotated[
        Path,
        typer.Argument(metavar="RECIPE", help="A generator's recipe, such as training/recipes/generators/text.toml."),
    ],
    minutes: Minutes = None,
    out: Out = None,
    resume: Resume = False,
    seed: Seed = None,
    family: Families = None,
    videos: Videos = None,
    landmarks: Landmarks = None,
    pairs: Pairs = None,
    from_: FromFolder = None,
    to: ToFolder = None,
) -> None:
    """Train a generator on vectors of a space, as a recipe says; prints its folder at the end.

    A recipe of kind lips trains what reads lips, on --videos: their words come from the recogniser of speech. One of
    kind faces trains what makes faces from voices, on --pairs of recordings and pictures. One of kind style learns to
    draw the pictures of --from as those of --to are drawn; they need not show the same things.
    """
    _require(recipe)
    from embedspace.train.generators.run import train_generator

    with _interrupted():
        folder = train_generator(
            recipe,
            minutes=minutes,
            out=out,
            resume=resume,
            seed=seed,
            families=tuple(family or ()),
            videos=videos,
            landmarks=landmarks,
            pairs=pairs,
            folders=_folders(from_, to),
            callback=_tell,
        )
        print(folder)


def _folders(from_: Path | None, to: Path | None) -> tuple[Path, Path] | None:
    """Return the two folders of a style, where they are named."""
    if from_ is None and to is None:
        return None
    if from_ is None or to is None:
        raise ConfigError("--from and --to go together: the pictures of one folder become as those of the other are")
    for folder in (from_, to):
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder of pictures")
    return from_, to


app.command("head", hidden=True)(generator)  # its name in earlier versions


def _require(recipe: Path) -> None:
    if not recipe.is_file():
        raise ConfigError(f"{recipe}: no such recipe; name a TOML file")


@contextlib.contextmanager
def _interrupted() -> Iterator[None]:
    from embedspace.cli.shared.output import Interrupted

    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("interrupted; go on from the last checkpoint with --resume") from None


def _tell(progress: FitProgress) -> None:
    """Print one line of progress."""
    scalars = "  ".join(f"{name} {value:.4g}" for name, value in progress.scalars.items())
    print(f"{progress.stage}  step {progress.step}/{progress.steps}  {progress.seconds:.0f} s  {scalars}", flush=True)
