"""What `embedspace serve` does for the warm command: load the models once, and run commands with them."""

from __future__ import annotations

import contextlib
import io
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from embedspace.errors import InputError

if TYPE_CHECKING:
    from embedspace.serve.warm.server import WarmServer

__all__ = ["seconds_of", "warm_server"]

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def seconds_of(text: str | None) -> float | None:
    """Return the seconds of "90", "90s", "15m" or "2h"; None for None.

    Raises:
        InputError: If it is something else, or nothing.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if seconds <= 0:
        raise InputError(f"--idle {text}: not a time; write for example 90s, 15m or 2h")
    return seconds


def warm_server(
    catalog: Path,
    space_name: str | None,
    device: str,
    *,
    download: bool,
    idle: float | None = None,
    link: socket.socket | None = None,
) -> WarmServer:
    """Load the space, go the way of a command once, so that all it imports is there, and listen.

    Args:
        catalog: A catalog of the space.
        space_name: As `load_space` takes it.
        device: Where encoders run.
        download: Whether towers may be downloaded.
        idle: As `WarmServer`.
        link: As `WarmServer`.

    Raises:
        CatalogError: If the catalog cannot be opened, or is of another space.
        InputError: If another server runs.
    """
    from embedspace.catalog import Catalog
    from embedspace.cli.app import main
    from embedspace.cli.shared.opening import keep_catalog
    from embedspace.cli.shared.space import keep_space
    from embedspace.serve.warm.server import WarmServer
    from embedspace.serve.warm.stamp import stamp_of
    from embedspace.space.fitting import fitted

    space = keep_space(space_name, device, download)
    if catalog.exists():  # what is watched may be indexed later
        with Catalog.open(catalog, read_only=True) as opened:
            opened.check_fingerprint(fitted(space, opened.fingerprints).fingerprints())
    place = catalog.resolve()
    options = ["--device", device, *([] if space_name is None else ["--space", space_name])]

    def try_out(*arguments: str) -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            main([*arguments, *options])

    def prepare() -> None:
        keep_catalog(place)
        try_out("search", str(place), "a first text")

    try_out("search", str(place), "a first text")
    try_out("embed", "a first text", "--json")
    stamp = stamp_of([space.folder] if space_name else [])
    return WarmServer(main, idle=idle, stamp=stamp, link=link, prepare=prepare)
