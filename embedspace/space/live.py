"""Towers that are modules or functions in memory, for `EmbeddingSpace.from_towers`."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from embedspace.encoders.tower import LIVE
from embedspace.encoders.towers.base import Tower
from embedspace.errors import InputError
from embedspace.modality import kind_of_modality

__all__ = ["LiveTower", "live_towers"]

_RATE = 16_000


class LiveTower(Tower):
    """One module or function that makes rows of one modality.

    It is called with a list of N prepared items and returns (N, width). Without a method `prepare` they are texts; RGB
    pictures of PIL; waveforms (T,) float32 in [-1, 1]; of another modality what its decoder makes. Attributes that
    it may have: `sample_rate` (Hz, 16,000 if it says none), `window_seconds`, `image_size`, `max_tokens` and the method
    `count_tokens(text)`, `feature_dim`, `digest`.
    """

    def __init__(self, modality: str, module: Callable[[list[Any]], Any]) -> None:
        """Wrap it; a module is put into evaluation mode and frozen."""
        kind = type(module) if isinstance(module, nn.Module) else module
        called = f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', type(module).__qualname__)}"
        super().__init__(f"{LIVE}{modality}:{called}", (modality,), preprocessing={"digest": _digest_of(module)})
        self.module = module  # a submodule where it is an nn.Module
        sound = kind_of_modality(modality) == "audio"
        self.sample_rate = int(getattr(module, "sample_rate", None) or _RATE) if sound else None
        self.window_seconds = getattr(module, "window_seconds", None)
        self.image_size = getattr(module, "image_size", None)
        self.max_tokens = getattr(module, "max_tokens", None)
        self._width = getattr(module, "feature_dim", None)
        self.freeze()

    def feature_dim(self, modality: str) -> int:
        """Return the width of its rows: what it says, else what comes of a small probe."""
        self.require(modality)
        if not isinstance(self._width, int):
            probe = self._probe(modality)
            with torch.inference_mode():
                self._width = int(self.encode(modality, [self.prepare(modality, probe)]).shape[1])
        return self._width

    def _probe(self, modality: str) -> Any:  # noqa: ANN401
        if modality == "text":
            return "a word"
        if modality == "image":
            return Image.new("RGB", (64, 64), (128, 128, 128))
        if self.sample_rate is not None:
            return (0.1 * np.random.default_rng(0).standard_normal(self.sample_rate)).astype(np.float32)
        raise InputError(f"{self.name}: give it an attribute feature_dim, the width of the rows that it makes")

    def prepare(self, modality: str, media: Any) -> Any:  # noqa: ANN401
        """Call its own `prepare`, if it has one."""
        own = getattr(self.module, "prepare", None)
        return own(media) if callable(own) else media

    def encode(self, modality: str, prepared: Sequence[Any], *, role: str = "document") -> torch.Tensor:
        """Return (N, feature_dim) float32; the role makes no difference.

        Raises:
            InputError: If it returns something else than N rows of numbers.
        """
        del role
        made = self.module(list(prepared))
        rows = made if isinstance(made, torch.Tensor) else torch.as_tensor(np.asarray(made, np.float32))
        if rows.ndim != 2 or len(rows) != len(prepared):
            raise InputError(
                f"{self.name}: returned shape {tuple(rows.shape)} for {len(prepared)} items; it must return "
                f"({len(prepared)}, width)"
            )
        return rows.float()

    def count_tokens(self, text: str) -> int:
        """Return what its own `count_tokens` says, or its number of words."""
        own = getattr(self.module, "count_tokens", None)
        return int(own(text)) if callable(own) else len(text.split())


def _digest_of(module: Any) -> str:  # noqa: ANN401
    """Return what its vectors are known by: its own `digest`, or its weights; a function without is known by name."""
    own = getattr(module, "digest", None)
    if isinstance(own, str) and own:
        return own
    if not isinstance(module, nn.Module):
        return ""
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        buffer = io.BytesIO()
        np.save(buffer, tensor.detach().cpu().float().numpy())
        total.update(buffer.getvalue())
    return total.hexdigest()


def live_towers(given: Mapping[str, Any]) -> dict[str, Tower]:
    """Return modality -> tower of what a caller gives: a `Tower`, or a module or function as `LiveTower` takes it.

    Raises:
        InputError: If one is neither, or their rows differ in width.
        UnknownModalityError: If a tower does not take its modality.
    """
    towers: dict[str, Tower] = {}
    for modality, module in given.items():
        if isinstance(module, Tower):
            module.require(modality)
            towers[modality] = module
        elif callable(module):
            towers[modality] = LiveTower(modality, module)
        else:
            raise InputError(f"{modality}: a tower is a module or a function; got {type(module).__name__}")
    widths = {modality: tower.feature_dim(modality) for modality, tower in towers.items()}
    if len(set(widths.values())) > 1:
        said = ", ".join(f"{modality} {width}" for modality, width in widths.items())
        raise InputError(f"towers of one space make rows of one width; got {said}: train a projection, or connect them")
    return towers
