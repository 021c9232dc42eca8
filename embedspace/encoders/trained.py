"""What training adds to a tower: a projection into the shared space, a correction, and tensors of its own that changed.

The file of a projection or of a correction is one safetensors file that is the whole module: its tensors, and in its
metadata the kind and the sizes. A file of tuned tensors holds those of a tower that training changed, by their names
in the tower.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

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

__all__ = [
    "Correction",
    "CorrectionConfig",
    "Projection",
    "ProjectionConfig",
    "apply_tuned",
    "load_correction",
    "load_projection",
    "save_projection",
    "save_tuned",
]

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
        _check_sizes(self, "projection", 0 if self.projection == "linear" else 1)


@dataclass(frozen=True, slots=True)
class CorrectionConfig:
    """Sizes of a correction.

    Attributes:
        feature_dim: Width of the tower's rows.
        embed_dim: Width of the shared space.
        hidden_dim: Width of the hidden layer; 0: a linear map alone.
        dropout: While training.
    """

    feature_dim: int
    embed_dim: int
    hidden_dim: int = 0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Refuse sizes that no weights belong to."""
        _check_sizes(self, "correction", 0)


def _check_sizes(config: ProjectionConfig | CorrectionConfig, what: str, least_hidden: int) -> None:
    for name, least in (("feature_dim", 1), ("embed_dim", 1), ("hidden_dim", least_hidden)):
        if not least <= getattr(config, name) <= _LARGEST:
            raise ConfigError(f"{name} {getattr(config, name)}: a {what} has {least} to {_LARGEST}")


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


class Correction(nn.Module):
    """What pairs add to a row that texts brought into the space: zero until it is trained, read from the tower's row.

        out = unit(carried + correction(standardised row))

    Training thus begins exactly where the connector ends, whatever kind it is, and weight decay draws back to it.

    Source: the starting point as what weights decay to, Li et al. 2018 (L2-SP), https://arxiv.org/abs/1802.01483.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, config: CorrectionConfig) -> None:
        super().__init__()
        self.config = config
        wide, out, hidden = config.feature_dim, config.embed_dim, config.hidden_dim
        self.register_buffer("mean", torch.zeros(wide))
        self.register_buffer("scale", torch.ones(wide))
        self.linear = nn.Linear(wide, out)
        self.hidden: nn.Sequential | None = None
        last = [self.linear]
        if hidden:
            last.append(nn.Linear(hidden, out, bias=False))
            self.hidden = nn.Sequential(nn.Linear(wide, hidden), nn.GELU(), nn.Dropout(config.dropout), last[1])
        for layer in last:
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.linear.bias)

    @torch.no_grad()
    def standardise(self, rows: Tensor) -> None:
        """Take mean and deviation of training rows (N, feature_dim)."""
        self.mean.copy_(rows.mean(dim=0))
        self.scale.copy_(1 / (rows.std(dim=0, correction=0) + 1e-3))

    def forward(self, rows: Tensor, carried: Tensor) -> Tensor:
        """Map rows of the tower (B, feature_dim), carried to (B, embed_dim), to (B, embed_dim) unit rows."""
        x = (rows - self.mean) * self.scale
        added: Tensor = self.linear(x)
        if self.hidden is not None:
            added = added + self.hidden(x)
        return F.normalize(carried + added, dim=-1)


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
