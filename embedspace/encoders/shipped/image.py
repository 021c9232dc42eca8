"""Pictures -> the shared space: frozen EfficientNets, names of classes, projections; tuned networks beside."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from embedspace.encoders.base import Encoder, load_module, to_rows
from embedspace.encoders.projections import NamedProjections, class_mixture, ensemble_normalize, fuse
from embedspace.encoders.registry import register_encoder
from embedspace.encoders.shipped.image_features import ImageFrontEnd
from embedspace.encoders.shipped.image_network import TunedNetworks, load_networks
from embedspace.errors import ConfigError, WeightsError
from embedspace.media.pixels import cropped

if TYPE_CHECKING:
    from embedspace.encoders.shipped.image_session import ImageSessions

__all__ = ["ImageConfig", "ImageEncoder", "ImageProjections", "load_image_projections"]


_MAX_NETWORK_SIZE = 1024
_MANY = 32
"""Pictures after which sessions of onnxruntime win back the seconds that they take to open."""


@dataclass(frozen=True)
class ImageConfig:
    """What determines the projections of pictures besides their weights.

    Attributes:
        backbones: Names, in the order of the features.
        feature_dim: Width of the front end's features.
        embed_dim: Width of the shared space.
        hidden_dim: Hidden width of each projection.
        members: Projections of the ensemble.
        classes: Rows of the class table.
        temperature: Temperature of ConSE.
        top_k: Likeliest classes that ConSE takes.
        networks: Backbones whose shapes the tuned networks have; may be none.
        network_size: Side of the pictures they read.
        network_share: Weight of their mean in the sum, 0 to 1; the projections' has the rest.
    """

    backbones: tuple[str, ...]
    feature_dim: int
    embed_dim: int
    hidden_dim: int
    members: int
    classes: int = 1000
    temperature: float = 2.0
    top_k: int = 10
    networks: tuple[str, ...] = ()
    network_size: int = 160
    network_share: float = 0.0

    def __post_init__(self) -> None:
        """Refuse sizes that no weights belong to."""
        if not 1 <= self.network_size <= _MAX_NETWORK_SIZE:
            raise ConfigError(f"network_size {self.network_size}: the side of a picture is 1 to {_MAX_NETWORK_SIZE}")
        if not 1 <= self.top_k <= self.classes:
            raise ConfigError(f"top_k {self.top_k}: must be 1 to the number of classes, {self.classes}")


class ImageProjections(NamedProjections):
    """Features and class scores -> (B, embed_dim) unit rows. `classes` holds the class names' vectors in the space."""

    def __init__(self, config: ImageConfig) -> None:
        super().__init__(config.classes, config.feature_dim, config.embed_dim, config.hidden_dim, config.members)
        self.config = config

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """Return (B, embed_dim) unit rows."""
        prior = class_mixture(logits, self.classes, self.config.temperature, self.config.top_k)
        return ensemble_normalize([member(features, prior) for member in self.members])


class ImageEncoder(Encoder):
    """Front end and projections, and the tuned networks beside them."""

    min_side = 288  # the largest backbone looks at 260 pixels
    together = 4
    may_halve = False  # rows were seen at a cosine of .978, and onnxruntime is as fast in full precision

    def __init__(
        self,
        config: ImageConfig,
        projections: ImageProjections,
        tuned: Path | None = None,
        networks: TunedNetworks | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.embed_dim = config.embed_dim
        self.front = ImageFrontEnd(config.backbones, tuned)
        if self.front.feature_dim != config.feature_dim:
            raise WeightsError(
                f"projections for features {config.feature_dim} wide, but backbones {', '.join(config.backbones)} "
                f"{'with' if tuned else 'without'} image_tail.safetensors give {self.front.feature_dim}; "
                "restore the space's folder as training wrote it"
            )
        self.projections = projections
        self.networks = networks
        self._encoded, self._opening = 0, threading.Lock()
        self._sessions: ImageSessions | None = None

    def prepare(self, media: Image.Image) -> list[Tensor]:
        """Crop a picture to its content, and make a (3, side, side) tensor of it for each network."""
        rgb = cropped(media)
        inputs = self.front.preprocess(rgb)
        return [*inputs, self.networks.preprocess(rgb).half()] if self.networks else inputs

    def encode(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows; for many pictures sessions of onnxruntime are opened."""
        self._note(len(prepared))
        return self._encode(prepared)

    def encode_query(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows; no session is opened for them, which a server would hold for nothing."""
        return self._encode(prepared)

    @torch.inference_mode()
    def _encode(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        rows, others = self._encode_both(prepared)
        return to_rows(rows if others is None else fuse(rows, others, self.config.network_share))

    def _encode_both(self, prepared: Sequence[Any]) -> tuple[Tensor, Tensor | None]:
        """Return the projections' (N, embed_dim) unit rows and the tuned networks', None without one."""
        sessions = self._sessions if self.projections.classes.device.type == "cpu" else None
        rows = self.projections(*self.front(prepared, *((sessions.backbones, sessions.tail) if sessions else ())))
        if self.networks is None:
            return rows, None
        pixel_values = torch.stack([item[-1].to(rows.device).float() for item in prepared])
        return rows, self.networks.encode(pixel_values, sessions.bodies if sessions else None)

    def _note(self, count: int) -> None:
        """Open the sessions that run the networks in torch's place on a processor, once many pictures were encoded."""
        if self.projections.classes.device.type != "cpu":
            return
        with self._opening:
            before, self._encoded = self._encoded, self._encoded + count
            if before < _MANY <= self._encoded:
                from embedspace.encoders.shipped.image_session import ImageSessions

                self._sessions = ImageSessions.where_installed(self.front, self.networks)


def load_image_projections(config: Mapping[str, Any], folder: Path) -> ImageProjections:
    """Make a space's projections of pictures, frozen.

    Args:
        config: The image section of its configuration.
        folder: The space's folder.
    """
    names = {key: tuple(config.get(key, ())) for key in ("backbones", "networks")}
    parsed, path = ImageConfig(**{**config, **names}), folder / "image.safetensors"
    return load_module(lambda: ImageProjections(parsed), path)


@register_encoder("shipped.image")
def _create(config: dict[str, Any], folder: Path, modality: str) -> ImageEncoder:
    projections = load_image_projections(config, folder)
    parsed = projections.config
    tail = folder / "image_tail.safetensors"
    networks = None
    if parsed.networks:
        networks = load_networks(parsed.networks, parsed.embed_dim, parsed.network_size, folder)
    return ImageEncoder(parsed, projections, tail if tail.is_file() else None, networks)
