"""Whether what a server has loaded is still what lies on disk: the package's code and the weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from embedspace import warm

__all__ = ["stamp_of"]


def stamp_of(folders: Iterable[Path]) -> Callable[[], object]:
    """Return what gives the same value as long as nothing was changed: size and time of every file, about 2 ms.

    Args:
        folders: Of weights; the package with its own is always looked at.
    """
    roots = [os.path.dirname(os.path.abspath(warm.__file__)), *(str(folder.resolve()) for folder in folders)]
    return lambda: tuple(found for root in roots for found in _files(root))


def _files(folder: str) -> Iterator[tuple[str, int, int]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    if entry.name != "__pycache__":
                        yield from _files(entry.path)
                elif entry.name.endswith((".py", ".safetensors", ".json", ".toml")):
                    facts = entry.stat()
                    yield entry.path, facts.st_size, facts.st_mtime_ns
    except OSError:  # it is being replaced: that is a change, too
        yield folder, 0, 0
