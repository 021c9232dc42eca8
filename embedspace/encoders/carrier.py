"""What brings a tower's rows into the shared space: a projection, a connector, a correction, each if there is one.

(B, feature_dim) -> projection, or unit length -> connector -> correction -> (B, embed_dim) unit rows
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn

from embedspace.encoders.connectors import Connector, load_connector
from embedspace.encoders.trained import Correction, Projection, load_correction, load_projection
from embedspace.errors import WeightsError

__all__ = ["Carrier", "load_carrier"]


class Carrier(nn.Module):
    """One modality's way from a tower into the space."""

    def __init__(
        self,
        feature_dim: int,
        modality: str,
        *,
        projection: Projection | None = None,
        connector: Connector | None = None,
        correction: Correction | None = None,
        whose: str = "the tower",
    ) -> None:
        """Put the parts together.

        Args:
            feature_dim: Width of the tower's rows.
            modality: Modality of all rows; a connector subtracts its centre.
            projection: From the tower's rows; none: they are brought to unit length.
            connector: From unit rows of the tower's own space, or of the projection's.
            correction: What pairs taught beyond that.
            whose: The tower, for messages.

        Raises:
            WeightsError: If the width of one part is not what the next one takes.
        """
        super().__init__()
        self.modality = modality
        self.projection, self.connector, self.correction = projection, connector, correction
        width = feature_dim
        if projection is not None:
            width = _next_width(width, projection.feature_dim, projection.embed_dim, whose, "projection")
        if connector is not None:
            width = _next_width(width, connector.config.in_dim, connector.config.embed_dim, whose, "connector")
        if correction is not None:
            _next_width(feature_dim, correction.config.feature_dim, width, whose, "correction")
            _next_width(width, correction.config.embed_dim, width, whose, "correction")
        self.embed_dim = width

    def train(self, mode: bool = True) -> Self:
        """Switch dropout of the correction, the one part that is ever trained here."""
        super().train(False)
        if self.correction is not None:
            self.correction.train(mode)
        return self

    def forward(self, rows: Tensor) -> Tensor:
        """Map (B, feature_dim) rows of the tower to (B, embed_dim) unit rows."""
        rows = rows.float()
        made: Tensor = F.normalize(rows, dim=-1) if self.projection is None else self.projection(rows)
        if self.connector is not None:
            made = self.connector(made, self.modality)
        if self.correction is not None:
            made = self.correction(rows, made)
        return made


def load_carrier(
    folder: Path,
    feature_dim: int,
    modality: str,
    *,
    projection: str = "",
    connector: str = "",
    correction: str = "",
    whose: str = "the tower",
) -> Carrier:
    """Open the parts that a section of a space's configuration names, frozen.

    Args:
        folder: The space's.
        feature_dim: Width of the tower's rows.
        modality: Whose section it is.
        projection: Its file; "" for none.
        connector: Its files without their suffix; "" for none.
        correction: Its file; "" for none.
        whose: The tower, for messages.

    Raises:
        WeightsError: If a file is missing or corrupt, or the parts do not fit together.
        ConfigError: If a connector's configuration is not one.
    """
    stem = folder / connector
    return Carrier(
        feature_dim,
        modality,
        projection=load_projection(folder / projection) if projection else None,
        connector=load_connector(stem.parent, stem.name) if connector else None,
        correction=load_correction(folder / correction) if correction else None,
        whose=whose,
    )


def _next_width(width: int, takes: int, makes: int, whose: str, what: str) -> int:
    """Return the width after a part; a part that takes another width is refused."""
    if takes != width:
        raise WeightsError(
            f"{whose} makes rows {width} wide, its {what} takes {takes}: the two do not fit; make the {what} anew"
        )
    return makes
