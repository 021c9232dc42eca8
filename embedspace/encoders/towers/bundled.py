"""The networks that ship with the package, each as a tower of its own: `create_tower("minilm_l6")`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from embedspace.encoders.towers.backbone import WEIGHTS, Backbone, create_backbone
from embedspace.encoders.towers.base import Tower, TowerRequest, check_waveform
from embedspace.errors import ConfigError

__all__ = ["BundledTower", "create_bundled"]

_PREPROCESSING = {"version": 1}
"""Raised when `preprocess` or the pooling here changes what a vector is."""


class BundledTower(Tower):
    """One frozen network, and how its output becomes one row per item."""

    def __init__(self, name: str, network: Backbone, pool: Callable[[Any, list[Any]], torch.Tensor]) -> None:
        """Wrap a network.

        Args:
            name: Name that `create_backbone` knows.
            network: What it made.
            pool: Takes the network and N prepared items, returns (N, feature_dim).
        """
        files = {f"{name}.safetensors": WEIGHTS / f"{name}.safetensors"}
        super().__init__(name, (network.modality,), files=files, preprocessing=_PREPROCESSING)
        self.network = network
        self._pool = pool
        self.sample_rate = getattr(network, "sample_rate", None)
        self.image_size = getattr(network, "image_size", None)
        seconds = getattr(network, "max_seconds", None)
        self.window_seconds = None if seconds is None else float(seconds)
        self.freeze()

    def feature_dim(self, modality: str) -> int:
        """Return the width of the network's main output."""
        self.require(modality)
        return self.network.feature_dim

    def prepare(self, modality: str, media: Any) -> Any:  # noqa: ANN401
        """Run the network's own preprocessing."""
        self.require(modality)
        if self.sample_rate is not None:
            check_waveform(self, media)
        return self.network.preprocess(media)  # type: ignore[operator]

    def encode(self, modality: str, prepared: Sequence[Any], *, role: str = "document") -> torch.Tensor:
        """Return (N, feature_dim) float32; the role makes no difference."""
        del role
        self.require(modality)
        if not prepared:
            return torch.empty(0, self.network.feature_dim, device=self.device)
        return self._pool(self.network, list(prepared))

    def count_tokens(self, text: str) -> int:
        """Return the word pieces of a text with the marks of its windows; the network reads any number."""
        if "text" not in self.modalities:
            return super().count_tokens(text)
        windows: list[torch.Tensor] = self.network.preprocess(text)  # type: ignore[operator]
        return sum(len(window) for window in windows)


def _text(network: Any, texts: list[Any]) -> torch.Tensor:  # noqa: ANN401 - the networks' outputs differ
    pooled: torch.Tensor = network(texts).pooled
    return pooled


def _pictures(network: Any, pictures: list[Any]) -> torch.Tensor:  # noqa: ANN401
    device = next(network.parameters()).device
    pooled: torch.Tensor = network(torch.stack(pictures).to(device)).pooled
    return pooled


def _tagged(network: Any, sounds: list[Any]) -> torch.Tensor:  # noqa: ANN401
    """Mean over the patches of each sound."""
    device = next(network.parameters()).device
    pooled = network(torch.cat(sounds).to(device)).pooled.split([len(patches) for patches in sounds])
    return torch.stack([patches.mean(dim=0) for patches in pooled])


def _spoken(network: Any, clips: list[Any]) -> torch.Tensor:  # noqa: ANN401
    """Mean over the frames of each clip."""
    device = next(network.parameters()).device
    lengths = torch.tensor([clip.shape[1] for clip in clips], device=device)
    batch = torch.zeros(len(clips), clips[0].shape[0], int(lengths.max()), device=device)
    for row, clip in zip(batch, clips, strict=True):
        row[:, : clip.shape[1]] = clip
    heard = network(batch, lengths)
    mean: torch.Tensor = heard.last.sum(dim=1) / heard.mask.sum(dim=1, keepdim=True)
    return mean


_POOLS = {
    "minilm_l6": _text,
    "efficientnet_lite0": _pictures,
    "efficientnet_lite2": _pictures,
    "yamnet": _tagged,
    "whisper_base": _spoken,
}


def create_bundled(request: TowerRequest) -> BundledTower:
    """Make the tower of a bundled network.

    Raises:
        ConfigError: If no network has this name.
    """
    request.only()
    if request.place not in _POOLS:
        raise ConfigError(
            f"unknown tower {request.reference!r}; without a prefix it is a bundled network: {', '.join(_POOLS)}"
        )
    return BundledTower(request.place, create_backbone(request.place), _POOLS[request.place])
