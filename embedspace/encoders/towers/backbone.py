"""What a backbone is, how one is made by name, and how its weights are read.

A backbone is a frozen network with two separate halves: `preprocess`, which turns one decoded item into tensors (no
model, safe in threads), and `forward`, which takes a batch of them. A file of weights is one safetensors file that is
the whole model: half-precision tensors plus, in its metadata, the configuration they need.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import nn

from embedspace.encoders.backbones import WEIGHTS, open_backbone, shared_backbones, shared_now
from embedspace.encoders.quantize import from_rows
from embedspace.errors import ConfigError, WeightsError
from embedspace.plugins import Registry

__all__ = [
    "WEIGHTS",
    "Backbone",
    "backbone_names",
    "create_backbone",
    "read_weights",
    "register_backbone",
    "shared_backbones",
]

Factory = Callable[[str, Path | None], "Backbone"]

_HERE = "embedspace.encoders.towers"
_BACKBONES: Registry[Factory] = Registry(
    "backbone",
    {
        "efficientnet_lite0": f"{_HERE}.efficientnet_lite",
        "efficientnet_lite2": f"{_HERE}.efficientnet_lite",
        "whisper_base": f"{_HERE}.whisper",
        "whisper_base_decoder": f"{_HERE}.whisper_decoder",
        "minilm_l6": f"{_HERE}.minilm",
        "yamnet": f"{_HERE}.yamnet",
        "resemblyzer": f"{_HERE}.resemblyzer",
        "timing": "embedspace.encoders.timing.network",
    },
)


class Backbone(nn.Module):
    """A frozen pretrained network.

    Attributes:
        modality: Value of the `Modality` it reads.
        name: Name it was made by.
        feature_dim: Width of its main output.
    """

    modality: ClassVar[str] = ""

    def __init__(self, name: str, feature_dim: int) -> None:
        """Name the network; a subclass adds its layers and ends with `freeze()`."""
        super().__init__()
        self.name = name
        self.feature_dim = feature_dim

    @classmethod
    def read(cls, name: str, weights: Path | None) -> Self:
        """Make the network that a file configures, with its weights; None is the shipped file.

        Raises:
            WeightsError: As `read_weights` and `load`.
        """
        tensors, config, path = read_weights(name, weights)
        with torch.device("meta"):
            model = cls(name, **config)
        return model.load(tensors, path)

    def freeze(self) -> Self:
        """Turn gradients and training behaviour off, for good."""
        self.requires_grad_(False)
        return self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: a frozen network inside a trained one must not change its behaviour."""
        return super().train(False)

    def channels_last(self) -> Self:
        """Store convolutions with channels innermost, the order in which oneDNN is fastest."""
        for parameter in self.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return self

    def load(self, tensors: dict[str, torch.Tensor], path: Path) -> Self:
        """Take the tensors as parameters, each cast to the precision of the one it replaces.

        Args:
            tensors: Name -> tensor, in any floating precision; integer tensors must match exactly.
            path: Where they come from, for messages.

        Raises:
            WeightsError: If a tensor is missing, left over, or of another shape or kind.
        """
        wanted = self.state_dict()
        problems = [f"missing {key}" for key in sorted(wanted.keys() - tensors.keys())]
        problems += [f"unexpected {key}" for key in sorted(tensors.keys() - wanted.keys())]
        for key in sorted(wanted.keys() & tensors.keys()):
            have, want = tensors[key], wanted[key]
            if have.shape != want.shape:
                problems.append(f"{key} is {tuple(have.shape)}, should be {tuple(want.shape)}")
            elif have.is_floating_point() != want.is_floating_point():
                problems.append(f"{key} is {have.dtype}, should be {want.dtype}")
        if problems:
            more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
            raise WeightsError(f"{path}: not the weights of backbone {self.name!r}: {'; '.join(problems[:3])}{more}")
        self.load_state_dict({key: tensors[key].to(wanted[key].dtype) for key in wanted}, strict=True, assign=True)
        return self.freeze()


def register_backbone(name: str) -> Callable[[Factory], Factory]:
    """Register a factory `(name, weights) -> Backbone` under a name.

    Raises:
        ConfigError: If the name is taken by another factory.
    """
    return _BACKBONES.register(name)


def backbone_names() -> list[str]:
    """Return every name that `create_backbone` knows."""
    return _BACKBONES.names()


def create_backbone(name: str, weights: str | Path | None = None) -> Backbone:
    """Make a frozen backbone on the CPU in float32; within `shared_backbones`, at most once.

    Args:
        name: A registered name; networks of other libraries are towers: `create_tower`.
        weights: Safetensors file; None takes the one that ships with embedspace.

    Raises:
        ConfigError: If no backbone has this name.
        WeightsError: If the weights are missing, corrupt, or another network's.
    """
    shared = shared_now() if weights is None else None
    if shared is not None and name in shared:
        known: Backbone = shared[name]
        return known
    factory = _BACKBONES.get(name)
    if factory is None:
        raise ConfigError(f"unknown backbone {name!r}; known: {', '.join(backbone_names())}")
    made = factory(name, None if weights is None else Path(weights))
    if shared is not None:
        shared[name] = made
    return made


def read_weights(name: str, path: Path | None) -> tuple[dict[str, torch.Tensor], dict[str, Any], Path]:
    """Read one backbone's file.

    Args:
        name: Name of the backbone, which the file must carry.
        path: The file; None is the shipped one.

    Returns:
        Tensors as stored (mapped from the file, not yet cast), the configuration, and the path.

    Raises:
        WeightsError: If there is no such file, it is corrupt, or it holds another backbone.
    """
    with open_backbone(name, path, "pt") as (file, config, found):
        return from_rows({key: file.get_tensor(key) for key in file.keys()}), config, found
