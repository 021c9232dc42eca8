"""The self-supervised speech networks of torchaudio: wav2vec 2.0, HuBERT, WavLM.

    torchaudio:HUBERT_BASE              the weights that torchaudio publishes; from its cache, or with download
    torchaudio:HUBERT_BASE/<file>       the same network with a state dict of yours

A row is the mean over time of one layer (option `layer`, from 1; the last by default). They know no text: they need a
projection.

Source: https://docs.pytorch.org/audio/stable/pipelines.html
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from embedspace.encoders.towers.adapters.files import chosen_modalities, library, loading
from embedspace.encoders.towers.adapters.processed import encode_processed
from embedspace.encoders.towers.base import Tower, TowerRequest, check_waveform
from embedspace.encoders.towers.registry import register_tower
from embedspace.errors import ConfigError, WeightsError

__all__ = ["TorchaudioTower"]

_WINDOW_SECONDS = 15.0
_SHORTEST = 800  # samples; the convolutions need 400 for a first frame


class TorchaudioTower(Tower):
    """One network with its layers; clips of one length go together, because padding would change a vector."""

    def __init__(self, request: TowerRequest, bundle: Any, network: Any, weights: Path) -> None:  # noqa: ANN401
        """Wrap a network and the pipeline that it belongs to."""
        layers = int(bundle._params["encoder_num_layers"])
        layer = int(request.options.get("layer", layers))
        if not 1 <= layer <= layers:
            raise ConfigError(f"tower {request.reference!r}: layer {layer}, must be 1 to {layers}")
        seconds = float(request.options.get("window_seconds", _WINDOW_SECONDS))
        if not 0 < seconds <= 60:
            raise ConfigError(f"tower {request.reference!r}: window_seconds {seconds:g}, must be above 0 and up to 60")
        normalized = bool(bundle._normalize_waveform)
        super().__init__(
            request.reference,
            chosen_modalities(request, ("speech",)),
            files={weights.name: weights},
            preprocessing={"layer": layer, "normalize_waveform": normalized, "sample_rate": int(bundle.sample_rate)},
        )
        self.network = network
        self.sample_rate = int(bundle.sample_rate)
        self.window_seconds = seconds
        self._layer, self._normalized = layer, normalized
        self._width = int(bundle._params["encoder_embed_dim"])
        self.freeze()

    def feature_dim(self, modality: str) -> int:
        """Return the width of the layers."""
        self.require(modality)
        return self._width

    def prepare(self, modality: str, media: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401
        """Return the waveform, (1, T), normalised where the network was trained so."""
        self.require(modality)
        check_waveform(self, media)
        waveform = torch.as_tensor(media, dtype=torch.float32)
        waveform = functional.pad(waveform, (0, max(_SHORTEST - len(waveform), 0)))
        if self._normalized:
            waveform = functional.layer_norm(waveform, waveform.shape)
        return {"waveform": waveform[None]}

    def encode(self, modality: str, prepared: Sequence[Any], *, role: str = "document") -> torch.Tensor:
        """Return (N, feature_dim) float32; the role makes no difference."""
        del role
        self.require(modality)
        if not prepared:
            return torch.empty(0, self._width, device=self.device)
        return encode_processed(list(prepared), self._run)

    def _run(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        layers, _ = self.network.extract_features(features["waveform"].to(self.device), num_layers=self._layer)
        mean: torch.Tensor = layers[-1].mean(dim=1)
        return mean.float()


def _pipelines(torchaudio: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return name -> bundle of the networks that give features rather than letters."""
    kinds = torchaudio.pipelines.Wav2Vec2Bundle, torchaudio.pipelines.Wav2Vec2ASRBundle
    found = {name: getattr(torchaudio.pipelines, name) for name in torchaudio.pipelines.__all__}
    return {name: b for name, b in found.items() if isinstance(b, kinds[0]) and not isinstance(b, kinds[1])}


@register_tower("torchaudio")
def _create(request: TowerRequest) -> TorchaudioTower:
    request.only("modalities", "layer", "window_seconds")
    importing = lambda: importlib.import_module("torchaudio")  # noqa: E731
    torchaudio = library("torchaudio", "torchaudio", request.label, importing)
    name, _, file = request.place.partition("/")
    known = _pipelines(torchaudio)
    if name not in known:
        raise ConfigError(
            f"tower {request.reference!r}: torchaudio has no pipeline {name!r}; known: {', '.join(known)}"
        )
    bundle = known[name]
    weights = _weights(request, bundle, file)
    make = {"Wav2Vec2": torchaudio.models.wav2vec2_model, "WavLM": torchaudio.models.wavlm_model}[bundle._model_type]
    with loading(request, f"torchaudio could not load {weights}"):
        network = make(**bundle._params)
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return TorchaudioTower(request, bundle, network, weights)


def _weights(request: TowerRequest, bundle: Any, file: str) -> Path:  # noqa: ANN401
    """Return the state dict: a file of the user's, or the published one in torch's cache."""
    if file:
        path = Path(file).expanduser()
        path = path if request.folder is None or path.is_absolute() else request.folder / path
        if not path.is_file():
            raise WeightsError(f"tower {request.reference!r}: there is no file {path}")
        return path
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(bundle._path).name
    if not cached.is_file() and request.download:
        with loading(request, "its weights could not be downloaded"):
            bundle.get_model(dl_kwargs={"progress": False})
    if not cached.is_file():
        raise WeightsError(
            f"tower {request.reference!r}: its weights are not on this machine, and nothing is downloaded unless "
            "asked; allow it with download=True (--download), or name a file behind a '/'"
        )
    return cached
