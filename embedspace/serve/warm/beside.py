"""The warm server beside another one: as a process of its own, for what runs threads must not be copied."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from embedspace.errors import EmbedspaceError
from embedspace.serve.warm.server import WarmServer, stopped_by_signals

__all__ = ["WarmProcess"]


class WarmProcess:
    """A warm server in a process of its own that lives no longer than this one.

    Attributes:
        used: When, on `time.monotonic`, it last took a command.
    """

    def __init__(self, make: Callable[[socket.socket], WarmServer]) -> None:
        """Start it; to be called before this process has threads.

        Args:
            make: Loads the models and returns the server, given its end of the link; runs in the new process.
        """
        self._link, theirs = socket.socketpair()
        self.used = time.monotonic()
        self._process = os.fork()
        if self._process == 0:
            self._link.close()
            _serve(make, theirs)
        theirs.close()

    def watch(self, ended: Callable[[], None], *, idle: float | None, others: Callable[[], float]) -> None:
        """Call back, once, from a thread: when the process has ended, or when nobody has asked anything for a while.

        Args:
            ended: Called then.
            idle: Seconds; None: for ever.
            others: When, on `time.monotonic`, something else than a command was last asked of this process.
        """

        def follow() -> None:
            while True:
                left = None if idle is None else max(self.used, others()) + idle - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._link.settimeout(left)
                try:
                    if not self._link.recv(1 << 10):
                        break
                    self.used = time.monotonic()
                except TimeoutError:
                    continue
                except OSError:
                    return
            ended()

        threading.Thread(target=follow, name="warm", daemon=True).start()

    def remark(self, text: str) -> None:
        """Let it say something more of itself when it is asked for its status."""
        with suppress(OSError):
            self._link.send(text.encode())

    def close(self) -> None:
        """End it, and wait until it has."""
        with suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)
        os.waitpid(self._process, 0)
        self._link.close()


def _serve(make: Callable[[socket.socket], WarmServer], link: socket.socket) -> None:
    """Be the process of the warm server; never returns."""
    code = 1
    try:
        server = make(link)
        stopped_by_signals(server)
        server.serve()
        code = 0
    except EmbedspaceError as error:
        sys.stderr.write(f"embedspace: {error}\n")
    finally:
        sys.stderr.flush()
        os._exit(code)
