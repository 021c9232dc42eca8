"""Where an engine is: `qdrant:http://127.0.0.1:6333/media` is on a server, `qdrant:FOLDER` in this process."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from embedspace.errors import InputError

__all__ = ["EngineAddress", "is_engine"]

_SCHEME = "qdrant:"
_SERVER = re.compile(r"(https?):/+([^/\s]+)((?:/[^/\s]+)*)/([A-Za-z0-9_.-]+)/?")


def is_engine(text: str) -> bool:
    """Return whether a text names an engine, not the path of a catalog."""
    return text.startswith(_SCHEME)


@dataclass(frozen=True, slots=True)
class EngineAddress:
    """Where an engine is.

    Attributes:
        text: As it is written.
        url: Of the server; empty for a folder.
        collection: Name of the server's collection.
        folder: Of the engine that runs in this process; None for a server.
    """

    text: str
    url: str = ""
    collection: str = ""
    folder: Path | None = None

    @classmethod
    def parse(cls, text: str) -> EngineAddress:
        """Read an address.

        Raises:
            InputError: If it is none.
        """
        rest = text.removeprefix(_SCHEME)
        if not is_engine(text) or not rest:
            raise InputError(f"{text!r}: no engine; write qdrant:http://HOST:6333/COLLECTION, or qdrant:FOLDER")
        if not re.match(r"https?:", rest):
            return cls(text, folder=Path(rest).expanduser())
        found = _SERVER.fullmatch(rest)
        if found is None:
            raise InputError(f"{text!r}: name the collection, too, as in qdrant:http://127.0.0.1:6333/media")
        scheme, host, prefix, collection = found.groups()  # a path that went through pathlib has one slash less
        url = f"{scheme}://{host}{prefix}"
        return cls(f"{_SCHEME}{url}/{collection}", url, collection)

    def __str__(self) -> str:
        """Return it as it is written."""
        return self.text
