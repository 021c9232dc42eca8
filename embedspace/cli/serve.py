"""`embedspace serve`: a catalog as a page and an interface over HTTP."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from embedspace.cli.shared.options import CatalogPath, Device, Download, SpaceName
from embedspace.errors import InputError, MissingExtraError

__all__ = ["serve"]

_LIBRARIES = ("fastapi", "uvicorn", "prometheus_client", "watchfiles")


def serve(
    catalog: CatalogPath,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen at; any that other machines reach needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 7997,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="File with the secret that lets in; or set EMBEDSPACE_TOKEN. Without one only this machine is served.",
        ),
    ] = None,
    watch: Annotated[
        list[Path] | None,
        typer.Option(
            "--watch", metavar="FOLDER", help="Keep a folder indexed; may be repeated. Makes a missing catalog."
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="A name that the server may be called by; may be repeated."),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Write nothing beside the catalog.")] = False,
    space_name: SpaceName = None,
    device: Device = "cpu",
    download: Download = False,
) -> None:
    """Serve a catalog: a page for people, REST for programs, OpenAI's shape for clients that speak it, metrics.

    It listens at http://127.0.0.1:7997 for this machine alone unless a token is set. Needs the extra `serve`. Ctrl-C or
    SIGTERM ends it when what is under way is done.
    """
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"`embedspace serve` needs {', '.join(missing)}; install them with: pip install 'embedspace[serve]'"
        )
    folders = tuple(folder.resolve() for folder in watch or ())
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"--watch {folder}: no such folder; check the spelling")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch and FAISS load; the encoder's thread sets its own
    from embedspace.cli.shared.space import load_space
    from embedspace.serve.server import serve as run
    from embedspace.serve.settings import ServeSettings, read_token

    settings = ServeSettings(
        catalog=catalog,
        host=host,
        port=port,
        token=read_token(token_file),
        watch=folders,
        space=space_name,
        device=device,
        read_only=read_only,
        allow_hosts=tuple(allow_host or ()),
    )
    space = load_space(space_name, device, download)

    def announce(address: str) -> None:
        secret = "/#token" if settings.token is not None else ""
        print(f"embedspace: serving {catalog} at {address}{secret}; Ctrl-C ends it", file=sys.stderr, flush=True)

    run(settings, space, announce)
