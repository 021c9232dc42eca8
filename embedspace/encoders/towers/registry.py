"""Towers by reference, such as "open_clip:ViT-B-32/laion2b_s34b_b79k": how one is made, how a prefix is registered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from embedspace.encoders.towers.backbone import backbone_names
from embedspace.encoders.towers.base import Tower, TowerRequest
from embedspace.encoders.towers.bundled import create_bundled
from embedspace.encoders.towers.layers import LayeredTower
from embedspace.errors import ConfigError
from embedspace.plugins import Registry

__all__ = ["create_tower", "register_tower", "tower_prefixes"]

Factory = Callable[[TowerRequest], Tower]

_ADAPTERS = "embedspace.encoders.towers.adapters"
_TOWERS: Registry[Factory] = Registry(
    "tower prefix",
    {
        "open_clip": f"{_ADAPTERS}.open_clip",
        "sentence-transformers": f"{_ADAPTERS}.sentence_transformers",
        "transformers": f"{_ADAPTERS}.transformers",
        "torchscript": f"{_ADAPTERS}.torchscript",
        "onnx": f"{_ADAPTERS}.onnx",
        "torchaudio": f"{_ADAPTERS}.torchaudio",
        "embedspace": f"{_ADAPTERS}.embedspace",
    },
)


def register_tower(prefix: str) -> Callable[[Factory], Factory]:
    """Register a factory `(TowerRequest) -> Tower` for references that begin with a prefix and ":".

    Raises:
        ConfigError: If the prefix is taken by another factory.
    """
    return _TOWERS.register(prefix)


def tower_prefixes() -> list[str]:
    """Return every prefix that `create_tower` knows, without its ":"."""
    return _TOWERS.names()


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
        options: What else the configuration says of the tower; each adapter lists what it knows. `layers` is known for
            every tower of pictures: names of modules whose outputs are added to its rows (`LayeredTower`).

    Raises:
        ConfigError: If the prefix, the name, an option or a layer is unknown.
        WeightsError: If the weights are missing, corrupt or another network's, or would have to be downloaded.
        MissingExtraError: If the prefix needs a library that is not installed.
    """
    prefix, colon, place = reference.partition(":")
    given = dict(options or {})
    layers = given.pop("layers", ())
    made = _created(TowerRequest(reference, place if colon else reference, folder, download, given), prefix, colon)
    return LayeredTower(made, layers) if layers else made


def _created(request: TowerRequest, prefix: str, colon: str) -> Tower:
    """Make a tower by its prefix, whatever layers it is to show."""
    reference = request.reference
    if not colon:
        return create_bundled(request)
    if not request.place:
        raise ConfigError(f"tower {reference!r}: nothing follows the ':'; write {prefix}:<name or path>")
    factory = _TOWERS.get(prefix)
    if factory is None:
        known = ", ".join([*(f"{name}:…" for name in tower_prefixes()), *backbone_names()])
        raise ConfigError(f"unknown tower {reference!r}; known: {known}")
    return factory(request)
