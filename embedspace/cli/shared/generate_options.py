"""The options of `embedspace generate`: those of every target, and those that registered targets bring."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from embedspace.generate.targets import Option, option_help, options_of, target_names, target_of, targets

__all__ = [
    "By",
    "FilmSound",
    "Force",
    "HeadOptions",
    "HeadReference",
    "Landmarks",
    "Morph",
    "Neighbours",
    "Number",
    "Out",
    "Overwrite",
    "Seed",
    "Sheet",
    "Sounds",
    "Sources",
    "To",
    "with_target_options",
]

Sources = Annotated[
    list[str],
    typer.Option(
        "--from",
        metavar="QUERY",
        help="Words, a file, or a composition such as '2:dog.png + rain.wav - grass'; repeated, one output each.",
    ),
]


def _target(name: str) -> str:
    """Return the name of a target.

    Raises:
        typer.BadParameter: If nobody registered it.
    """
    if target_of(name) is None:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(map(repr, target_names()))}")
    return name


def _starting_with(typed: str) -> list[str]:
    return [name for name in target_names() if name.startswith(typed)]


To = Annotated[
    str,
    typer.Option(
        "--to",
        parser=_target,
        metavar=f"<{'|'.join(target.name for target in targets())}>",
        autocompletion=_starting_with,
        help="What to make.",
    ),
]

HeadReference = Annotated[
    str | None,
    typer.Option(
        "--head",
        metavar="PREFIX:PLACE",
        help="A published generator in place of the space's own: diffusers:<folder or name>.",
    ),
]

HeadOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--head-option",
        metavar="NAME=VALUE",
        help="What the head takes besides: prior=<folder or name>, adapter=..., dtype=float16, ...; repeated.",
    ),
]

Number = Annotated[int, typer.Option("-n", help="Samples of each source, or frames of a morph.")]

Seed = Annotated[int, typer.Option("--seed", help="Sample i is drawn with seed + i.")]

Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Where to write; several samples become name-1, name-2, ..."),
]

Sheet = Annotated[
    Path | None,
    typer.Option("--sheet", metavar="FILE", help="Also draw one picture of all: source, nearest items, samples."),
]

Morph = Annotated[str | None, typer.Option("--morph", metavar="QUERY", help="Go from the source to this in -n frames.")]

Neighbours = Annotated[
    int, typer.Option("--neighbours", min=0, help="Show so many nearest training items of each sample.")
]

Force = Annotated[bool, typer.Option("--force", help="Also from a source that is far from everything known.")]

Sounds = Annotated[
    str | None,
    typer.Option(
        "--sounds",
        metavar="gallery|made|CATALOG",
        help="Sound for a film: from the sounds that ship (the default), from the generator, or from your catalog.",
    ),
]

FilmSound = Annotated[
    str | None,
    typer.Option(
        "--film-sound",
        metavar="mix|replace",
        help="A film that has sound: mix keeps it under what is added (the default), replace leaves it out.",
    ),
]

By = Annotated[
    str | None,
    typer.Option(
        "--by",
        metavar="lips|voice|FOLDER",
        help="lips: films to text or speech, what the speaker's lips say, by the reader that ships, trained on drawn "
        "faces alone. voice: recordings to an image, a face that fits who speaks; what ships draws emoji people and "
        "tells by the voice whether of a woman, a man, a girl or a boy. A folder is what you trained yourself.",
    ),
]

Landmarks = Annotated[
    Path | None,
    typer.Option(
        "--landmarks",
        metavar="FILE|FOLDER",
        help="With --by lips: points of the face in each frame, by a model of yours, in place of skin and motion; of "
        "several films a folder of files named as they are. What files: docs/lips.md.",
    ),
]

Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace files that exist; a file that a sample is made from never is."),
]


def with_target_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb an option for each setting that a registered target takes; it gets them as keywords.

    Args:
        verb: Its last parameter, `**settings`, takes their values; None for those that are left to the generator.
    """
    target_names()  # what other distributions register is offered, too
    signature = inspect.signature(verb, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    place = next(n for n, parameter in enumerate(own) if parameter.name == "sheet")
    own[place:place] = [_parameter(option) for option in options_of(targets())]
    verb.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
    return verb


def _parameter(option: Option) -> inspect.Parameter:
    def complete(typed: str) -> list[str]:
        return [name for name in (option.choices or list)() if name.startswith(typed)]

    about = typer.Option(
        option.on_command_line, help=option_help(option), autocompletion=complete if option.choices else None
    )
    kind: Any = Annotated[option.kind | None, about]
    return inspect.Parameter(option.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=kind)
