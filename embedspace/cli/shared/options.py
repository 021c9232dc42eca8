"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from embedspace.errors import InputError
from embedspace.modality import Modality, is_modality, modality_names

__all__ = [
    "AsModality",
    "BatchSize",
    "CatalogOrEngine",
    "CatalogPath",
    "Device",
    "Download",
    "Json",
    "OnlyModalities",
    "Pushed",
    "Quiet",
    "SearchBy",
    "SpaceName",
    "Timeout",
    "Timing",
    "Voices",
    "Where",
    "Workers",
    "modality_name",
    "utf8",
]

_NAMES = f"<{'|'.join(Modality)}>"


def modality_name(value: str) -> str:
    """Return the name of a modality that comes with the package, or that another module registered.

    Raises:
        typer.BadParameter: If there is none of this name.
    """
    if not is_modality(value):
        raise typer.BadParameter(f"{value!r} is not one of {', '.join(map(repr, modality_names()))}")
    return value


def utf8(text: str) -> str:
    """Return a text from the command line.

    Raises:
        InputError: If it is not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{text!a}: not UTF-8; write it so, or rename the file") from None
    return text


def _starting_with(typed: str) -> list[str]:
    return [name for name in modality_names() if name.startswith(typed)]


CatalogPath = Annotated[Path, typer.Argument(metavar="CATALOG", help="A catalog made by `embedspace index`.")]

CatalogOrEngine = Annotated[
    Path, typer.Argument(metavar="CATALOG", help="A catalog, or the engine that one was pushed to (qdrant:...).")
]

Pushed = Annotated[
    Path | None,
    typer.Option("--catalog", metavar="CATALOG", help="Of an engine: the catalog pushed to it, if it has moved."),
]

AsModality = Annotated[
    str | None,
    typer.Option(
        "--as",
        parser=modality_name,
        metavar=_NAMES,
        autocompletion=_starting_with,
        help="What recordings are: speech (what is said) or audio (what it sounds like); videos also video (what is "
        "seen over some seconds) or image (single frames); also the modality of files with an unknown suffix.",
    ),
]

OnlyModalities = Annotated[
    list[str] | None,
    typer.Option(
        "--to",
        parser=modality_name,
        metavar=_NAMES,
        autocompletion=_starting_with,
        help="Only hits of this modality; may be repeated.",
    ),
]

BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Items encoded at once.")]

SearchBy = Annotated[
    Literal["voice"] | None,
    typer.Option(
        "--by",
        help="voice: find recordings of the same speaker, from when to when they speak; QUERY is a recording of them. "
        "A voice identifies a person: search only for people who agreed.",
    ),
]

Voices = Annotated[
    bool,
    typer.Option(
        "--voices",
        help="Also keep who speaks, for `search --by voice`. A voice identifies a person: ask them first. A catalog "
        "that has voices goes on getting them.",
    ),
]

Timing = Annotated[
    bool,
    typer.Option(
        "--timing",
        help="Also keep when something strikes in videos and sounds: `search CATALOG clip.mp4 --to audio` then finds "
        "what strikes at the same time. A catalog that has timing goes on getting it.",
    ),
]

Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Threads that read and decode; by default one a core, at most 4.")
]

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]

Where = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="FILTER",
        help="Only items that fulfil this, e.g. \"licence = 'CC0-1.0' and duration < 5\". A field is a name in the "
        "metadata or one of the catalog's own: id kind modality label text start end uri size mtime. Where both have a "
        "name, write meta.label for the metadata's, catalog.label for the catalog's.",
    ),
]

Timeout = Annotated[
    float | None,
    typer.Option("--timeout", min=0.1, metavar="SECONDS", help="Longest time that an engine's answer may take; 60."),
]

Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, and no summary for people.")]

SpaceName = Annotated[
    str | None,
    typer.Option(
        "--space",
        metavar="SPACE",
        help="The space: a folder, a TOML file of towers, a preset (`embedspace space list`), or `default`: the one "
        "that ships, which is also taken without this option.",
    ),
]
"""`--weights` is its earlier name, which goes on working."""

Download = Annotated[
    bool, typer.Option("--download", help="Let the space's towers be downloaded; without it nothing ever is.")
]

Device = Annotated[str, typer.Option("--device", help="Where encoders run: cpu, cuda, cuda:1, ...")]
