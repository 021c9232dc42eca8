"""Files of what training adds to a tower.

The file of a projection or of a correction is one safetensors file that is the whole module: its tensors, and in its
metadata the kind and the sizes. A file of tuned tensors holds those of a tower that training changed, by their names
in the tower.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from embedspace.config import build
from embedspace.encoders.sizes import make_checked
from embedspace.encoders.towers.base import Tower
from embedspace.encoders.trained.modules import Correction, CorrectionConfig, Projection, ProjectionConfig
from embedspace.errors import ConfigError, WeightsError
from embedspace.files import replacing
from embedspace.media.source import one_line

__all__ = ["apply_tuned", "load_correction", "load_projection", "save_projection", "save_tuned"]


def save_projection(projection: Projection | Correction, path: Path) -> None:
    """Write the file of a projection or a correction, atomically."""
    _save({k: v.detach().float().cpu() for k, v in projection.state_dict().items()}, path, asdict(projection.config))


def load_projection(path: Path) -> Projection:
    """Read a projection, frozen.

    Raises:
        WeightsError: If the file is missing, corrupt, or no projection's.
    """
    return _load(path, ProjectionConfig, Projection)


def load_correction(path: Path) -> Correction:
    """Read a correction, frozen.

    Raises:
        WeightsError: If the file is missing, corrupt, or no correction's.
    """
    return _load(path, CorrectionConfig, Correction)


_Config = TypeVar("_Config", ProjectionConfig, CorrectionConfig)
_Module = TypeVar("_Module", Projection, Correction)


def _load(path: Path, config_type: type[_Config], make: Callable[[_Config], _Module]) -> _Module:
    tensors, about = _read(path)
    try:
        config = build(config_type, about, str(path))
        module = make_checked(lambda: make(config), path)
        module.load_state_dict(tensors, strict=True)
    except (ConfigError, RuntimeError) as error:
        raise WeightsError(f"{path}: not a {make.__name__.lower()}: {one_line(error)}") from error
    return module.requires_grad_(False).eval()


def save_tuned(tower: Tower, names: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors that training changed, atomically.

    Args:
        tower: Whose.
        names: Name -> tensor, by the names that the tower has when it is made anew.
        path: File to write.
    """
    _save({k: v.detach().cpu().contiguous() for k, v in names.items()}, path, {"tower": tower.name})


@torch.no_grad()
def apply_tuned(tower: Tower, path: Path) -> None:
    """Put tuned tensors into a tower, in place.

    Raises:
        WeightsError: If the file is missing or corrupt, or holds a tensor that the tower lacks or has in another shape.
    """
    tensors, _ = _read(path)
    wanted = tower.state_dict()
    for name, tensor in tensors.items():
        if name not in wanted or wanted[name].shape != tensor.shape:
            raise WeightsError(f"{path}: {name} {tuple(tensor.shape)} is no tensor of tower {tower.name!r}")
        wanted[name].copy_(tensor)


def _save(tensors: dict[str, Tensor], path: Path, about: Mapping[str, Any]) -> None:
    with replacing(path) as partial:
        save_file({k: v.clone() for k, v in tensors.items()}, partial, {"embedspace": json.dumps(about)})
        partial.chmod(0o644)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights; restore the space's folder as training wrote it")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["embedspace"])
            return {key: file.get_tensor(key) for key in file.keys()}, dict(about)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: corrupt weights: {one_line(error)}; restore the file") from error
    except (KeyError, ValueError, TypeError):
        raise WeightsError(f"{path}: says nothing of what it holds; name a file that training wrote") from None
