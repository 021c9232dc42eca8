"""Modules that training adds behind a tower: a projection into the shared space, and a correction of its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedspace.encoders.projections import KernelProjection, LinearProjection, MLPProjection, class_mixture
from embedspace.errors import ConfigError

__all__ = ["Correction", "CorrectionConfig", "Projection", "ProjectionConfig"]

_LARGEST = 1 << 16


@dataclass(frozen=True, slots=True)
class ProjectionConfig:
    """Kind and sizes of a projection.

    Attributes:
        projection: "linear": a linear map of the unit rows, with a small residual branch if `hidden_dim` is not 0;
            "mlp": one hidden layer on the standardised rows; "kernel": what training items with like rows are
            (`KernelProjection`).
        feature_dim: Width of the tower's rows.
        embed_dim: Width of the shared space.
        hidden_dim: Width of the hidden layer.
        dropout: While training.
        classes: How many of a row's last numbers are scores of classes; 0 where none are. Their names' vectors, mixed
            by the scores, are a start in the space.
        temperature: Divides the scores.
        top_k: Classes that take part, the likeliest.
        items: Kernel only: training items that it keeps.
        basis_dim: Kernel only: principal directions that items are compared in.
        bandwidth: Bandwidth of a kernel exp(bandwidth * (cosine - 1)).
        prior_share: Kernel only: weight of the classes' names beside what it reads out.
    """

    projection: Literal["linear", "mlp", "kernel"]
    feature_dim: int
    embed_dim: int
    hidden_dim: int = 512
    dropout: float = 0.0
    classes: int = 0
    temperature: float = 2.0
    top_k: int = 10
    items: int = 0
    basis_dim: int = 0
    bandwidth: float = 2.0
    prior_share: float = 0.0

    def __post_init__(self) -> None:
        """Refuse sizes that no weights belong to."""
        kernel = self.projection == "kernel"
        _check_sizes(self, "projection", int(self.projection == "mlp"))
        for name, least in (("classes", 0), ("items", int(kernel)), ("basis_dim", int(kernel))):
            if not least <= getattr(self, name) <= _LARGEST:
                raise ConfigError(f"{name} {getattr(self, name)}: a projection has {least} to {_LARGEST}")
        if self.classes and self.projection == "linear":
            raise ConfigError("a linear projection takes no names of classes; use mlp or kernel")
        if self.classes > self.feature_dim:
            raise ConfigError(f"{self.classes} classes in rows {self.feature_dim} wide")
        if not self.temperature > 0 or self.top_k < 1:
            raise ConfigError(f"temperature {self.temperature} must be above 0, top_k {self.top_k} at least 1")

    @property
    def seen_dim(self) -> int:
        """How many of a row's numbers are features: all but the scores of classes; all if there is nothing else."""
        return self.feature_dim - self.classes or self.feature_dim


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

    class_vectors: Tensor

    def __init__(self, config: ProjectionConfig) -> None:
        super().__init__()
        self.config = config
        width, out, named = config.seen_dim, config.embed_dim, bool(config.classes)
        self.layers: MLPProjection | LinearProjection | KernelProjection
        if config.projection == "kernel":
            sizes = {"bandwidth": config.bandwidth, "prior_share": config.prior_share}
            self.layers = KernelProjection(width, out, config.basis_dim, config.items, **sizes)
        elif config.projection == "mlp":
            self.layers = MLPProjection(width, out, config.hidden_dim, config.dropout, with_prior=named)
        else:
            self.layers = LinearProjection(width, out, config.hidden_dim, config.dropout)
        if named:
            self.register_buffer("class_vectors", torch.zeros(config.classes, out))

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
        if isinstance(self.layers, MLPProjection):
            seen = rows[:, : self.config.seen_dim]
            self.layers.mean.copy_(seen.mean(dim=0))
            self.layers.scale.copy_(1 / (seen.std(dim=0, correction=0) + 1e-3))

    def prior(self, rows: Tensor) -> Tensor:
        """Mix the classes' names by the scores in (B, feature_dim) rows: (B, embed_dim) unit rows, zeros without."""
        config = self.config
        if not config.classes:
            return rows.new_zeros(len(rows), config.embed_dim)
        scores = rows[:, -config.classes :]
        return class_mixture(scores, self.class_vectors, config.temperature, min(config.top_k, config.classes))

    def forward(self, rows: Tensor) -> Tensor:
        """Map (B, feature_dim) rows to (B, embed_dim) unit rows."""
        seen = rows[:, : self.config.seen_dim]
        out: Tensor
        if isinstance(self.layers, LinearProjection):
            out = self.layers(F.normalize(seen, dim=-1))
        elif isinstance(self.layers, MLPProjection) and not self.config.classes:
            out = self.layers(seen)
        else:
            out = self.layers(seen, self.prior(rows))
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
