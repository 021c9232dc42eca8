"""The options of `embedspace index`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["CatalogOption", "Paths", "Profile", "Prune", "PruneAll", "RetryFailed", "Settings"]

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

Settings = Annotated[
    str | None,
    typer.Option(
        "--settings",
        "--recipe",
        metavar="SETTINGS",
        help="How a new catalog is searched: exact, hnsw, ivf, or a TOML file such as indexes/settings/*.toml.",
    ),
]
