"""One command of somebody else's, run in this process as in theirs; see `embedspace.serve.warm.server`."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from embedspace import warm

__all__ = ["Request", "answer", "read_request"]

_HEAD = 10
_UNEXPECTED = 70


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks for.

    Attributes:
        identity: Version, folder of the package and environment of the interpreter.
        folder: Where they are.
        mask: Their file mask.
        terminals: Whether their standard input, output and error are terminals.
        columns: Width of the terminal; 0 where there is none.
        encodings: Encodings of the caller's standard output and error.
        arguments: The command's arguments, without the program's name.
        variables: Their environment.
    """

    identity: tuple[str, str, str]
    folder: str
    mask: int
    terminals: tuple[bool, bool, bool]
    columns: int
    encodings: tuple[str, str]
    arguments: list[str]
    variables: dict[str, str]

    @property
    def is_alike(self) -> bool:
        """Whether this process would have been the same as theirs, had they started it."""
        paths = self.variables.get("PYTHONPATH", ""), os.environ.get("PYTHONPATH", "")
        return self.identity == warm.identity() and paths[0] == paths[1]


def read_request(body: bytes) -> Request | None:
    """Return what `embedspace.warm.request` wrote, without its length; None where it is something else."""
    fields = [os.fsdecode(field) for field in body.split(b"\0")]
    try:
        version, package, prefix, folder, mask, terminals, columns, out, err, count = fields[:_HEAD]
        number = int(count)
        if not 0 <= number <= len(fields) - _HEAD or len(terminals) != 3:
            return None
        arguments, variables = fields[_HEAD : _HEAD + number], fields[_HEAD + number :]
        said = tuple(flag == "1" for flag in terminals)
        return Request(
            (version, package, prefix), folder, int(mask), (said[0], said[1], said[2]), int(columns), (out, err),
            arguments, dict(line.split("=", 1) for line in variables),
        )  # fmt: skip
    except ValueError:
        return None


class _RunColdError(BaseException):
    """The command needs what only the asker has."""


class _Recorder(io.RawIOBase):
    """Takes what is written to one stream into the list that both share."""

    def __init__(self, kind: bytes, parts: list[tuple[bytes, bytes]], terminal: bool) -> None:
        super().__init__()
        self._kind, self._parts, self._terminal = kind, parts, terminal

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._terminal

    def write(self, content: object) -> int:
        written = bytes(content)  # type: ignore[call-overload]
        self._parts.append((self._kind, written))
        return len(written)


class _Nothing(io.RawIOBase):
    """Standard input of somebody else: who reads it has to be in their process."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def readable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._terminal

    def readinto(self, buffer: object) -> NoReturn:
        raise _RunColdError


def answer(asked: Request, run: Callable[[Sequence[str]], int]) -> bytes:
    """Run a command in this process, which is the asker's from now on, and return the parts of the answer.

    Args:
        asked: Folder, file mask and environment become those of this process.
        run: As `WarmServer` takes it.
    """
    parts: list[tuple[bytes, bytes]] = []
    try:
        os.chdir(asked.folder)
        os.umask(asked.mask)
        os.environ.clear()
        os.environ.update(asked.variables)
        time.tzset()
        if asked.columns:
            os.environ.setdefault("COLUMNS", str(asked.columns))
        code = _run(asked, run, parts)
    except (_RunColdError, OSError, LookupError):
        return warm.frame(warm.COLD)
    if code == _UNEXPECTED:
        return warm.frame(warm.COLD)  # a defect is better seen without a server in between
    return b"".join([*(warm.frame(*part) for part in parts), warm.frame(warm.EXIT, str(code).encode())])


def _run(asked: Request, run: Callable[[Sequence[str]], int], parts: list[tuple[bytes, bytes]]) -> int:
    streams = []
    for kind, terminal, encoding in zip((warm.OUT, warm.ERR), asked.terminals[1:], asked.encodings, strict=True):
        raw = io.BufferedWriter(_Recorder(kind, parts, terminal))
        lines = terminal or kind == warm.ERR
        streams.append(io.TextIOWrapper(raw, encoding, "backslashreplace", line_buffering=lines))
    sys.stdout, sys.stderr = streams
    sys.stdin = io.TextIOWrapper(io.BufferedReader(_Nothing(asked.terminals[0])))
    try:
        return run(asked.arguments)
    finally:
        for stream in streams:
            stream.flush()
