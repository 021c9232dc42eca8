"""Encoders by type: what a section of a space's configuration may say, and what its vectors depend on.

A section names its type (`"type": "tower"`); one that names none is of the encoders that ship ("shipped.<modality>").
What is declared here needs no torch, so that a space says its fingerprints before any network is loaded. From outside::

    @register_encoder("depth")
    def _create(config: dict[str, Any], folder: Path, modality: str) -> DepthEncoder: ...
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedspace.errors import ConfigError, WeightsError
from embedspace.plugins import load_plugins

if TYPE_CHECKING:
    from embedspace.encoders.contract import MediaEncoder

__all__ = [
    "EncoderType",
    "create_encoder",
    "encoder_type",
    "encoder_types",
    "files_named_in",
    "misfit",
    "register_encoder",
]

Section = Mapping[str, Any]
Factory = Callable[[dict[str, Any], Path, str], "MediaEncoder"]
"""`(section, the space's folder, modality) -> MediaEncoder`."""


def files_named_in(section: Section) -> list[str]:
    """Return the weights files that a section names: every value that ends in ".safetensors", at any depth."""
    return [value for value in _values(section) if value.endswith(".safetensors")]


def _values(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _values(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _values(inner)


def _none(section: Section) -> list[str]:
    return []


def _towers_named_in(section: Section) -> list[str]:
    return [section["tower"]] if isinstance(section.get("tower"), str) else []


def _shipped_backbones(section: Section) -> list[str]:
    """Return the names of the frozen networks that a section of the default space uses."""
    single = [section[key] for key in ("backbone", "decoder", "network") if section.get(key)]
    reads = [section["text_backbone"]] if section.get("decoder") else []
    return [*single, *reads, *section.get("backbones", ())]


@dataclass(frozen=True, slots=True)
class EncoderType:
    """What is known of a type before one is made.

    Attributes:
        name: As sections give it.
        module: What registers its factory when it is imported; empty where that has happened.
        files: Section -> weights files in the space's folder that its vectors depend on.
        backbones: Section -> frozen networks of the package that its vectors depend on.
        towers: Section -> names of the towers in the space's configuration whose digests its vectors depend on.
        others: Section -> modalities of the space whose encoders its vectors depend on.
    """

    name: str
    module: str = ""
    files: Callable[[Section], Sequence[str]] = files_named_in
    backbones: Callable[[Section], Sequence[str]] = _none
    towers: Callable[[Section], Sequence[str]] = _towers_named_in
    others: Callable[[Section], Sequence[str]] = _none


def _pooled_modality(section: Section) -> list[str]:
    return [str(section.get("pools", "image"))]


def _tower_files(section: Section) -> list[str]:
    named = [str(section[key]) for key in ("projection", "tuned", "correction") if section.get(key)]
    stem = section.get("connector")
    return [*named, *([f"{stem}.json", f"{stem}.safetensors"] if stem else [])]


def _shipped(modality: str, *others: str) -> EncoderType:
    """Return the type of one of the default space's encoders; each ends in the text projection, or starts from it."""
    module, files = f"embedspace.encoders.shipped.{modality}", (f"{modality}.safetensors", *others)
    return EncoderType(f"shipped.{modality}", module, lambda section: files, _shipped_backbones)


_TYPES: dict[str, EncoderType] = {
    found.name: found
    for found in (
        EncoderType("tower", "embedspace.encoders.tower", _tower_files),
        EncoderType("voice", "embedspace.encoders.voices.encoder", _none, _shipped_backbones),
        EncoderType("timing", "embedspace.encoders.timing.encoder", _none, _shipped_backbones),
        EncoderType("pooled", "embedspace.encoders.film.pooled", _none, others=_pooled_modality),
        _shipped("text"),
        _shipped("image", "image_tail.safetensors", "image_network.safetensors", "text.safetensors"),
        _shipped("audio", "text.safetensors"),
        _shipped("speech", "text.safetensors"),
    )
}
_FACTORIES: dict[str, Factory] = {}


def register_encoder(
    name: str,
    *,
    files: Callable[[Section], Sequence[str]] | None = None,
    backbones: Callable[[Section], Sequence[str]] | None = None,
) -> Callable[[Factory], Factory]:
    """Register the factory `(section, folder, modality) -> Encoder` of a type.

    Args:
        name: What sections of a space's configuration give as "type".
        files: Section -> weights files in the space's folder that its vectors depend on: they enter the fingerprint
            and are compared when they are loaded. By default what `files_named_in` finds.
        backbones: Section -> frozen networks of the package that it uses; by default none.

    Raises:
        ConfigError: If another factory has this name.
    """

    def register(factory: Factory) -> Factory:
        known = _FACTORIES.get(name, factory)
        if (known.__module__, known.__qualname__) != (factory.__module__, factory.__qualname__):
            raise ConfigError(
                f"encoder type {name!r} is registered twice: by {known.__module__} and by {factory.__module__}"
            )
        if name not in _TYPES:
            _TYPES[name] = EncoderType(name, "", files or files_named_in, backbones or _none)
        _FACTORIES[name] = factory
        return factory

    return register


def encoder_types() -> list[str]:
    """Return the names of all types."""
    return sorted(_TYPES)


def encoder_type(section: Section, modality: str, where: Path) -> EncoderType:
    """Return the type of a section.

    Args:
        section: Section of the configuration.
        modality: Whose.
        where: The configuration's file, for the message.

    Raises:
        ConfigError: If there is no such type.
    """
    if not isinstance(section, Mapping):
        raise ConfigError(f"{where}: section {modality!r} must be a table, got {section!r:.60}")
    name = section.get("type", f"shipped.{modality}")
    if name not in _TYPES:
        load_plugins()
    if not isinstance(name, str) or name not in _TYPES:
        raise ConfigError(
            f"{where}: section {modality!r} has the unknown type {name!r}; known: {', '.join(encoder_types())}; "
            "another one is known once the module that registers it is imported"
        )
    return _TYPES[name]


def create_encoder(section: Section, folder: Path, modality: str) -> MediaEncoder:
    """Make an encoder with its weights.

    Args:
        section: Section of the space's configuration.
        folder: The space's folder, which holds the weights.
        modality: Whose.

    Raises:
        ConfigError: If the type is unknown, or a key is unknown or missing.
        WeightsError: If the weights are missing, corrupt or of another shape.
    """
    path = folder / "config.json"
    found = encoder_type(section, modality, path)
    if found.name not in _FACTORIES:
        importlib.import_module(found.module)
    settings = {key: value for key, value in section.items() if key != "type"}
    try:
        return _FACTORIES[found.name](settings, folder, modality)
    except (TypeError, KeyError) as error:
        raise ConfigError(f"{path}: section {modality!r} does not fit the encoder: {misfit(error)}") from error
    except OSError as error:
        raise WeightsError(f"{path}: section {modality!r}: cannot read its weights: {error}") from error


def misfit(error: TypeError | KeyError) -> str:
    """Say for people what is wrong with a configuration, where what reads it raised a bare error of Python.

    Args:
        error: Raised by a constructor that was given a table's keys, or by a look-up in that table.
    """
    text = str(error)
    if isinstance(error, KeyError):
        return f"key {text} is missing"
    if found := re.search(r"unexpected keyword argument ('[^']*')", text):
        return f"unknown key {found[1]}"
    if found := re.search(r"missing \d+ required (?:positional|keyword-only) arguments?: (.*)", text):
        return f"missing: {found[1]}"
    return f"a value has the wrong type ({text})"
