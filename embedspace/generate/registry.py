"""Which code makes a generator: its configuration names a type, and a type is registered from anywhere.

    @register_generator("tone")                 # "type": "tone" in <space>/heads/<target>/config.json
    def create(config, folder, space): ...

A configuration without a type has that of its target: "image", "audio", "text" and "speech" ship, and "pretrained" is a
published generator (`embedspace.generate.pretrained`). What another distribution registers is found by its entry points
(`embedspace.plugins`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from embedspace.encoders.registry import misfit
from embedspace.errors import ConfigError, WeightsError
from embedspace.files import read_config
from embedspace.generate.base import Generator, GeneratorSpace
from embedspace.plugins import Registry
from embedspace.vocabulary import generator_targets

__all__ = ["FORMAT", "create_generator", "digest_of", "register_generator"]

FORMAT = 1
Factory = Callable[[Mapping[str, Any], Path, GeneratorSpace], Generator]

_TYPES: Registry[Factory] = Registry(
    "type of generators",
    {
        "image": "embedspace.generate.image",
        "audio": "embedspace.generate.audio",
        "text": "embedspace.generate.captions.generator",
        "speech": "embedspace.generate.speech.generator",
        "pretrained": "embedspace.generate.pretrained.registry",
    },
    replaces=True,
)
_ABOUT = ("format", "text_head", "type")
"""Keys of every configuration; the others are the type's own."""


def register_generator(kind: str) -> Callable[[Factory], Factory]:
    """Register the factory of a type of generators, in place of one that has the name already.

    Args:
        kind: The value of "type" in a configuration.

    Returns:
        A decorator of a function `(config, folder, space) -> Generator`: `config` holds the type's own keys, `folder`
        the generator's weights, and vectors are those of `space`. A key that is missing or wrong is a KeyError or
        TypeError.
    """
    return _TYPES.register(kind)


def create_generator(target: str, folder: Path, space: GeneratorSpace) -> Generator:
    """Make the generator of a target with its weights.

    Args:
        target: What it makes: "image", "audio", "text", "speech", or another folder's name.
        folder: Folder of all generators; this one's lies in `<folder>/<target>`.
        space: Whose vectors it is given; captions are ranked with it.

    Raises:
        WeightsError: If there is no generator, it is damaged, or was trained on another space's text vectors.
        ConfigError: If its configuration has an unknown type, or an unknown or missing key.
    """
    own = folder / target
    path = own / "config.json"
    if target not in generator_targets(folder):
        makes = ", ".join(generator_targets(folder)) or "nothing"
        raise WeightsError(f"this space has no generator of {target}: {path} is missing; it makes: {makes}")
    config = read_config(path, FORMAT, "configuration of a generator")
    _check_space(config, space, path)
    factory = _factory_of(str(config.get("type", target)), path)
    try:
        generator = factory({key: value for key, value in config.items() if key not in _ABOUT}, own, space)
    except (TypeError, KeyError) as error:
        raise ConfigError(f"{path}: does not fit the generator of {target}: {misfit(error)}") from error
    generator.digest = generator.digest or digest_of(own)
    return generator.requires_grad_(False).eval()


def _factory_of(kind: str, path: Path) -> Factory:
    factory = _TYPES.get(kind)
    if factory is None:
        known = ", ".join(_TYPES.names())
        raise ConfigError(f"{path}: unknown type {kind!r}; known: {known}; import what registers it first")
    return factory


def _check_space(config: Mapping[str, Any], space: GeneratorSpace, path: Path) -> None:
    """Refuse text vectors that a generator was not trained on: all else is aligned to them and may be replaced."""
    have = space.config["files"].get("text.safetensors", "")
    if config.get("text_head", have) != have:
        raise WeightsError(
            f"{path}: trained on vectors of another text projection than this space's; train it again: "
            "embedspace train generator"
        )


def digest_of(folder: Path) -> str:
    """Return the hex digest of a generator's files, names included."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".json")):
        with path.open("rb") as file:
            total.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
    return total.hexdigest()
