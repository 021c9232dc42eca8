"""The warm command: hand a command to a server of this user that has the models loaded, and give back its answer.

The standard library alone, and little of it: `embedspace search` starts here, and an answer is to be on the screen
before numpy would be imported. Whatever is amiss, the command runs as if there were no server.

A request is its length in four bytes, then fields that are separated by NUL, which no argument, path or variable holds.
An answer is parts: one byte that says what it is, its length in four bytes, its content.
"""

from __future__ import annotations

import os
import stat
import sys
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Sequence

__all__ = [
    "ACCEPTED",
    "COLD",
    "ERR",
    "EXIT",
    "OUT",
    "PATIENCE",
    "VERBS",
    "Reply",
    "ask",
    "frame",
    "hand_over",
    "peer",
    "private",
    "request",
    "run_folder",
    "socket_path",
]

VERBS = ("search", "embed")
"""What is handed over: commands that read, or write a file that they name, and ask nothing of a terminal."""
PATIENCE = 0.05
"""Seconds until a server has to have taken a command on."""
ACCEPTED, COLD, OUT, ERR, EXIT = b"a", b"c", b"o", b"e", b"x"
"""Kinds of an answer's parts: taken on; run it yourself; of standard output; of standard error; the exit code."""
_SOCKET = "warm.sock"
_LONGEST = 1 << 20


class Reply:
    """A whole answer.

    Attributes:
        parts: (`OUT` or `ERR`, bytes) in the order in which they were written.
        code: The exit code.
    """

    def __init__(self, parts: list[tuple[bytes, bytes]], code: int) -> None:
        """Keep both."""
        self.parts, self.code = parts, code


def run_folder() -> str:
    """Return the folder of the socket: this user's, in memory where the system has such a place."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and os.path.isdir(runtime):
        return os.path.join(runtime, "embedspace")
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(cache, "embedspace", "run")


def socket_path() -> str:
    """Return the path of the socket, which need not exist."""
    return os.path.join(run_folder(), _SOCKET)


def private(folder: str) -> bool:
    """Whether a folder is this user's own, and nobody else may look into it."""
    found = os.lstat(folder)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def peer(connection: socket) -> tuple[int, int]:
    """Return (process, user) at the other end of a connection, as the kernel knows them.

    Raises:
        OSError: If this system cannot say.
    """
    import _socket

    option = getattr(_socket, "SO_PEERCRED", None)
    if option is None:
        raise OSError("this system does not say who is at the other end of a socket")
    raw = connection.getsockopt(_socket.SOL_SOCKET, option, 12)
    return int.from_bytes(raw[:4], sys.byteorder), int.from_bytes(raw[4:8], sys.byteorder)


def identity() -> tuple[str, str, str]:
    """Return what client and server must share: version, folder of the package, environment of the interpreter."""
    from embedspace import __version__

    return __version__, os.path.dirname(os.path.abspath(__file__)), sys.prefix


def request(arguments: Sequence[str]) -> bytes:
    """Return the message that asks for a command: all that its outcome depends on besides files."""
    mask = os.umask(0o077)
    os.umask(mask)
    streams = sys.stdin, sys.stdout, sys.stderr
    terminals = "".join("1" if stream is not None and stream.isatty() else "0" for stream in streams)
    columns = os.get_terminal_size(1).columns if terminals[1] == "1" else 0
    encodings = sys.stdout.encoding, sys.stderr.encoding
    variables = [f"{name}={value}" for name, value in os.environ.items()]
    head = (*identity(), os.getcwd(), str(mask), terminals, str(columns), *encodings, str(len(arguments)))
    body = b"\0".join(os.fsencode(field) for field in (*head, *arguments, *variables))
    return len(body).to_bytes(4, "big") + body


def frame(kind: bytes, content: bytes = b"") -> bytes:
    """Return one part of an answer."""
    return kind + len(content).to_bytes(4, "big") + content


def _received(connection: socket, size: int) -> bytes:
    """Return so many bytes.

    Raises:
        ConnectionError: If the other end closes before.
    """
    found = bytearray()
    while len(found) < size:
        more = connection.recv(min(size - len(found), _LONGEST))
        if not more:
            raise ConnectionError("the server went away")
        found += more
    return bytes(found)


def _part(connection: socket) -> tuple[bytes, bytes]:
    head = _received(connection, 5)
    return head[:1], _received(connection, int.from_bytes(head[1:], "big"))


def ask(message: bytes, patience: float = PATIENCE) -> Reply | None:
    """Send a request and return the whole answer; None where the server declines.

    Args:
        message: From `request`.
        patience: Seconds until the server has to have taken it on; its answer may take longer.

    Raises:
        OSError: If there is no server, it is not this user's, does not take the request on in time, or goes away.
    """
    import _socket

    last = monotonic() + patience
    if not private(run_folder()):
        raise PermissionError("the folder of the socket is open to others")
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.settimeout(patience)
        connection.connect(socket_path())
        if peer(connection)[1] != os.getuid():
            raise PermissionError("the server is another user's")
        connection.settimeout(max(last - monotonic(), 0.001))
        connection.sendall(message)
        connection.settimeout(max(last - monotonic(), 0.001))
        if _part(connection)[0] != ACCEPTED:
            return None
        connection.settimeout(None)
        parts: list[tuple[bytes, bytes]] = []
        while True:
            kind, content = _part(connection)
            if kind == EXIT:
                return Reply(parts, int(content))
            if kind == COLD:
                return None
            parts.append((kind, content))
    finally:
        connection.close()


def hand_over(arguments: Sequence[str], patience: float = PATIENCE) -> Reply | None:
    """Return the answer of this user's server to a command; None: run it here.

    Args:
        arguments: Without the program's name.
        patience: As `ask`.
    """
    if not arguments or arguments[0] not in VERBS or not os.path.exists(socket_path()):
        return None
    try:
        return ask(request(arguments), patience)
    except (OSError, ValueError, AttributeError):  # nobody answers, or nonsense; a stream is closed
        return None
