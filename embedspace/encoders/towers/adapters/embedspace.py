"""The encoders of a space of this package as one tower: `embedspace:default`, or `embedspace:<folder>`.

So the shipped speech encoder can serve beside a CLIP and a CLAP in one composed space. It then brings the space's
router along: a tower of sound cannot say whether somebody speaks, the shipped encoder of sound can.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from embedspace.encoders.backbones import WEIGHTS, shared_backbones
from embedspace.encoders.contract import MediaEncoder
from embedspace.encoders.registry import create_encoder
from embedspace.encoders.towers.adapters.files import chosen_modalities
from embedspace.encoders.towers.base import Tower, TowerRequest, check_waveform
from embedspace.encoders.towers.registry import register_tower
from embedspace.errors import ConfigError, WeightsError

__all__ = ["SpaceTower"]

_DEFAULT = WEIGHTS.parent / "default"
_SAMPLE_RATE = 16_000
_IMAGE_SIDE = 288
"""What the shipped networks hear and see; an encoder that says otherwise is believed."""


class _Spoken(NamedTuple):
    """A window of speech, prepared, and the same as the router hears it: in one or more windows of sound."""

    speech: Any
    sounds: list[Any]


class SpaceTower(Tower):
    """Some encoders of one space; their rows are its unit vectors."""

    def __init__(self, request: TowerRequest, folder: Path, config: dict[str, Any]) -> None:
        """Take a space's folder and its configuration; encoders load when they are first used."""
        sections = {name: one for name, one in config["sections"].items() if one.get("type") != "pooled"}
        modalities = chosen_modalities(request, tuple(sections))
        lacking = [name for name in modalities if name not in sections]
        if lacking:
            raise ConfigError(f"tower {request.reference!r}: this space has no encoder of {', '.join(lacking)}")
        chosen = {name: sections[name] for name in modalities}
        super().__init__(
            request.reference,
            modalities,
            files=_files(folder, config),
            preprocessing={"format": config["format"], "sections": chosen},
        )
        self._folder, self._sections = folder, chosen
        self._routes = "speech" in modalities and "audio" not in modalities and "audio" in sections
        if self._routes:
            self._sections = {**chosen, "audio": sections["audio"]}
        self._width = int(config["embed_dim"])
        self._encoders = nn.ModuleDict()
        self._others: dict[str, MediaEncoder] = {}  # that are no modules of torch
        self._networks: dict[str, Any] = {}
        sounds = [name for name in modalities if name in ("audio", "speech")]
        if sounds:
            self.sample_rate = _SAMPLE_RATE
            self.window_seconds = min(float(sections[name]["window_seconds"]) for name in sounds)
        if "image" in modalities:
            self.image_size = _IMAGE_SIDE

    def _encoder(self, modality: str) -> Any:  # noqa: ANN401 - each kind has methods of its own
        if modality in self._others:
            return self._others[modality]
        if modality not in self._encoders:
            with shared_backbones(self._networks):
                made = create_encoder(self._sections[modality], self._folder, modality).on_device(str(self.device))
            if not isinstance(made, nn.Module):
                self._others[modality] = made
                return made
            self._encoders[modality] = made
        return self._encoders[modality]

    def feature_dim(self, modality: str) -> int:
        """Return the space's `embed_dim`."""
        self.require(modality)
        return self._width

    def count_tokens(self, text: str) -> int:
        """Return the words of a text; the encoder reads any number."""
        self.require("text")
        return len(text.split())

    def prepare(self, modality: str, media: Any) -> Any:  # noqa: ANN401
        """Run the encoder's own preprocessing."""
        self.require(modality)
        encoder = self._encoder(modality)
        if modality in ("audio", "speech"):
            check_waveform(self, media)
        if modality == "speech" and self._routes:
            return _Spoken(encoder.prepare(media), self._sounds(media))
        return encoder.prepare(media)

    def _sounds(self, waveform: NDArray[np.float32]) -> list[Any]:
        """Prepare a window of speech for the router, in windows that the encoder of sound takes."""
        listener = self._encoder("audio")
        if not callable(getattr(listener, "encode_and_route", None)):
            return []
        count = max(1, int(np.ceil(len(waveform) / (listener.window_seconds * _SAMPLE_RATE))))
        return [listener.prepare(part) for part in np.array_split(waveform, count)]

    def speech_probability(self, modality: str, prepared: Sequence[Any]) -> NDArray[np.float32]:
        """Return how likely somebody speaks in each window of speech, (N,); 1 where the space has no router."""
        self.require(modality)
        found = np.ones(len(prepared), np.float32)
        for number, window in enumerate(prepared):
            if isinstance(window, _Spoken) and window.sounds:
                found[number] = self._encoder("audio").encode_and_route(window.sounds)[1].max()
        return found

    def encode(self, modality: str, prepared: Sequence[Any], *, role: str = "document") -> torch.Tensor:
        """Return (N, embed_dim) unit rows, without gradients; the role makes no difference."""
        del role
        self.require(modality)
        encoder = self._encoder(modality)
        if not prepared:
            return torch.empty(0, self._width, device=self.device)
        return torch.from_numpy(encoder.encode(_spoken(prepared))).to(self.device)

    def encode_and_transcribe(self, modality: str, prepared: Sequence[Any]) -> tuple[torch.Tensor, list[str]]:
        """Return (N, embed_dim) unit rows of speech, and what is said in each item."""
        rows, said = self._encoder(modality).encode_and_transcribe(_spoken(prepared))
        return torch.from_numpy(rows).to(self.device), said

    def encode_and_route(self, modality: str, prepared: Sequence[Any]) -> tuple[torch.Tensor, Any]:
        """Return (N, embed_dim) unit rows of sound, and the probability that somebody speaks in each item, (N,)."""
        rows, speaks = self._encoder(modality).encode_and_route(list(prepared))
        return torch.from_numpy(rows).to(self.device), speaks

    def unknown(self, text: str) -> list[str]:
        """Return the parts of a text that the text encoder does not know."""
        return list(self._encoder("text").unknown(text))


def _spoken(prepared: Sequence[Any]) -> list[Any]:
    return [item.speech if isinstance(item, _Spoken) else item for item in prepared]


def _files(folder: Path, config: dict[str, Any]) -> dict[str, Path]:
    """Return name -> file of all weights that the configuration lists."""
    found = {}
    for name in config["files"]:
        bundled = name.removeprefix("backbones/")
        found[name] = folder / name if bundled == name else WEIGHTS / f"{bundled}.safetensors"
    return {name: path for name, path in found.items() if path.is_file()}


@register_tower("embedspace")
def _create(request: TowerRequest) -> SpaceTower:
    request.only("modalities")
    folder = _DEFAULT if request.place == "default" else request.path()
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        return SpaceTower(request, folder, config)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"tower {request.reference!r}: {folder} holds no space: {error!r}") from error
