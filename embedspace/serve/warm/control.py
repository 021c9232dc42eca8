"""The socket of the warm command: listening there, and asking or stopping who does."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from embedspace import warm
from embedspace.errors import InputError

__all__ = ["listen", "running_server", "stop_server"]


def listen() -> socket.socket:
    """Make the folder and the socket, and listen; what a server that was killed left there is taken away.

    Raises:
        InputError: If a server runs already, the folder is no private one, or this system cannot do it.
    """
    folder, path = Path(warm.run_folder()), warm.socket_path()
    if not hasattr(socket, "SO_PEERCRED") or not hasattr(os, "pidfd_open"):
        raise InputError("the warm command needs Linux: this system does not say who is at the other end of a socket")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not warm.private(str(folder)):
        raise InputError(f"{folder}: must be a folder of your own that nobody else may enter: chmod 700 {folder}")
    if running_server() is not None:
        raise InputError("a server runs already; see it with --status, end it with --stop")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if os.path.lexists(path):
            os.unlink(path)  # of a server that is no more
        listener.bind(path)
    except OSError as error:
        listener.close()
        raise InputError(f"{path}: cannot listen there: {error}") from None
    os.chmod(path, 0o600)
    listener.listen(64)
    return listener


def running_server() -> str | None:
    """Return what this user's server says of itself; None where none runs."""
    return _controlled("status")


def stop_server(patience: float = 20.0) -> str | None:
    """Ask this user's server to end, and wait until it has; returns what it said of itself, None where none ran."""
    said = _controlled("stop")
    last = time.monotonic() + patience
    while said is not None and os.path.lexists(warm.socket_path()) and time.monotonic() < last:
        time.sleep(0.02)
    return said


def _controlled(verb: str) -> str | None:
    try:
        reply = warm.ask(warm.request([verb]), patience=2.0)
    except OSError:
        return None
    return None if reply is None else b"".join(content for _, content in reply.parts).decode()
