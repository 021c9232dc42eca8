"""Heads by the prefix of their reference, such as "diffusers:": how one is made, how a prefix is registered.

    @register_head("dreams")                    # --head dreams:anything
    def create(request, target, space): ...

What another distribution registers is found by its entry points (`embedspace.plugins`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from embedspace.errors import ArgumentError, ConfigError
from embedspace.generate.base import Generator, GeneratorSpace
from embedspace.generate.pretrained.base import HeadSpace
from embedspace.generate.pretrained.files import HeadRequest
from embedspace.generate.pretrained.head import Head
from embedspace.generate.registry import register_generator
from embedspace.plugins import Registry

__all__ = ["create_head", "head_prefixes", "register_head"]

Factory = Callable[[HeadRequest, str, HeadSpace], Generator]

_HEADS: Registry[Factory] = Registry(
    "prefix of heads",
    {
        "diffusers": "embedspace.generate.pretrained.pipelines",
        "clipcap": "embedspace.generate.pretrained.clipcap",
    },
)


def register_head(prefix: str) -> Callable[[Factory], Factory]:
    """Register a factory for references that begin with a prefix and ":".

    Returns:
        A decorator of a function `(request, target, space) -> Generator`: `target` is what is to be made, and vectors
        are those of `space`.

    Raises:
        ConfigError: If the prefix is taken by another factory.
    """
    return _HEADS.register(prefix)


def head_prefixes() -> list[str]:
    """Return every prefix that `create_head` knows, without its ":"."""
    return _HEADS.names()


def create_head(target: str, head: Head, space: GeneratorSpace, folder: Path | None = None) -> Generator:
    """Make a pretrained generator.

    Args:
        target: What it is to make: "image", "audio", "text".
        head: Which, and its options.
        space: Whose vectors it is given.
        folder: Where relative paths begin; None is the current folder.

    Raises:
        ArgumentError: If the prefix is unknown, or the head makes something else.
        ConfigError: If an option is unknown, no adapter knows the head, or it takes vectors of another tower.
        WeightsError: If its files are missing or damaged, or would have to be downloaded.
        MissingExtraError: If the prefix needs a library that is not installed.
    """
    prefix, colon, place = head.reference.partition(":")
    factory = _HEADS.get(prefix) if colon and place else None
    if factory is None:
        known = ", ".join(f"{name}:<folder or name>" for name in head_prefixes())
        raise ArgumentError("head", f"{head.reference}: is no pretrained head; write one of: {known}")
    owner = cast(HeadSpace, space)
    request = HeadRequest(head.reference, place, folder, owner.may_download, dict(head.options))
    made = factory(request, target, owner)
    if made.modality != target:
        raise ArgumentError("head", f"{head.reference}: makes {made.modality}, not {target}")
    return made.requires_grad_(False).eval()


@register_generator("pretrained")
def _create(config: Mapping[str, Any], folder: Path, space: GeneratorSpace) -> Generator:
    """Make the head that a generator's configuration names, so that a space may have it for good."""
    unknown = sorted(set(config) - {"head", "options", "folder"})
    if unknown:
        raise ConfigError(f"{folder / 'config.json'}: unknown key {', '.join(unknown)}; known: head, options, folder")
    begins = Path(config["folder"]) if config.get("folder") else folder
    return create_head(folder.name, Head(config["head"], config.get("options", {})), space, begins)
