"""What training adds to a frozen tower: a projection into the shared space, and tensors of the tower that it changed.

A projection's file is one safetensors file that is the whole module: its tensors, and in its metadata the kind and the
sizes. A file of tuned tensors holds those of a tower that training changed, by their names in the tower.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from embedspace.config import build
from embedspace.encoders.projections import MLPHead, TextHead
from embedspace.encoders.sizes import make_checked
from embedspace.encoders.towers.base import Tower
from embedspace.errors import ConfigError, WeightsError
from embedspace.files import replacing
from embedspace.media.source import one_line

__all__ = ["Projection", "ProjectionConfig", "apply_tuned", "load_projection", "save_projection", "save_tuned"]

_LARGEST = 1 << 16


@dataclass(frozen=True, slots=True)
class ProjectionConfig:
    """Kind and sizes of a projection.

    Attributes:
        projection: "linear": a linear map of the unit rows, with a small residual branch if `hidden_dim` is not 0;
            "mlp": one hidden layer on the standardised rows.
        feature_dim: Width of the tower's rows.
        embed_dim: Width of the shared space.
        hidden_dim: Width of the hidden layer.
        dropout: While training.
    """

    projection: Literal["linear", "mlp"]
    feature_dim: int
    embed_dim: int
    hidden_dim: int = 512
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Refuse sizes that no weights belong to."""
        for name in ("feature_dim", "embed_dim", "hidden_dim"):
            least = 0 if (self.projection, name) == ("linear", "hidden_dim") else 1
            if not least <= getattr(self, name) <= _LARGEST:
                raise ConfigError(f"{name} {getattr(self, name)}: a projection has {least} to {_LARGEST}")


class Projection(nn.Module):
    """A tower's rows, of any length, to unit rows of the shared space."""

    def __init__(self, config: ProjectionConfig) -> None:
        super().__init__()
        self.config = config
        sizes = config.feature_dim, config.embed_dim, config.hidden_dim, config.dropout
        self.layers: MLPHead | TextHead = MLPHead(*sizes) if config.projection == "mlp" else TextHead(*sizes)

    @property
    def feature_dim(self) -> int:
        """Width of the tower's rows."""
        return self.config.feature_dim

    @property
    def embed_dim(self) -> int:
        """Width of the shared space."""
        return self.config.embed_dim

    @torch.no_grad()
    def standardise(self, rows: Tensor) -> None:
        """Take mean and deviation of training rows (N, feature_dim), where this kind standardises its input."""
        if isinstance(self.layers, MLPHead):
            self.layers.mean.copy_(rows.mean(dim=0))
            self.layers.scale.copy_(1 / (rows.std(dim=0, correction=0) + 1e-3))

    def forward(self, rows: Tensor) -> Tensor:
        """Map (B, feature_dim) rows to (B, embed_dim) unit rows."""
        out: Tensor = self.layers(rows if isinstance(self.layers, MLPHead) else F.normalize(rows, dim=-1))
        return out


def save_projection(projection: Projection, path: Path) -> None:
    """Write a projection's file, atomically."""
    _save({k: v.detach().float().cpu() for k, v in projection.state_dict().items()}, path, asdict(projection.config))


def load_projection(path: Path) -> Projection:
    """Read a projection, frozen.

    Raises:
        WeightsError: If the file is missing, corrupt, or no projection's.
    """
    tensors, about = _read(path)
    try:
        config = build(ProjectionConfig, about, str(path))
        projection = make_checked(lambda: Projection(config), path)
        projection.load_state_dict(tensors, strict=True)
    except (ConfigError, RuntimeError) as error:
        raise WeightsError(f"{path}: not a projection: {one_line(error)}") from error
    return projection.requires_grad_(False).eval()


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
