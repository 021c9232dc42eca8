"""A copy of the warm server that has made itself ready and waits for one command.

A fresh copy still has to touch its memory, open the catalog and gather its vectors: most of what a search takes. The
copy that stands by does so before anybody asks. It is a process of its own like every other command's, so that what it
opens is never shared.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
from collections.abc import Callable

__all__ = ["Standby", "await_command"]

_READY = b"r"


class Standby:
    """The server's view of it.

    Attributes:
        process: Its process.
        link: Readable when it is ready, and when it has ended.
        is_ready: Whether it waits for a command.
    """

    def __init__(self, process: int, link: socket.socket) -> None:
        """Take over the process and the server's end of its link."""
        self.process, self.link, self.is_ready = process, link, False

    def heard(self) -> bool:
        """Read what it says; returns whether it lives."""
        try:
            said = self.link.recv(1)
        except OSError:
            said = b""
        self.is_ready = said == _READY
        return self.is_ready

    def take(self, connection: socket.socket, body: bytes) -> bool:
        """Hand it a client's connection and request, whatever becomes of it; False where that cannot be done."""
        if not self.is_ready:
            return False
        try:
            socket.send_fds(self.link, [len(body).to_bytes(4, "big")], [connection.fileno()])
            self.link.sendall(body)
        except OSError:
            return False
        finally:
            self.is_ready = False
        return True

    def end(self) -> None:
        """End it, and wait until it has."""
        self.link.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)


def await_command(link: socket.socket, prepare: Callable[[], None]) -> tuple[socket.socket, bytes] | None:
    """Be the copy: get ready, and return the connection and request of whoever asks; None where the server ends.

    Args:
        link: The copy's end.
        prepare: What is done before; where it fails, the command finds out why.
    """
    with contextlib.suppress(Exception):
        prepare()
    gc.collect()
    gc.freeze()
    link.sendall(_READY)
    head, handles, _, _ = socket.recv_fds(link, 4, 1)
    if not handles:
        return None
    connection = socket.socket(fileno=handles[0])
    size, body = int.from_bytes(head, "big"), bytearray()
    while len(body) < size:
        more = link.recv(min(size - len(body), 1 << 20))
        if not more:
            return None
        body += more
    link.close()
    return connection, bytes(body)
