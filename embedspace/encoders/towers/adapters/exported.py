"""Networks exported to one file, TorchScript or ONNX: how their input is prepared is said in JSON beside the file.

`model.onnx` is described by `model.json`, or by options of the configuration with the same names:

    {"modality": "image", "image_size": 224, "resize": "shortest", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    {"modality": "audio", "sample_rate": 16000, "window_seconds": 10, "fill_window": true}
    {"modality": "text", "tokenizer": "tokenizer.json", "max_tokens": 128, "fill_tokens": true}

The network gets (B, 3, H, W), (B, T) or (B, max_tokens) ids (and their mask, if it takes two inputs), and gives (B, D).
"""

from __future__ import annotations

import json
import threading
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from embedspace.encoders.towers.adapters.files import require_length, require_picture
from embedspace.encoders.towers.adapters.processed import encode_processed
from embedspace.encoders.towers.base import Tower, TowerRequest, check_waveform
from embedspace.errors import ConfigError, WeightsError

__all__ = ["Described", "ExportedTower", "describe"]

_RESIZES = ("shortest", "squash", "pad")


@dataclass(frozen=True, slots=True)
class Described:
    """What is said of an exported network.

    Attributes:
        modality: The one that it takes.
        image_size: Side of the square picture that it takes, in pixels.
        resize: "shortest" scales the shorter side and crops the middle, "squash" scales both, "pad" adds white.
        mean: Taken from each colour in [0, 1].
        std: What the rest is divided by.
        sample_rate: Sample rate of its waveforms, in Hz.
        window_seconds: Longest stretch of sound that it takes.
        fill_window: Pad shorter sound with silence to the window; otherwise it takes any length.
        tokenizer: File of the `tokenizers` library, beside the network.
        max_tokens: Tokens that it reads.
        fill_tokens: Pad each text to `max_tokens`; otherwise texts of one length go together.
        pad_id: What texts are padded with.
    """

    modality: str
    image_size: int | None = None
    resize: str = "shortest"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    sample_rate: int | None = None
    window_seconds: float = 10.0
    fill_window: bool = False
    tokenizer: str | None = None
    max_tokens: int | None = None
    fill_tokens: bool = False
    pad_id: int = 0


def describe(request: TowerRequest) -> tuple[Path, Described]:
    """Return the file of a network and what is said of it.

    Raises:
        WeightsError: If there is no such file.
        ConfigError: If nothing is said of it, or what is said does not fit.
    """
    path = request.path()
    if not path.is_file():
        raise WeightsError(f"tower {request.reference!r}: there is no file {path}")
    beside = path.with_suffix(".json")
    said: dict[str, Any] = {}
    if beside.is_file():
        try:
            said = dict(json.loads(beside.read_text("utf-8")))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{beside}: not a JSON object: {error}") from error
    options = dict(request.options)
    chosen = options.pop("modalities", None)
    said |= options
    if chosen is not None and len(chosen) != 1:
        raise ConfigError(f"tower {request.reference!r}: an exported network takes one modality, not {list(chosen)}")
    if chosen is not None:
        said["modality"] = chosen[0]
    return path, _checked(request, beside, said)


def _checked(request: TowerRequest, beside: Path, said: Mapping[str, Any]) -> Described:
    known = {field.name for field in fields(Described)}
    unknown = sorted(set(said) - known)
    if unknown:
        raise ConfigError(
            f"tower {request.reference!r}: unknown key {', '.join(unknown)}; known: {', '.join(sorted(known))}"
        )
    needs = {"image": "image_size", "audio": "sample_rate", "speech": "sample_rate", "text": "tokenizer"}
    modality = said.get("modality")
    if modality not in needs:
        raise ConfigError(
            f"tower {request.reference!r}: modality {modality!r}; say one of {', '.join(needs)} in {beside.name} "
            "beside the file, or in the configuration"
        )
    if not said.get(needs[modality]):
        raise ConfigError(f"tower {request.reference!r}: a network that takes {modality} needs {needs[modality]}")
    if modality == "text" and not said.get("max_tokens"):
        raise ConfigError(f"tower {request.reference!r}: a network that takes text needs max_tokens")
    if said.get("resize", "shortest") not in _RESIZES:
        raise ConfigError(
            f"tower {request.reference!r}: resize {said['resize']!r}, must be one of {', '.join(_RESIZES)}"
        )
    lists = {key: tuple(float(x) for x in said[key]) for key in ("mean", "std") if key in said}
    return Described(**{**said, **lists})


