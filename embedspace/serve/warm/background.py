"""Start a server that goes on when the terminal closes, and wait until it answers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from embedspace import warm
from embedspace.errors import InputError
from embedspace.serve.warm.control import running_server

__all__ = ["log_path", "start_in_background"]

_STARTING = 120.0
"""Seconds in which a server has to answer."""
_LAST_LINES = 5


def log_path() -> Path:
    """Return where a server in the background writes what it has to say."""
    return Path(warm.run_folder()) / "serve.log"


def start_in_background(arguments: Sequence[str], *, ready: str = "") -> str:
    """Start `embedspace` with some arguments in a session of its own.

    Args:
        arguments: Of a server that answers the warm command; without the program's name.
        ready: What the server says of itself once everything is up; empty: that it answers is enough.

    Returns:
        What it says of itself.

    Raises:
        InputError: If it ends before it answers, or does not answer in time.
    """
    log = log_path()
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with log.open("wb") as output:
        os.fchmod(output.fileno(), 0o600)
        process = subprocess.Popen(
            [sys.executable, "-m", "embedspace", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    last = time.monotonic() + _STARTING
    while time.monotonic() < last:
        said = running_server()
        if said is not None and ready in said:
            return said
        if process.poll() is not None:
            lines = log.read_text("utf-8", "replace").strip().splitlines()[-_LAST_LINES:]
            why = " / ".join(lines) or f"exit code {process.returncode}"
            raise InputError(f"the server ended at once: {why.removeprefix('embedspace: ')}")
        time.sleep(0.05)
    process.terminate()
    raise InputError(f"the server did not answer within {_STARTING:.0f} s; what it says is in {log}")
