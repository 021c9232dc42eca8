"""The options of `embedspace generate`; which of them go with a target, its generator says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedspace.modality import Modality

__all__ = [
    "Candidates",
    "Family",
    "Force",
    "Guidance",
    "Morph",
    "Neighbours",
    "Number",
    "Out",
    "Overwrite",
    "Seconds",
    "Seed",
    "Sheet",
    "Size",
    "Sources",
    "Steps",
    "Target",
    "Voice",
]

Sources = Annotated[
    list[str],
    typer.Option(
        "--from",
        metavar="QUERY",
        help="Words, a file, or a composition such as '2:dog.png + rain.wav - grass'; repeated, one output each.",
    ),
]

Target = Annotated[Modality, typer.Option("--to", help="What to make.")]

Number = Annotated[int, typer.Option("-n", help="Samples of each source, or frames of a morph.")]

Seed = Annotated[int, typer.Option("--seed", help="Sample i is drawn with seed + i.")]

Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Where to write; several samples become name-1, name-2, ..."),
]

Guidance = Annotated[float | None, typer.Option("--guidance", help="How strongly the source binds; 1 is no guidance.")]

Steps = Annotated[int | None, typer.Option("--steps", help="Steps of the sampler.")]

Family = Annotated[str | None, typer.Option("--family", help="Which of the generator's networks: flow or vae.")]

Size = Annotated[int | None, typer.Option("--size", help="Pictures: side in pixels that they are scaled to.")]

Candidates = Annotated[
    int | None,
    typer.Option("--candidates", help="Pictures: draw so many for each sample and keep the one that fits best."),
]

Seconds = Annotated[float | None, typer.Option("--seconds", help="Sounds: length.")]

Voice = Annotated[
    str | None,
    typer.Option("--voice", help="Speech: piper:joe, flite:slt, espeak:en-us, ...; the best by default."),
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

Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace files that exist; a file that a sample is made from never is."),
]
