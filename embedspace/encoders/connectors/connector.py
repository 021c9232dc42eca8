"""Rows of one space to rows of another, and the files of it; the equations are in the package's docstring."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from embedspace.encoders.base import load_module, save_tensors, to_rows
from embedspace.encoders.connectors.config import LINEAR, TEXT, ConnectorConfig
from embedspace.encoders.connectors.lasso import nonnegative_lasso
from embedspace.errors import ConfigError, InputError, WeightsError
from embedspace.files import replacing

__all__ = ["Connector", "identity_connector", "load_connector", "save_connector"]

_CHUNK = 1024
"""Rows compared with the shared texts at once."""
_FORMAT = 1


class Connector(nn.Module):
    """Rows of one space -> rows of another; equations in the module's docstring.

    Args:
        config: Sizes and settings; weights are zeros until a fit or `load_connector` fills them.
    """

    centres: Tensor
    target_centre: Tensor
    target_scale: Tensor
    keys: Tensor
    values: Tensor

    def __init__(self, config: ConnectorConfig) -> None:
        super().__init__()
        self.config = config
        wide, out = config.in_dim, config.embed_dim
        self.linear: nn.Linear | None = None
        self.mlp: nn.Sequential | None = None
        if config.method == "identity":
            return
        self.register_buffer("centres", torch.zeros(len(config.modalities), wide))
        self.register_buffer("target_centre", torch.zeros(out))
        self.register_buffer("target_scale", torch.ones(()))
        if config.method in LINEAR:
            self.linear = nn.Linear(wide, out, bias=False)
        if config.method == "mlp":
            self.mlp = nn.Sequential(nn.Linear(wide, config.hidden_dim), nn.GELU(), nn.Linear(config.hidden_dim, out))
        if config.has_anchors:
            self.register_buffer("keys", torch.zeros(config.anchors, wide))
            self.register_buffer("values", torch.zeros(config.anchors, out))

    def centred(self, rows: Tensor, modality: str = TEXT) -> Tensor:
        """Subtract a modality's centre from (N, in_dim) rows: (N, in_dim) unit rows."""
        names = self.config.modalities
        return F.normalize(rows - self.centres[names.index(modality) if modality in names else 0], dim=-1)

    def base(self, x: Tensor) -> Tensor:
        """Map (N, in_dim) centred unit rows to (N, embed_dim) unit rows; zeros where there is no base."""
        if self.linear is None:
            return x.new_zeros(len(x), self.config.embed_dim)
        out = self.linear(x)
        return F.normalize(out if self.mlp is None else out + self.mlp(x), dim=-1)

    def from_anchors(self, x: Tensor) -> Tensor:
        """Read out of the shared texts what is nearest to (N, in_dim) centred unit rows: (N, embed_dim) unit rows."""
        parts = [x.new_zeros(0, self.config.embed_dim)]
        for rows in torch.split(x, _CHUNK):
            cosines, nearest = (rows @ self.keys.T).topk(self.config.neighbours, dim=1)
            weights = (cosines / self.config.temperature).softmax(dim=1)
            parts.append(F.normalize(torch.einsum("nk,nkd->nd", weights, self.values[nearest]), dim=-1))
        return torch.cat(parts)

    @torch.no_grad()
    def combined(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Write (N, in_dim) centred unit rows as sparse combinations of the shared texts nearest to them.

        Returns:
            What the combinations are in the target, (N, embed_dim), and what they leave of the rows, (N, in_dim).
        """
        explained, made = torch.zeros_like(x), x.new_zeros(len(x), self.config.embed_dim)
        for number, row in enumerate(x):
            nearest = (self.keys @ row).topk(self.config.neighbours).indices
            atoms = self.keys[nearest].double().cpu().numpy()
            found = nonnegative_lasso(atoms @ atoms.T, atoms @ row.double().cpu().numpy(), self.config.penalty)
            weights = torch.from_numpy(found).to(x)
            explained[number] = weights @ self.keys[nearest]
            made[number] = weights @ self.values[nearest]
        return made, x - explained

    def from_sparse(self, x: Tensor) -> Tensor:
        """Put the sparse combination of (N, in_dim) centred unit rows together in the target: (N, embed_dim) unit rows.

        One row at a time and in double precision, so that a row does not depend on its batch.
        """
        assert self.linear is not None
        made, left = self.combined(x)
        return F.normalize(made + self.config.share * self.linear(left), dim=-1)

    def mapped(self, x: Tensor) -> Tensor:
        """Map (N, in_dim) centred unit rows to (N, embed_dim) centred unit rows of the target."""
        if not self.config.has_anchors:
            return self.base(x)
        if self.config.method == "sparse":
            return self.from_sparse(x)
        if self.linear is None:
            return self.from_anchors(x)
        share = self.config.share
        return F.normalize((1 - share) * self.base(x) + share * self.from_anchors(x), dim=-1)

    def forward(self, rows: Tensor, modality: str = TEXT) -> Tensor:
        """Map (N, in_dim) unit rows to (N, embed_dim) unit rows; the identity returns the very tensor it is given.

        Args:
            rows: Rows of the space that this connector comes from.
            modality: What they show; its centre is subtracted, that of texts where it has none.
        """
        if self.config.method == "identity":
            return rows
        return F.normalize(self.target_centre + self.target_scale * self.mapped(self.centred(rows, modality)), dim=-1)

    @torch.inference_mode()
    def connect(self, rows: NDArray[np.float32], modality: str = TEXT) -> NDArray[np.float32]:
        """Map unit rows of one space to unit rows of the other.

        Args:
            rows: (N, in_dim) float32; a row that is not finite comes back as NaN.
            modality: What they show: "text", "image", "audio", ...

        Returns:
            (N, embed_dim) float32 unit rows. The identity returns the array that it is given, unchanged to the bit.

        Raises:
            InputError: If the rows have another width.
        """
        if rows.ndim != 2 or rows.shape[1] != self.config.in_dim:
            raise InputError(
                f"rows of shape {rows.shape} for a connector from width {self.config.in_dim} "
                f"to {self.config.embed_dim}: give (N, {self.config.in_dim})"
            )
        if self.config.method == "identity":
            return rows
        given = torch.from_numpy(np.ascontiguousarray(rows, np.float32)).to(self.centres.device)
        out = self(torch.nan_to_num(given, 0.0, 0.0, 0.0), modality)
        out[~torch.isfinite(given).all(dim=1)] = torch.nan
        return to_rows(out)

    def digest(self) -> str:
        """Return the hex SHA-256 of its configuration and weights as they are stored: a part of a fingerprint."""
        found = hashlib.sha256(_to_json(self.config).encode())
        for name, tensor in sorted(_as_stored(dict(self.state_dict())).items()):
            found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()

    def rounded(self) -> Connector:
        """Round its weights as they are stored and freeze it, so that a file gives back the same vectors to the bit."""
        stored = {name: tensor.float() for name, tensor in _as_stored(dict(self.state_dict())).items()}
        self.load_state_dict(stored)
        return self.requires_grad_(False).eval()


def identity_connector(embed_dim: int) -> Connector:
    """Return the connector of a space to itself: its vectors come back unchanged to the bit."""
    return Connector(ConnectorConfig("identity", embed_dim, embed_dim)).eval()


def _as_stored(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Store the shared texts, nearly all of a connector's size, in half precision; the rest as it is."""
    return {
        name: tensor.detach().half() if name in ("keys", "values") else tensor.detach().float()
        for name, tensor in tensors.items()
    }


def _to_json(config: ConnectorConfig) -> str:
    stored = {"format": _FORMAT, **dataclasses.asdict(config)}
    if config.method != "sparse":  # files and digests of the others stay as they were
        del stored["penalty"]
    return json.dumps(stored, indent=1)


def save_connector(connector: Connector, folder: Path, name: str = "connector") -> None:
    """Write `<name>.safetensors` (none for the identity) and `<name>.json` into a folder, each whole or not at all.

    Args:
        connector: As a fit or `rounded` returns it.
        folder: Made if it is missing.
        name: Stem of both files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if connector.config.method != "identity":
        save_tensors(connector, folder / f"{name}.safetensors", _as_stored)
    with replacing(folder / f"{name}.json") as partial:
        partial.write_text(_to_json(connector.config) + "\n", "utf-8")


def load_connector(folder: Path, name: str = "connector") -> Connector:
    """Open what `save_connector` wrote, frozen.

    Raises:
        ConfigError: If the configuration is unreadable, of a later format, or has a wrong key or value.
        WeightsError: If a file is missing or corrupt, or holds other tensors than the configuration says; that is
            seen before anything is allocated.
    """
    path = folder / f"{name}.json"
    try:
        stored = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise WeightsError(f"{path}: no such connector; name a folder that save_connector wrote") from error
    except ValueError as error:
        raise ConfigError(f"{path}: no JSON: {error}") from None
    config = _parsed(stored, path)
    if config.method == "identity":
        return identity_connector(config.embed_dim)
    weights = folder / f"{name}.safetensors"
    make: Callable[[], Connector] = lambda: Connector(config)  # noqa: E731
    return load_module(make, weights)


def _parsed(stored: Any, path: Path) -> ConnectorConfig:  # noqa: ANN401
    """Turn a connector's JSON into its configuration."""
    if not isinstance(stored, dict) or stored.pop("format", None) != _FORMAT:
        raise ConfigError(f"{path}: no connector of format {_FORMAT}; fit it again")
    try:
        return ConnectorConfig(**{**stored, "modalities": tuple(stored.get("modalities", (TEXT,)))})
    except TypeError as error:
        raise ConfigError(f"{path}: does not fit a connector: {error}") from None
