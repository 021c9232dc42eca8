"""The options of `embedspace serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "AllowHost",
    "Background",
    "Host",
    "Http",
    "Idle",
    "Port",
    "ReadOnly",
    "ServedCatalog",
    "Status",
    "Stop",
    "TokenFile",
    "Warm",
    "Watch",
]

ServedCatalog = Annotated[Path | None, typer.Argument(metavar="CATALOG", help="A catalog made by `embedspace index`.")]

Host = Annotated[str, typer.Option("--host", help="Address to listen at; any that other machines reach needs a token.")]

Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")]

TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="File with the secret that lets in; or set EMBEDSPACE_TOKEN. Without one only this machine is served.",
    ),
]

Watch = Annotated[
    list[Path] | None,
    typer.Option("--watch", metavar="FOLDER", help="Keep a folder indexed; may be repeated. Makes a missing catalog."),
]

AllowHost = Annotated[
    list[str] | None,
    typer.Option("--allow-host", metavar="NAME", help="A name that the server may be called by; may be repeated."),
]

ReadOnly = Annotated[bool, typer.Option("--read-only", help="Write nothing beside the catalog.")]

Warm = Annotated[
    bool,
    typer.Option("--warm", help="Answer `embedspace search` and `embed` of this user as well: they start at once."),
]

Http = Annotated[bool, typer.Option("--http/--no-http", help="Listen for HTTP; without it --warm alone.")]

Background = Annotated[bool, typer.Option("--background", help="Go on without this terminal; implies --warm.")]

Idle = Annotated[
    str | None,
    typer.Option("--idle", metavar="TIME", help="End when nobody has asked anything for 90s, 15m, 2h, ..."),
]

Stop = Annotated[bool, typer.Option("--stop", help="End this user's server with --warm.")]

Status = Annotated[bool, typer.Option("--status", help="Show this user's server with --warm.")]
