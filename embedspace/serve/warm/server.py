"""The server of the warm command: it has the models loaded, and each command runs in a copy of it.

A command is a fork of the server: it has the loaded models at once, and folder, environment and file mask of whoever
asked are its own, so that no two commands meet and none can harm the server. The server itself runs one thread.

What a client must fulfil, and what is asked of it, is in `embedspace.warm`.
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from embedspace import warm
from embedspace.errors import InputError
from embedspace.serve.warm.answering import Request, answer, read_request

__all__ = ["WarmServer", "running_server", "stop_server", "stopped_by_signals"]

_READING = 1.0
"""Seconds in which a client has to have said what it wants."""
_LARGEST = 8 << 20
_TOGETHER = 8
"""Commands that run at once; who asks for one more runs it alone."""
_ENDING = 10.0
"""Seconds for what is under way when the server is asked to stop."""
CONTROL = ("stop", "status")


@dataclass(slots=True, eq=False)
class _Client:
    """One connection: what it has said so far, and the process that answers it."""

    connection: socket.socket
    since: float
    said: bytearray = field(default_factory=bytearray)
    process: int = 0
    pidfd: int = -1


class WarmServer:
    """Answers commands at a socket until it is stopped or nobody has asked for a while."""

    def __init__(
        self,
        run: Callable[[Sequence[str]], int],
        *,
        idle: float | None = None,
        stamp: Callable[[], object] = lambda: None,
        link: socket.socket | None = None,
    ) -> None:
        """Listen at the user's socket.

        Args:
            run: Runs a command's arguments, prints to `sys.stdout` and `sys.stderr` and returns the exit code.
            idle: Seconds without a command after which it ends; None: never.
            stamp: What the loaded models depend on: when that has changed, it serves no more.
            link: To a process that this one belongs to: it is told of each command by a byte, what it sends is shown by
                "status", and the server ends when it closes.

        Raises:
            InputError: If one runs already, or the folder of the socket is no private one.
        """
        self._run, self._idle, self._stamp, self._link = run, idle, stamp, link
        self._loaded, self._remark = stamp(), ""
        self._listener = _listen()
        self._inode = os.stat(warm.socket_path()).st_ino
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        for end in (self._listener, self._woken, self._waker):
            end.setblocking(False)
        self._clients: dict[int, _Client] = {}
        self._stopping = False
        self._last, self._begun, self.answered = time.monotonic(), time.time(), 0

    def stop(self) -> None:
        """Take no more commands, and end when those under way are done; may be called from a signal handler."""
        self._stopping = True
        try:
            self._waker.send(b"\0")
        except BlockingIOError:
            pass

    def serve(self) -> None:
        """Answer until `stop`, until nobody has asked for the idle time, or until the models on disk have changed."""
        gc.collect()
        gc.freeze()  # what is loaded stays shared with the copies
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._woken, selectors.EVENT_READ, lambda: None)
        if self._link is not None:
            self._link.setblocking(False)
            self._selector.register(self._link, selectors.EVENT_READ, self._follow)
        try:
            while not self._stopping:
                for key, _ in self._selector.select(self._wait()):
                    key.data()
                self._drop_slow()
                if any(client.process for client in self._clients.values()):
                    self._last = time.monotonic()
                if self._idle is not None and time.monotonic() - self._last >= self._idle:
                    break
        finally:
            self._end()

    def _wait(self) -> float | None:
        """Return for how many seconds there is nothing to do but to listen."""
        reading = [client.since + _READING for client in self._clients.values() if not client.process]
        quiet = [] if self._idle is None else [self._last + self._idle]
        times = [*reading, *quiet]
        return max(min(times) - time.monotonic(), 0.0) + 0.01 if times else None

    def _follow(self) -> None:
        """Take what the process that this one belongs to says of itself; end when it has."""
        assert self._link is not None
        try:
            said = self._link.recv(1 << 12)
        except OSError:
            said = b""
        self._remark += said.decode("utf-8", "replace")
        if not said:
            self._selector.unregister(self._link)
            self.stop()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        connection.setblocking(False)
        try:
            known = warm.peer(connection)[1] == os.getuid()
        except OSError:
            known = False
        if self._stamp() != self._loaded:  # another version was installed meanwhile, or other weights
            self.stop()
        if not known or self._stopping:
            connection.close()
            return
        client = _Client(connection, time.monotonic())
        self._clients[connection.fileno()] = client
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._hear(client))

    def _hear(self, client: _Client) -> None:
        """Read what a client says; one that says more than a request, or goes, is not waited for."""
        try:
            more = client.connection.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        client.said += more
        size = int.from_bytes(client.said[:4], "big") if len(client.said) >= 4 else None
        if not more or client.process or (size is not None and not 0 < size <= _LARGEST):
            self._drop(client)
        elif size is not None and len(client.said) >= 4 + size:
            self._begin(client, bytes(client.said[4 : 4 + size]))

    def _begin(self, client: _Client, body: bytes) -> None:
        """Take a request on in a process of its own, or decline it."""
        asked = read_request(body)
        running = sum(bool(other.process) for other in self._clients.values())
        verb = asked.arguments[0] if asked is not None and asked.arguments else ""
        if asked is not None and asked.identity == warm.identity() and verb in CONTROL:
            self._control(client, verb)
            return
        if asked is None or not asked.is_alike or verb not in warm.VERBS or running >= _TOGETHER:
            self._say(client, warm.frame(warm.COLD))
            self._drop(client)
            return
        self._say(client, warm.frame(warm.ACCEPTED))
        self._last, self.answered = time.monotonic(), self.answered + 1
        if self._link is not None:
            self._link.send(b"\0")
        sys.stdout.flush()
        sys.stderr.flush()
        process = os.fork()
        if process == 0:
            self._become(client, asked)
        client.process, client.pidfd = process, os.pidfd_open(process)
        self._selector.register(client.pidfd, selectors.EVENT_READ, lambda: self._reap(client))

    def _become(self, client: _Client, asked: Request) -> None:
        """Be the process that answers one client; never returns."""
        code = 1
        try:
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._listener.close()
            self._selector.close()
            for other in self._clients.values():
                if other is not client:
                    other.connection.close()
            client.connection.setblocking(True)
            client.connection.sendall(answer(asked, self._run))
            code = 0
        except (OSError, KeyboardInterrupt):  # nobody waits for it any more
            pass
        finally:
            os._exit(code)

    def _reap(self, client: _Client) -> None:
        """A process has ended: its answer is sent, or the client sees the end of the connection and runs cold."""
        os.waitpid(client.process, 0)
        self._selector.unregister(client.pidfd)
        os.close(client.pidfd)
        client.process = 0
        self._drop(client)

    def _control(self, client: _Client, verb: str) -> None:
        begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(self._begun))
        text = f"process {os.getpid()}, since {begun}, {self.answered} commands answered{self._remark}"
        if self._idle is not None:
            text += f", ends in {max(int(self._last + self._idle - time.monotonic()), 0)} s if nobody asks"
        parts = (warm.frame(warm.ACCEPTED), warm.frame(warm.OUT, text.encode()), warm.frame(warm.EXIT, b"0"))
        self._say(client, b"".join(parts))
        self._drop(client)
        if verb == "stop":
            self.stop()

    def _say(self, client: _Client, message: bytes) -> None:
        try:
            client.connection.send(message)
        except OSError:  # it went away
            pass

    def _drop(self, client: _Client) -> None:
        """Forget a client; what runs for it is interrupted, and forgotten when it has ended."""
        if self._clients.get(client.connection.fileno()) is client:
            del self._clients[client.connection.fileno()]
            self._selector.unregister(client.connection)
        client.connection.close()
        if client.process:
            os.kill(client.process, signal.SIGINT)

    def _drop_slow(self) -> None:
        for client in list(self._clients.values()):
            if not client.process and time.monotonic() - client.since > _READING:
                self._drop(client)

    def _end(self) -> None:
        """Take the socket away, let what is under way finish, and close."""
        path = warm.socket_path()
        try:
            if os.stat(path).st_ino == self._inode:
                os.unlink(path)
        except FileNotFoundError:
            pass
        self._selector.unregister(self._listener)
        self._listener.close()
        last = time.monotonic() + _ENDING
        while any(client.process for client in self._clients.values()) and time.monotonic() < last:
            for key, _ in self._selector.select(max(last - time.monotonic(), 0)):
                key.data()
        for client in list(self._clients.values()):
            self._drop(client)
        self._selector.close()
        for end in (self._woken, self._waker):
            end.close()


def _listen() -> socket.socket:
    """Make the folder and the socket; what a server that was killed left there is taken away."""
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


def stop_server(patience: float = 2 * _ENDING) -> str | None:
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


def stopped_by_signals(server: WarmServer) -> None:
    """Let SIGTERM and SIGINT stop a server; for the main thread of its process."""

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        server.stop()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
