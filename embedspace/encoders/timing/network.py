"""Two small networks that write down when something strikes: one of what is seen, one of what is heard.

Both are convolutions over time, so that what comes a moment later is written a moment later. A row is the curve that a
network writes, in 64 steps of a window, its mean taken out, of unit length: the product of two rows says how well the
times agree.

Source: two-stream networks trained by matching and mismatching shifts: Korbar et al. 2018, "Cooperative Learning of
    Audio and Video Models from Self-Supervised Synchronization"; Owens & Efros 2018 (https://arxiv.org/abs/1804.03641).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from embedspace.encoders.timing.profiles import BANDS, HOPS, SECONDS, TICKS
from embedspace.encoders.towers.backbone import Backbone, register_backbone

__all__ = ["STEPS", "TimingNetwork", "moments_to_steps"]

STEPS = 64
"""Numbers of a row: 62.5 ms each."""
_SMOOTH = 0.05
"""Seconds: standard deviation of the curve that a strike becomes."""
_LISTENED = 32


class _Axis(nn.Module):
    """One axis' profile over time -> what is at each tick, wherever on the axis it is."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels // 3, (5, 5), (3, 1), padding=(2, 2))
        self.second = nn.Conv2d(channels // 3, 2 * channels // 3, (3, 5), (2, 1), padding=(1, 2))
        self.third = nn.Conv2d(2 * channels // 3, channels, (3, 3), (2, 1), padding=(1, 1))

    def forward(self, profile: torch.Tensor) -> torch.Tensor:
        """(B, 3, places, T) -> (B, 2 * channels, T)."""
        x = functional.relu(self.first(profile))
        x = functional.relu(self.second(x))
        x = functional.relu(self.third(x))
        return torch.cat([x.amax(dim=2), x.mean(dim=2)], dim=1)


class TimingNetwork(Backbone):
    """The two networks."""

    modality = "motion"

    def __init__(self, name: str, *, feature_dim: int = STEPS, channels: int = 24, hidden_dim: int = 48) -> None:
        """Build the layers; weights come from `load`.

        Args:
            name: Name it was made by.
            feature_dim: Width of a row: steps of a window.
            channels: Of what is told from a profile.
            hidden_dim: Of the layers over time.
        """
        super().__init__(name, feature_dim)
        self.rows, self.columns = _Axis(channels), _Axis(channels)
        self.seen = nn.Sequential(
            nn.Conv1d(4 * channels, hidden_dim, 5, padding=2), nn.ReLU(),
            nn.Conv1d(hidden_dim, hidden_dim, 5, padding=4, dilation=2), nn.ReLU(),
            nn.Conv1d(hidden_dim, 1, 5, padding=2),
        )  # fmt: skip
        self.heard = nn.Sequential(
            nn.Conv1d(2 * BANDS, _LISTENED, 5, padding=2), nn.ReLU(),
            nn.Conv1d(_LISTENED, _LISTENED, 5, padding=2), nn.ReLU(),
            nn.Conv1d(_LISTENED, 1, 5, padding=2),
        )  # fmt: skip

    def see(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Return (B, feature_dim) unit rows of windows that are seen.

        Args:
            rows: (B, 3, 72, TICKS), see `profiles_of`.
            columns: (B, 3, 96, TICKS).
        """
        curve = self.seen(torch.cat([self.rows(rows), self.columns(columns)], dim=1))[:, 0]
        return _unit(functional.softplus(curve) @ moments_to_steps(TICKS, self.feature_dim).to(curve))

    def hear(self, bands: torch.Tensor) -> torch.Tensor:
        """Return (B, feature_dim) unit rows of windows that are heard.

        Args:
            bands: (B, BANDS, HOPS), see `bands_of`.
        """
        risen = functional.pad(bands[:, :, 2:] - bands[:, :, :-2], (2, 0))
        curve = self.heard(torch.cat([bands, risen], dim=1))[:, 0]
        return _unit(functional.softplus(curve) @ moments_to_steps(HOPS, self.feature_dim).to(curve))


@lru_cache(maxsize=4)
def moments_to_steps(count: int, steps: int) -> torch.Tensor:
    """Return (count, steps) shares by which moments, evenly spaced in a window, become its steps."""
    moments = (torch.arange(count) + 0.5) * (SECONDS / count)
    middles = (torch.arange(steps) + 0.5) * (SECONDS / steps)
    shares = torch.exp(-0.5 * ((moments[:, None] - middles) / _SMOOTH).square())
    return shares / shares.sum(dim=0)


def _unit(curve: torch.Tensor) -> torch.Tensor:
    return functional.normalize(curve - curve.mean(dim=1, keepdim=True), dim=1)


@register_backbone("timing")
def _create(name: str, weights: Path | None) -> TimingNetwork:
    return TimingNetwork.read(name, weights)
