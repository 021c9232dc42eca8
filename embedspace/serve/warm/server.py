"""The server of the warm command: it has the models loaded, and each command runs in a copy of it.

A command is a fork of the server: it has the loaded models at once, and folder, environment and file mask of whoever
asked are its own, so that no two commands meet and none can harm the server. The server itself runs one thread. One
copy is made ahead and gets ready (`embedspace.serve.warm.standby`); who asks while there is none waits for a new one.

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
from types import FrameType

from embedspace import warm
from embedspace.serve.warm.answering import Request, answer, read_request
from embedspace.serve.warm.control import listen
from embedspace.serve.warm.standby import Standby, await_command

__all__ = ["WarmServer", "stopped_by_signals"]

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
        prepare: Callable[[], None] | None = None,
    ) -> None:
        """Listen at the user's socket.

        Args:
            run: Runs a command's arguments, prints to `sys.stdout` and `sys.stderr` and returns the exit code.
            idle: Seconds without a command after which it ends; None: never.
            stamp: What the loaded models depend on: when that has changed, it serves no more.
            link: To a process that this one belongs to: it is told of each command by a byte, what it sends is shown by
                "status", and the server ends when it closes.
            prepare: Run by a copy ahead of the command that it will answer; None: no copy is made ahead.

        Raises:
            InputError: If one runs already, or the folder of the socket is no private one.
        """
        self._run, self._idle, self._stamp, self._link, self._prepare = run, idle, stamp, link, prepare
        self._loaded, self._remark = stamp(), ""
        self._listener = listen()
        self._inode = os.stat(warm.socket_path()).st_ino
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        for end in (self._listener, self._woken, self._waker):
            end.setblocking(False)
        self._clients: dict[int, _Client] = {}
        self._standby: Standby | None = None
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
        self._stand_by()
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
        standby, self._standby = self._standby, None
        if standby is not None and standby.is_ready:
            self._selector.unregister(standby.link)
            taken = standby.take(client.connection, body)
            standby.link.close()
            client.process = standby.process
            if not taken:
                os.kill(standby.process, signal.SIGKILL)  # the client sees the end of the connection, and runs cold
        else:
            self._standby = standby
            client.process = self._copy(lambda: (client.connection, asked), client)
        client.pidfd = os.pidfd_open(client.process)
        self._selector.register(client.pidfd, selectors.EVENT_READ, lambda: self._reap(client))

    def _stand_by(self) -> None:
        """Make a copy that gets ready, unless there is one."""
        if self._prepare is None or self._standby is not None or self._stopping:
            return
        prepare = self._prepare
        ours, theirs = socket.socketpair()

        def wait() -> tuple[socket.socket, Request] | None:
            ours.close()
            found = await_command(theirs, prepare)
            asked = None if found is None else read_request(found[1])
            return None if found is None or asked is None else (found[0], asked)

        self._standby = standby = Standby(self._copy(wait), ours)
        theirs.close()
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._hear_standby(standby))

    def _hear_standby(self, standby: Standby) -> None:
        if not standby.heard():  # it was killed; the next command makes another
            self._selector.unregister(standby.link)
            standby.end()
            self._standby = None

    def _copy(self, work: Callable[[], tuple[socket.socket, Request] | None], client: _Client | None = None) -> int:
        """Make a process that answers one client and ends; returns its number.

        Args:
            work: Returns the client's connection and what it asks, in the new process.
            client: Whose connection the new process keeps.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        process = os.fork()
        if process == 0:
            self._become(work, client)
        return process

    def _become(self, work: Callable[[], tuple[socket.socket, Request] | None], client: _Client | None) -> None:
        """Be the process that answers one client; never returns."""
        code = 1
        try:
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._listener.close()
            self._selector.close()
            if self._standby is not None:
                self._standby.link.close()
            for other in self._clients.values():
                if other is not client:
                    other.connection.close()
            asked = work()
            if asked is not None:
                asked[0].setblocking(True)
                asked[0].sendall(answer(asked[1], self._run))
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
        self._stand_by()

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
        self._stopping = True
        path = warm.socket_path()
        try:
            if os.stat(path).st_ino == self._inode:
                os.unlink(path)
        except FileNotFoundError:
            pass
        self._selector.unregister(self._listener)
        self._listener.close()
        if self._standby is not None:
            self._selector.unregister(self._standby.link)
            self._standby.end()
        last = time.monotonic() + _ENDING
        while any(client.process for client in self._clients.values()) and time.monotonic() < last:
            for key, _ in self._selector.select(max(last - time.monotonic(), 0)):
                key.data()
        for client in list(self._clients.values()):
            self._drop(client)
        self._selector.close()
        for end in (self._woken, self._waker):
            end.close()


def stopped_by_signals(server: WarmServer) -> None:
    """Let SIGTERM and SIGINT stop a server; for the main thread of its process."""

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        server.stop()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
