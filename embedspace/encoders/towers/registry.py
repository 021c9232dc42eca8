"""Towers by reference, such as "open_clip:ViT-B-32/laion2b_s34b_b79k": how one is made, how a prefix is registered."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from embedspace.encoders.towers.backbone import backbone_names
from embedspace.encoders.towers.base import Tower, TowerRequest
from embedspace.encoders.towers.bundled import create_bundled
from embedspace.errors import ConfigError

__all__ = ["create_tower", "register_tower", "tower_prefixes"]

Factory = Callable[[TowerRequest], Tower]

_ADAPTERS = {
    "open_clip": "open_clip",
    "sentence-transformers": "sentence_transformers",
    "transformers": "transformers",
    "torchscript": "torchscript",
    "onnx": "onnx",
    "torchaudio": "torchaudio",
    "embedspace": "embedspace",
}
"""Prefix -> module below `adapters` that registers it."""
_FACTORIES: dict[str, Factory] = {}


def register_tower(prefix: str) -> Callable[[Factory], Factory]:
    """Register a factory `(TowerRequest) -> Tower` for references that begin with a prefix and ":".

    Raises:
        ConfigError: If the prefix is taken by another factory.
    """

    def register(factory: Factory) -> Factory:
        if _FACTORIES.setdefault(prefix, factory) is not factory:
            raise ConfigError(f"tower prefix {prefix!r} is registered twice")
        return factory

    return register


def tower_prefixes() -> list[str]:
    """Return every prefix that `create_tower` knows, without its ":"."""
    return sorted({*_ADAPTERS, *_FACTORIES})


def create_tower(
    reference: str,
    *,
    download: bool = False,
    folder: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Tower:
    """Make a frozen tower on the CPU in float32.

    Args:
        reference: "<prefix>:<place>", or the name of a bundled network such as "minilm_l6".
        download: Fetch what is not on this machine; without it nothing is ever downloaded.
        folder: Where relative paths of the reference begin; None is the current folder.
        options: What else the configuration says of the tower; each adapter lists what it knows.

    Raises:
        ConfigError: If the prefix, the name or an option is unknown.
        WeightsError: If the weights are missing, corrupt or another network's, or would have to be downloaded.
        MissingExtraError: If the prefix needs a library that is not installed.
    """
    prefix, colon, place = reference.partition(":")
    request = TowerRequest(reference, place if colon else reference, folder, download, dict(options or {}))
    if not colon:
        return create_bundled(request)
    if not place:
        raise ConfigError(f"tower {reference!r}: nothing follows the ':'; write {prefix}:<name or path>")
    if prefix not in _FACTORIES and prefix in _ADAPTERS:
        importlib.import_module(f"embedspace.encoders.towers.adapters.{_ADAPTERS[prefix]}")
    if prefix not in _FACTORIES:
        known = ", ".join([*(f"{name}:…" for name in tower_prefixes()), *backbone_names()])
        raise ConfigError(f"unknown tower {reference!r}; known: {known}")
    return _FACTORIES[prefix](request)
