"""The one contract of every encoder, and the registry that a modality keys."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from embedspace.encoders.quantize import from_rows, to_rows8
from embedspace.errors import ConfigError, WeightsError
from embedspace.files import replacing
from embedspace.media.source import one_line
from embedspace.modality import Modality

__all__ = ["Encoder", "Piece", "create_encoder", "load_strict", "register_encoder", "save_tensors"]


@dataclass(slots=True)
class Piece:
    """One segment of a decoded item, ready for its encoder.

    Attributes:
        modality: Value of the `Modality` whose encoder takes it.
        content: What `Encoder.prepare` returned: tensors, no model was run.
        start: Seconds or characters from the start of the item; None for a whole image.
        end: As `start`.
        text: What it says, where that is known.
        label: The field it comes from.
        optional: Encode it only if the router hears speech in the span.
    """

    modality: str
    content: Any
    start: float | None = None
    end: float | None = None
    text: str = ""
    label: str = ""
    optional: bool = False


class Encoder(nn.Module, ABC):
    """Frozen backbones plus a trained head: one segment in, one unit row of the shared space out.

    `prepare` is pure CPU work on decoded media and safe in threads; `encode` runs the networks. The vector of a
    segment does not depend on what is encoded beside it (within 1e-5).
    """

    embed_dim: int

    @abstractmethod
    def prepare(self, media: Any) -> Any:  # noqa: ANN401 - each modality has its own decoded form
        """Turn one segment of decoded media into tensors."""

    @abstractmethod
    def encode(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        """Return (N, embed_dim) float32 unit rows for N prepared segments."""


Factory = Callable[[dict[str, Any], Path], Encoder]
_FACTORIES: dict[Modality, Factory] = {}
_MODULES = {m: f"embedspace.encoders.shipped.{m.value}" for m in Modality}


def register_encoder(modality: Modality) -> Callable[[Factory], Factory]:
    """Register the factory `(config, folder) -> Encoder` of a modality."""

    def register(factory: Factory) -> Factory:
        _FACTORIES[modality] = factory
        return factory

    return register


def create_encoder(modality: Modality, config: dict[str, Any], folder: Path) -> Encoder:
    """Make the encoder of a modality with its weights.

    Args:
        modality: Which.
        config: Its section of the space's config.json.
        folder: The space's folder, which holds `<modality>.safetensors`.

    Raises:
        ConfigError: If the configuration has an unknown or missing key.
        WeightsError: If the weights are missing, corrupt or of another shape.
    """
    if modality not in _FACTORIES:
        import importlib

        importlib.import_module(_MODULES[modality])
    try:
        return _FACTORIES[modality](config, folder)
    except (TypeError, KeyError) as error:
        raise ConfigError(
            f"{folder / 'config.json'}: section {modality.value!r} does not fit the encoder: {error!r}"
        ) from error


def load_strict(module: nn.Module, path: Path) -> None:
    """Load a safetensors file into a module, cast to float32, every tensor accounted for.

    Raises:
        WeightsError: If the file is missing, corrupt, or holds other tensors than the module.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights; name a folder that EmbeddingSpace.save wrote")
    try:
        tensors = {k: v.float() if v.is_floating_point() else v for k, v in from_rows(load_file(path)).items()}
        module.load_state_dict(tensors, strict=True, assign=True)
    except (SafetensorError, RuntimeError, KeyError, OSError) as error:
        raise WeightsError(
            f"{path}: these weights do not fit the configuration beside them: {one_line(error)}"
        ) from error
    module.requires_grad_(False).eval()


def save_tensors(
    module: nn.Module, path: Path, pack: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] = to_rows8
) -> None:
    """Write a module's tensors to a safetensors file, atomically: as `pack` stores them, by default in 8-bit rows."""
    tensors = {k: v.clone() for k, v in pack({k: v.detach() for k, v in module.state_dict().items()}).items()}
    with replacing(path) as partial:
        save_file(tensors, partial)
        partial.chmod(0o644)


def to_rows(vectors: torch.Tensor) -> NDArray[np.float32]:
    """Return a tensor of unit rows as a float32 array."""
    rows: NDArray[np.float32] = vectors.detach().cpu().numpy().astype(np.float32, copy=False)
    return rows
