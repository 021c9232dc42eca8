"""The options of `embedspace index`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "RAY",
    "Actors",
    "CatalogOption",
    "IndexWorkers",
    "NoRecogniser",
    "Parts",
    "Paths",
    "Profile",
    "Prune",
    "PruneAll",
    "RetryFailed",
    "Settings",
]

Paths = Annotated[
    list[Path],
    typer.Argument(
        metavar="PATHS",
        help="Files; folders, searched through; CSV, JSONL or parquet manifests; Hugging Face imagefolder and "
        "audiofolder folders.",
    ),
]

CatalogOption = Annotated[
    Path, typer.Option("--catalog", metavar="CATALOG", help="The catalog; made if it is missing.")
]

Prune = Annotated[
    bool,
    typer.Option(
        "--prune",
        help="Remove what is no longer in PATHS; asks before it removes most of a folder or manifest, and never "
        "removes what cannot be looked at.",
    ),
]

PruneAll = Annotated[
    bool, typer.Option("--prune-all", help="As --prune, even where that is most of a folder, or all of an empty one.")
]

RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Try files again that failed before and have not changed.")
]

Profile = Annotated[bool, typer.Option("--profile", help="At the end say where the time went, stage by stage.")]

Actors = Annotated[
    int | None,
    typer.Option("--actors", min=1, help="With --workers ray: encoders side by side; by default one per core."),
]

Parts = Annotated[
    Path | None,
    typer.Option(
        "--parts",
        metavar="FOLDER",
        help="With --workers ray: where parts of parquet are written and kept, seen by all machines; `catalog import` "
        "reads them. Without it they lie beside the catalog and are deleted at the end.",
    ),
]

RAY = "ray"


def _workers(value: str) -> int | str:
    if value == RAY:
        return RAY
    if not value.isdecimal() or int(value) < 1:
        raise typer.BadParameter(f"{value!r} is neither a number from 1 nor {RAY!r}")
    return int(value)


IndexWorkers = Annotated[
    Any,
    typer.Option(
        "--workers",
        parser=_workers,
        metavar="<integer|ray>",
        help="Threads that read and decode; by default one a core, at most 4. ray: encoders of Ray, on this machine or "
        "on the cluster that RAY_ADDRESS names.",
    ),
]

NoRecogniser = Annotated[
    bool,
    typer.Option(
        "--no-recogniser",
        help="Do not put speech into words: less than half the time, other vectors, no text with a hit. A catalog "
        "keeps to it.",
    ),
]

HalfPrecision = Annotated[
    bool,
    typer.Option(
        "--half-precision",
        help="Compute in bfloat16 where the first batch of a modality comes faster and keeps its vectors (a cosine of "
        ".998); says at the end where that was.",
    ),
]

Settings = Annotated[
    str | None,
    typer.Option(
        "--settings",
        "--recipe",
        metavar="SETTINGS",
        help="How a new catalog is searched: exact, hnsw, ivf, or a TOML file such as indexes/settings/*.toml.",
    ),
]
