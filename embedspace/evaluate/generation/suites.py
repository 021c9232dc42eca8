"""What generation suites of every kind have in common when they are read from TOML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from embedspace.config import build
from embedspace.errors import ConfigError
from embedspace.evaluate.suite import ItemSet, read_suite

__all__ = ["VOICE", "GenerationSuite", "check_seeds", "check_sets", "read_generation_suite"]


Record = TypeVar("Record")

VOICE = "voice "
"""A source that starts with this is the prompts' words, said by the voice that it names."""


class GenerationSuite(Protocol):
    """What every generation suite says."""

    @property
    def name(self) -> str:
        """Also the name of its results."""
        ...

    @property
    def description(self) -> str:
        """One or two sentences for the report."""
        ...

    @property
    def sets(self) -> Mapping[str, ItemSet]:
        """Name -> items."""
        ...

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the samples."""
        ...

    @property
    def folder(self) -> Path:
        """Where the suite lies."""
        ...


def read_generation_suite(record: type[Record], path: Path) -> Record:
    """Read a suite's file into the dataclass of its kind.

    Raises:
        ConfigError: If it is missing or no TOML, or has an unknown or missing key or a wrong value.
    """
    table = read_suite(path)
    table.pop("kind", None)  # it chose the dataclass
    return build(record, table, str(path), folder=path.parent)


def check_sets(names: Iterable[str], sets: Mapping[str, ItemSet], path: Path) -> None:
    """Refuse names of sets that a suite does not have; empty ones stand for no set.

    Raises:
        ConfigError: If there is one.
    """
    for name in filter(None, names):
        if name not in sets:
            raise ConfigError(f"{path}: no set {name!r}; known: {' '.join(sets)}")


def check_seeds(seeds: Sequence[int], path: Path) -> None:
    """Refuse seeds that do not follow one another: samples of one request have such.

    Raises:
        ConfigError: If they do not.
    """
    if not seeds or list(seeds) != list(range(seeds[0], seeds[0] + len(seeds))):
        raise ConfigError(f"{path}: seeds must follow one another, such as [0, 1, 2], got {list(seeds)}")
