"""What determines a connector besides its weights."""

from __future__ import annotations

from dataclasses import dataclass

from embedspace.errors import ConfigError

__all__ = ["ANCHORED", "LINEAR", "METHODS", "TEXT", "ConnectorConfig"]

METHODS = ("identity", "procrustes", "ridge", "anchors", "blend", "sparse", "mlp")
"""What a connector can be; see `embedspace.train.connect`."""
LINEAR = ("procrustes", "ridge", "blend", "sparse", "mlp")
"""Those with a linear map."""
ANCHORED = ("anchors", "blend", "sparse")
"""Those that keep the shared texts."""
TEXT = "text"
_WIDEST = 1 << 16


@dataclass(frozen=True)
class ConnectorConfig:
    """What determines a connector besides its weights.

    Attributes:
        method: One of `METHODS`.
        in_dim: Width of the space that rows come from.
        embed_dim: Width of the space that they go to.
        modalities: Those with a centre of their own; "text" is the first, and serves all that are not named.
        anchors: Shared texts that are kept; 0 for methods without.
        neighbours: Nearest shared texts that take part, 1 to `anchors`.
        temperature: Divides their cosines.
        share: Weight of what they say, 0 to 1, and the base has the rest; for sparse, weight of the base's part.
        hidden_dim: Width of the MLP's hidden layer; 0 for methods without.
        penalty: Method sparse only: how much the combination's weights cost, above 0.
    """

    method: str
    in_dim: int
    embed_dim: int
    modalities: tuple[str, ...] = (TEXT,)
    anchors: int = 0
    neighbours: int = 0
    temperature: float = 0.1
    share: float = 1.0
    hidden_dim: int = 0
    penalty: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what no connector can be."""
        if self.method not in METHODS:
            raise ConfigError(f"connector method {self.method!r}: known are {', '.join(METHODS)}")
        for name in ("in_dim", "embed_dim"):
            if not 1 <= getattr(self, name) <= _WIDEST:
                raise ConfigError(f"connector {name} {getattr(self, name)}: must be 1 to {_WIDEST}")
        if self.method == "identity" and self.in_dim != self.embed_dim:
            raise ConfigError(
                f"connector identity from width {self.in_dim} to {self.embed_dim}: a space is only its own equal; "
                "fit a connector with method procrustes or blend"
            )
        if not self.modalities or self.modalities[0] != TEXT or len(set(self.modalities)) < len(self.modalities):
            raise ConfigError(f"connector modalities {self.modalities}: 'text' comes first, and none stands twice")
        if self.has_anchors and not 1 <= self.neighbours <= self.anchors:
            raise ConfigError(f"connector neighbours {self.neighbours}: must be 1 to its anchors, {self.anchors}")
        if not self.temperature > 0 or not 0 <= self.share <= 1:
            raise ConfigError(f"connector temperature {self.temperature} must be above 0, share {self.share} 0 to 1")
        if not self.penalty > 0:
            raise ConfigError(f"connector penalty {self.penalty}: must be above 0")
        if (self.method == "mlp") != (self.hidden_dim > 0):
            raise ConfigError(
                f"connector method {self.method} with hidden_dim {self.hidden_dim}: for mlp alone, above 0"
            )

    @property
    def has_anchors(self) -> bool:
        """Whether it keeps shared texts."""
        return self.method in ANCHORED
