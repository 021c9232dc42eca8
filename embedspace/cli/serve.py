"""`embedspace serve`: a catalog as a page and an interface over HTTP."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from embedspace.cli.shared.options import Device, Download, SpaceName
from embedspace.cli.shared.output import note
from embedspace.cli.shared.serve_options import (
    AllowHost,
    Background,
    Host,
    Http,
    Idle,
    Port,
    ReadOnly,
    ServedCatalog,
    Status,
    Stop,
    TokenFile,
    Warm,
    Watch,
)
from embedspace.cli.shared.warming import seconds_of, warm_server
from embedspace.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from embedspace.serve.settings import ServeSettings

__all__ = ["serve"]

_LIBRARIES = ("fastapi", "uvicorn", "prometheus_client", "watchfiles")


def serve(
    catalog: ServedCatalog = None,
    host: Host = "127.0.0.1",
    port: Port = 7997,
    token_file: TokenFile = None,
    watch: Watch = None,
    allow_host: AllowHost = None,
    read_only: ReadOnly = False,
    warm: Warm = False,
    http: Http = True,
    background: Background = False,
    idle: Idle = None,
    stop: Stop = False,
    status: Status = False,
    space_name: SpaceName = None,
    device: Device = "cpu",
    download: Download = False,
) -> None:
    """Serve a catalog: a page for people, REST for programs, OpenAI's shape for clients that speak it, metrics.

    It listens at http://127.0.0.1:7997 for this machine alone unless a token is set. Needs the extra `serve`. Ctrl-C or
    SIGTERM ends it when what is under way is done. With --warm it has the models loaded for the command line, too:
    `embedspace search` and `embed` are handed to it, and run by themselves where there is none or it does not answer.
    """
    if stop or status:
        _ask(stop=stop)
        return
    if catalog is None:
        raise InputError("name the catalog to serve: embedspace serve CATALOG")
    seconds, warm = seconds_of(idle), warm or background or not http
    if seconds is not None and not warm:
        raise InputError("--idle goes with --warm or --background")
    if warm:
        _none_runs()
    folders = _checked(http, watch)
    settings = None
    if http:
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
    if background:
        _start(settings, catalog, token_file, idle, space_name, device, download)
    elif settings is None:
        _answer_commands(catalog, space_name, device, download, seconds)
    else:
        _answer_http(settings, download, warm, seconds)


def _ask(*, stop: bool) -> None:
    from embedspace.serve.warm.control import running_server, stop_server

    said = stop_server() if stop else running_server()
    print(f"{'stopped: ' if stop else ''}{said}" if said else "no server runs")
    if said is None:
        raise typer.Exit(1)


def _none_runs() -> None:
    from embedspace.serve.warm.control import running_server

    said = running_server()
    if said is not None:
        raise InputError(f"a server runs already ({said}); end it with: embedspace serve --stop")


def _checked(http: bool, watch: list[Path] | None) -> tuple[Path, ...]:
    """Return the folders to watch, whole paths; refuse what cannot be done before anything is loaded."""
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None] if http else []
    if missing:
        raise MissingExtraError(
            f"`embedspace serve` needs {', '.join(missing)}; install them with: pip install 'embedspace[serve]'; "
            "or serve the command line alone: --no-http"
        )
    folders = tuple(folder.resolve() for folder in watch or ())
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"--watch {folder}: no such folder; check the spelling")
    if folders and not http:
        raise InputError("--watch needs HTTP; leave --no-http out")
    return folders


def _start(
    settings: ServeSettings | None,
    catalog: Path,
    token_file: Path | None,
    idle: str | None,
    space_name: str | None,
    device: str,
    download: bool,
) -> None:
    from embedspace.serve.warm.background import log_path, start_in_background

    arguments = ["serve", str(catalog), "--warm", "--device", device]
    arguments += ["--download"] if download else []
    for flag, value in (("--idle", idle), ("--space", space_name), ("--token-file", token_file)):
        arguments += [] if value is None else [flag, str(value)]
    if settings is None:
        arguments.append("--no-http")
    else:
        arguments += ["--host", settings.host, "--port", str(settings.port)]
        arguments += [part for folder in settings.watch for part in ("--watch", str(folder))]
        arguments += [part for name in settings.allow_hosts for part in ("--allow-host", name)]
        arguments += ["--read-only"] if settings.read_only else []
    said = start_in_background(arguments, ready="http" if settings is not None else "")
    print(f"in the background: {said}; log: {log_path()}; end it with: embedspace serve --stop")


def _answer_commands(catalog: Path, space_name: str | None, device: str, download: bool, idle: float | None) -> None:
    """Serve the command line alone."""
    from embedspace.serve.warm.server import stopped_by_signals

    server = warm_server(catalog, space_name, device, download=download, idle=idle)
    stopped_by_signals(server)
    note("embedspace: answering the command line; Ctrl-C ends it")
    server.serve()


def _answer_http(settings: ServeSettings, download: bool, warm: bool, idle: float | None) -> None:
    """Serve HTTP, and the command line from a process beside it."""
    beside = None
    if warm:
        from embedspace.serve.warm.beside import WarmProcess

        catalog, name, device = settings.catalog, settings.space, settings.device
        beside = WarmProcess(lambda link: warm_server(catalog, name, device, download=download, link=link))
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch and FAISS load; the encoder's thread sets its own
    from embedspace.cli.shared.space import load_space
    from embedspace.serve.server import serve as run

    def announce(address: str) -> None:
        if beside is not None:
            beside.remark(f", {address}")
        secret = "/#token" if settings.token is not None else ""
        note(f"embedspace: serving {settings.catalog} at {address}{secret}; Ctrl-C ends it")

    try:
        run(settings, load_space(settings.space, settings.device, download), announce, warm=beside, idle=idle)
    finally:
        if beside is not None:
            beside.close()