class ExportedTower(Tower):
    """One exported network; a subclass runs it."""

    def __init__(self, request: TowerRequest, path: Path, said: Described, files: Mapping[str, Path]) -> None:
        """Take a file and what is said of it."""
        tokenizer = None if said.tokenizer is None else path.parent / said.tokenizer
        if tokenizer is not None and not tokenizer.is_file():
            raise WeightsError(f"tower {request.reference!r}: there is no tokenizer {tokenizer}")
        every = {**files, **({} if tokenizer is None else {tokenizer.name: tokenizer})}
        about = json.loads(json.dumps(asdict(said)))
        super().__init__(request.reference, (said.modality,), files=every, preprocessing=about)
        self._said = said
        self._tokenizer: Any = None
        self._lock = threading.Lock()
        self._width: int | None = None
        if tokenizer is not None:
            from tokenizers import Tokenizer

            self._tokenizer = Tokenizer.from_file(str(tokenizer))
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
        self.max_tokens = said.max_tokens if said.modality == "text" else None
        self.image_size = said.image_size if said.modality == "image" else None
        if said.modality in ("audio", "speech"):
            self.sample_rate, self.window_seconds = said.sample_rate, said.window_seconds

    @abstractmethod
    def _run(self, inputs: list[torch.Tensor]) -> Any:  # noqa: ANN401 - what the network gives
        """Give the network its inputs, as many of them as it takes."""

    def feature_dim(self, modality: str) -> int:
        """Return the width of its rows; the first call encodes a small sample."""
        self.require(modality)
        if self._width is None:
            samples: dict[str, Any] = {
                "text": "a",
                "image": np.zeros((8, 8, 3), np.uint8),
            }
            silence = np.zeros(int((self.sample_rate or 1) * (self.window_seconds or 1)), np.float32)
            with torch.inference_mode():
                self.encode(modality, [self.prepare(modality, samples.get(modality, silence))])
        assert self._width is not None
        return self._width

    def count_tokens(self, text: str) -> int:
        """Return how many tokens a text takes with its marks."""
        self.require("text")
        with self._lock:
            return len(self._tokenizer.encode(text).ids)

    def prepare(self, modality: str, media: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401
        """Return the network's input for one item, with a batch axis of 1."""
        self.require(modality)
        said = self._said
        if modality == "text":
            with self._lock:
                ids = self._tokenizer.encode(media).ids
            require_length(self, media, len(ids))
            padding = (said.max_tokens or 0) - len(ids) if said.fill_tokens else 0
            mask = torch.tensor([[1] * len(ids) + [0] * padding])
            return {"0": torch.tensor([[*ids, *[said.pad_id] * padding]]), "1": mask}
        if modality == "image":
            return {"0": _pixels(require_picture(media), said)}
        check_waveform(self, media)
        waveform = torch.as_tensor(media, dtype=torch.float32)
        if said.fill_window:
            whole = round(said.window_seconds * (said.sample_rate or 0))
            waveform = functional.pad(waveform, (0, whole - len(waveform)))
        return {"0": waveform[None]}

    def encode(self, modality: str, prepared: Sequence[Any], *, role: str = "document") -> torch.Tensor:
        """Return (N, feature_dim) float32; an exported network knows no roles."""
        del role
        self.require(modality)
        if not prepared:
            return torch.empty(0, self.feature_dim(modality), device=self.device)
        return encode_processed(list(prepared), self._rows)

    def _rows(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        out = self._run([features[key] for key in sorted(features)])
        while isinstance(out, list | tuple | dict):
            out = next(iter(out.values())) if isinstance(out, dict) else out[0]
        count = len(features["0"])
        if not torch.is_tensor(out) or out.ndim != 2 or len(out) != count:
            shape = tuple(getattr(out, "shape", ()))
            raise WeightsError(
                f"tower {self.name!r}: for {count} items the network gave {shape or type(out).__name__}, must be "
                f"({count}, width): export it with its pooling"
            )
        self._width = int(out.shape[1])
        return out.float()


def _pixels(picture: Image.Image, said: Described) -> torch.Tensor:
    """Return (1, 3, image_size, image_size) float32 of a picture, resized and normalised."""
    side = int(said.image_size or 0)
    width, height = picture.size
    if said.resize == "pad":
        square = Image.new("RGB", (max(width, height),) * 2, (255, 255, 255))
        square.paste(picture, ((max(width, height) - width) // 2, (max(width, height) - height) // 2))
        picture = square
    elif said.resize == "shortest":
        cut = min(width, height)
        left, top = (width - cut) // 2, (height - cut) // 2
        picture = picture.crop((left, top, left + cut, top + cut))
    picture = picture.resize((side, side), Image.Resampling.BICUBIC)
    values = torch.from_numpy(np.asarray(picture, np.float32).copy()).permute(2, 0, 1) / 255  # (H, W, C) -> (C, H, W)
    mean, std = torch.tensor(said.mean)[:, None, None], torch.tensor(said.std)[:, None, None]
    return ((values - mean) / std)[None]
