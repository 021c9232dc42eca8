"""What other packages add: things registered by name, and the entry points "embedspace.plugins" that find them.

    [project.entry-points."embedspace.plugins"]     # in another distribution's pyproject.toml
    depth = "depth_package.encoder"                 # a module that registers a modality, a tower, a family, ...

Plug-ins are imported only when a name or a file suffix is met that nothing here knows, so that nobody pays for them who
does not use them.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from embedspace.errors import ConfigError

__all__ = ["Registry", "load_plugins"]

Thing = TypeVar("Thing")
_LOG = logging.getLogger("embedspace.plugins")
_done = False


def load_plugins() -> None:
    """Import what installed distributions list under "embedspace.plugins" in their entry points; at most once.

    One that cannot be imported is reported in one line, as a warning of the logger "embedspace.plugins", and the others
    are imported all the same.
    """
    global _done
    if _done:
        return
    _done = True
    from importlib.metadata import entry_points

    for found in entry_points(group="embedspace.plugins"):
        try:
            found.load()
        except Exception as error:  # whatever the other distribution does
            why = " ".join(str(error).split()) or type(error).__name__
            _LOG.warning(
                "the plug-in %r (%s) cannot be imported: %s; repair or uninstall it", found.name, found.value, why
            )


class Registry(Generic[Thing]):
    """Things by name: a module that ships registers its own when a name is first asked for, others from anywhere.

    Attributes:
        found: Name -> what is registered by now.
    """

    def __init__(self, what: str, shipped: Mapping[str, str], *, replaces: bool = False) -> None:
        """Say what ships.

        Args:
            what: The things, in the singular, for messages.
            shipped: Name -> module of this package that registers it.
            replaces: Whether a second thing may take the name of the first.
        """
        self.found: dict[str, Thing] = {}
        self._what, self._shipped, self._replaces = what, dict(shipped), replaces

    def add(self, name: str, thing: Thing) -> None:
        """Register a thing.

        Raises:
            ConfigError: If another one has the name, and may not be replaced.
        """
        if not self._replaces and self.found.get(name, thing) is not thing:
            raise ConfigError(f"{self._what} {name!r} is registered twice")
        self.found[name] = thing

    def register(self, name: str) -> Callable[[Thing], Thing]:
        """Return a decorator that registers what it is put on, and raises as `add` does."""

        def registering(thing: Thing) -> Thing:
            self.add(name, thing)
            return thing

        return registering

    def get(self, name: str) -> Thing | None:
        """Return a thing; what ships is imported for it, then what other distributions list. None: nobody knows it."""
        if name not in self.found and name in self._shipped:
            importlib.import_module(self._shipped[name])
        if name not in self.found:
            load_plugins()
        return self.found.get(name)

    def names(self) -> list[str]:
        """Return all names that are known without asking other distributions."""
        return sorted({*self._shipped, *self.found})
