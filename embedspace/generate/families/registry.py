"""Families by their names, for recipes, generators and the command line; it loads torch only with a family.

A generator's configuration lists its families, `"families": {"flow": {...}}`, or under another name with the family
said, `"families": {"small flow": {"type": "flow", ...}}`; weights lie in `<name>.safetensors`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from embedspace.errors import ConfigError
from embedspace.plugins import Registry

if TYPE_CHECKING:
    from embedspace.generate.families.base import Family

__all__ = ["families_that", "family_names", "family_of", "register_family"]

_SHIPPED = (
    "diffusion",
    "drifting",
    "flow",
    "gan",
    "maskgit",
    "meanflow",
    "normalising",
    "pixelcnn",
    "stylegan",
    "vae",
    "vqvae",
    "wavenet",
)
_FAMILIES: Registry[Family[Any, Any]] = Registry(
    "family", {name: f"embedspace.generate.families.{name}" for name in _SHIPPED}, replaces=True
)

FamilyT = TypeVar("FamilyT", bound="Family[Any, Any]")


def register_family(name: str) -> Callable[[type[FamilyT]], type[FamilyT]]:
    """Return a decorator that registers a family, in place of one that has the name already.

    Args:
        name: Its name in recipes, in configurations and on the command line.
    """

    def register(kind: type[FamilyT]) -> type[FamilyT]:
        _FAMILIES.add(name, kind())
        return kind

    return register


def family_of(name: str) -> Family[Any, Any]:
    """Return a family by its name.

    Raises:
        ConfigError: If none of this name is registered.
    """
    family = _FAMILIES.get(name)
    if family is None:
        known = ", ".join(_FAMILIES.names())
        raise ConfigError(f"unknown family {name!r}; known: {known}; import what registers it first")
    return family


def family_names() -> list[str]:
    """Return the names of all families that are known by now."""
    return _FAMILIES.names()


def families_that(ability: str) -> list[str]:
    """Return the names of the families that can do something, such as "guidance"."""
    return [name for name in family_names() if ability in family_of(name).can]
