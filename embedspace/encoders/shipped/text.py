"""Text of any length -> the shared space: frozen MiniLM, then the text projection that everything else is aligned to.

Words are encoded in numpy, so that a search by words starts at once: importing torch takes a hundred times as long as
a query. Many texts are torch's: its kernels take two thirds of numpy's time.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.encoders.backbones import shared_backbones, shared_now
from embedspace.encoders.contract import MediaEncoder
from embedspace.encoders.registry import register_encoder
from embedspace.encoders.words.network import NumpyLinearProjection, NumpyMiniLM
from embedspace.encoders.words.threads import one_thread

__all__ = ["TextEncoder"]

_NUMPY_BACKBONE = "minilm_l6"
_FEW_PIECES = 256
"""Up to so many word pieces at once are a query or two: numpy's, in one thread."""
_PART_PIECES = 512
"""Word pieces of a part, where one text has no more: parts are encoded side by side."""
_IMPORT_PIECES = 16_384
"""Word pieces after which torch has won back the time of its import."""


class TextEncoder(MediaEncoder):
    """MiniLM-L6 and the text projection, in numpy; the rows of torch's network are the same within 1e-5."""

    may_halve = True

    def __init__(self, config: dict[str, Any], folder: Path) -> None:
        """Read the weights.

        Args:
            config: The section of the space's configuration.
            folder: The space's folder.

        Raises:
            WeightsError: If they are missing, corrupt, or of other sizes than the configuration says.
        """
        self._config, self._folder = config, folder
        sizes = config["head"]["feature_dim"], config["head"]["embed_dim"], config["head"]["hidden_dim"]
        self.projection = NumpyLinearProjection.read(folder / "text.safetensors", sizes)
        self.embed_dim = self.projection.embed_dim
        self.backbone = NumpyMiniLM.read(config["backbone"])
        self._shared, self._lock = shared_now(), threading.Lock()
        self._network: MediaEncoder | None = None
        self._read = 0  # word pieces, of what is to be found

    def prepare(self, media: str) -> list[NDArray[np.int64]]:
        """Split a text into windows of word pieces, (pieces + 2,) int64 each, at most 256 long."""
        return self.backbone.pieces.windows(media)

    def unknown(self, text: str) -> list[str]:
        """Return the parts of a text that the vocabulary lacks."""
        return self.backbone.pieces.unknown(text)

    def words_of(self, text: str) -> list[list[str]]:
        """Return the pieces that each word is split into."""
        return self.backbone.pieces.words_of(text)

    def encode(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows; of many texts, torch is loaded for them."""
        self._read += _count(prepared)
        return self._encode(prepared, may_import=self.halved or self._read > _IMPORT_PIECES, halved=self.halved)

    def encode_query(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows; torch is never loaded for them."""
        return self._encode(prepared, may_import=False)

    def _encode(self, prepared: Sequence[Any], *, may_import: bool, halved: bool = False) -> NDArray[np.float32]:
        if not prepared:
            return np.empty((0, self.embed_dim), np.float32)
        if _count(prepared) <= _FEW_PIECES:
            with one_thread():
                return self.projection(self.backbone(prepared))
        if may_import or "torch" in sys.modules:
            network = self._in_torch()
            network.halved = halved
            return np.concatenate(network.map_parts(network.encode, _parts(prepared)))
        return self.projection(self.backbone(prepared))

    def on_device(self, device: str) -> MediaEncoder:
        """Return itself for the processor, the network of torch for any other device."""
        return self if device == "cpu" else self._in_torch().on_device(device)

    def _in_torch(self) -> MediaEncoder:
        from embedspace.encoders.shipped.text_network import load_text_network

        with self._lock, shared_backbones({} if self._shared is None else self._shared):
            if self._network is None:
                self._network = load_text_network(self._config, self._folder)
            return self._network


def _parts(prepared: Sequence[Any]) -> list[list[Any]]:
    """Divide texts, in their order, into parts of at most `_PART_PIECES` word pieces."""
    parts: list[list[Any]] = [[]]
    pieces = 0
    for text in prepared:
        pieces += (own := _count([text]))
        if parts[-1] and pieces > _PART_PIECES:
            parts.append([])
            pieces = own
        parts[-1].append(text)
    return parts


def _count(prepared: Sequence[Any]) -> int:
    return sum(len(window) for text in prepared for window in text)


@register_encoder("shipped.text")
def _create(config: dict[str, Any], folder: Path, modality: str) -> MediaEncoder:
    if config["backbone"] == _NUMPY_BACKBONE:
        return TextEncoder(config, folder)
    from embedspace.encoders.shipped.text_network import load_text_network

    return load_text_network(config, folder)
