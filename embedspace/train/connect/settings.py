"""How a connector is fitted, and what a fit reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from embedspace.encoders.connectors import METHODS, Connector
from embedspace.errors import ConfigError

__all__ = ["ConnectReport", "ConnectSettings", "FittedConnector"]


@dataclass(frozen=True)
class ConnectSettings:
    """How to fit.

    Attributes:
        method: One of `embedspace.encoders.connectors.METHODS`.
        held_out: Share of the texts, at most 1,000, on which settings are chosen and recall is measured.
        focus: Texts near the unlabelled media count more: the temperature of their weights, exp(cosine with the
            nearest medium / focus); 0, or no media, and all count alike.
        strengths: Ridges to choose from, as multiples of the mean variance of the source's dimensions.
        neighbours: Nearest shared texts that take part.
        temperatures: Softmax temperatures of their cosines to choose from.
        shares: Weights of what they say beside the rotation, to choose from.
        atoms: Nearest shared texts that sparse combines.
        penalties: Costs of its weights to choose from.
        rest_shares: Weights of the rotation of what its combination leaves, to choose from.
        hidden_dim: Width of the MLP's hidden layer.
        steps: Steps of its training.
        batch_size: Texts per step.
        learning_rate: Peak, of AdamW.
        loss_temperature: Temperature of InfoNCE.
        window: Negatives that take part: their similarity as a share of the positive's, lowest and highest.
        noise: Length of the noise that is added to the source's unit rows in training.
        seed: Seed of the held-out texts and of the training.
    """

    method: str = "blend"
    held_out: float = 0.1
    focus: float = 0.2
    strengths: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0)
    neighbours: int = 50
    temperatures: tuple[float, ...] = (0.03, 0.05, 0.1, 0.2)
    shares: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    atoms: int = 400
    penalties: tuple[float, ...] = (0.05, 0.1, 0.15)
    rest_shares: tuple[float, ...] = (0.25, 0.5, 0.75)
    hidden_dim: int = 1024
    steps: int = 1500
    batch_size: int = 512
    learning_rate: float = 5e-4
    loss_temperature: float = 0.07
    window: tuple[float, float] = (0.1, 0.9)
    noise: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that nothing can be fitted with."""
        if self.method not in METHODS:
            raise ConfigError(f"method {self.method!r}: known are {', '.join(METHODS)}")
        if not 0 < self.held_out < 1:
            raise ConfigError(f"held_out {self.held_out}: a share of the texts, above 0 and below 1")
        if not self.focus >= 0:
            raise ConfigError(f"focus {self.focus}: a temperature of at least 0")
        if min(self.neighbours, self.atoms, self.hidden_dim, self.steps, self.batch_size) < 1:
            raise ConfigError("neighbours, atoms, hidden_dim, steps and batch_size must be at least 1")
        if not (self.strengths and self.temperatures and self.shares and self.penalties and self.rest_shares):
            raise ConfigError("strengths, temperatures, shares, penalties and rest_shares: give at least one of each")


@dataclass(frozen=True)
class ConnectReport:
    """What a fit found.

    Attributes:
        method: As fitted.
        texts: Distinct shared texts that were fitted in the end.
        held_out: Texts that chose the settings; recall is theirs, of a fit without them. They are the gallery, too.
        recall_at_1: Share of them whose connected vector finds their own target vector first.
        recall_at_10: The same among the first ten.
        chance_at_10: `recall_at_10` of random rankings.
        chosen: Setting -> value chosen on the held-out texts.
        media: Modality -> vectors that gave its centre.
    """

    method: str
    texts: int
    held_out: int
    recall_at_1: float
    recall_at_10: float
    chance_at_10: float
    chosen: Mapping[str, float] = field(default_factory=dict)
    media: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class FittedConnector:
    """A connector, and how well it connects texts that its settings were chosen on and a like fit did not see."""

    connector: Connector
    report: ConnectReport
