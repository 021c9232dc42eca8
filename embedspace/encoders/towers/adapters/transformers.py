"""Models of transformers with one network per modality: CLIP, SigLIP, CLAP and their like, and PE-AV.

    transformers:<folder or org/name>

Whatever has `get_text_features`, `get_image_features` or `get_audio_features` is taken. PE-AV's options: `text_head`
says which of its text projections gives the texts' rows ("audio", "video" or "audio_video"); a picture is a film of one
frame.

Source: https://huggingface.co/docs/transformers
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from embedspace.encoders.towers.adapters.files import (
    chosen_modalities,
    find_folder,
    library,
    loading,
    model_files,
    plain,
    require_length,
    require_picture,
)
from embedspace.encoders.towers.adapters.processed import encode_processed, longest_window, picture_side
from embedspace.encoders.towers.base import Tower, TowerRequest, check_waveform
from embedspace.encoders.towers.registry import register_tower
from embedspace.errors import ConfigError

__all__ = ["TransformersTower"]

_TEXT_HEADS = ("audio", "video", "audio_video")
_NO_LIMIT = 1_000_000  # tokenizers without a limit say a huge number


class TransformersTower(Tower):
    """One model of several networks that share a space."""

    def __init__(
        self,
        request: TowerRequest,
        model: Any,  # noqa: ANN401 - the library is optional
        processor: Any,  # noqa: ANN401
        files: dict[str, Path],
        revision: str | None,
    ) -> None:
        """Wrap what `AutoModel` and `AutoProcessor` made."""
        video: Any = getattr(processor, "video_processor", None)
        picture: Any = getattr(processor, "image_processor", None) or video
        sound: Any = getattr(processor, "feature_extractor", None)
        text_head = request.options.get("text_head", "audio")
        if text_head not in _TEXT_HEADS:
            raise ConfigError(
                f"tower {request.reference!r}: text_head {text_head!r}, must be one of {', '.join(_TEXT_HEADS)}"
            )
        modalities = chosen_modalities(request, _offered(model))
        hears = bool({"audio", "speech"} & set(modalities))
        limit = _token_limit(model, processor.tokenizer) if "text" in modalities else None
        preprocessing = {
            "picture": plain(picture.to_dict()) if "image" in modalities else None,
            "sound": plain(sound.to_dict()) if hears else None,
            "max_tokens": limit,
            **({"text_head": text_head} if _is_pe_av(model) else {}),
        }
        super().__init__(request.reference, modalities, files=files, preprocessing=preprocessing, revision=revision)
        self.model = model
        self._processor = processor
        self._picture, self._sound, self._text_head = picture, sound, text_head
        self.max_tokens = limit
        if "image" in modalities:
            self.image_size = picture_side(picture)
        if hears:
            self.sample_rate = int(sound.sampling_rate)
            self.window_seconds = longest_window(request, sound)
        self._lock = threading.Lock()  # a tokenizer written in Rust refuses two threads at once
        self.freeze()
        self._widths: dict[str, int] = {}

    def feature_dim(self, modality: str) -> int:
        """Return the width of a modality's rows; the first call encodes a small sample."""
        self.require(modality)
        if modality not in self._widths:
            with torch.inference_mode():
                self._widths[modality] = int(self.encode(modality, [self._sample(modality)]).shape[1])
        return self._widths[modality]

    def _sample(self, modality: str) -> Any:  # noqa: ANN401
        import numpy as np

        if modality == "text":
            return self.prepare("text", "a")
        if modality == "image":
            return self.prepare("image", np.zeros((32, 32, 3), np.uint8))
        return self.prepare(modality, np.zeros(int(self.sample_rate or 1) // 2, np.float32))

    def count_tokens(self, text: str) -> int:
        """Return how many tokens a text takes with its marks."""
        self.require("text")
        with self._lock:
            return len(self._processor.tokenizer(text, truncation=False, verbose=False)["input_ids"])

    def prepare(self, modality: str, media: Any) -> dict[str, Any]:  # noqa: ANN401
        """Run the model's own processor on one item: features with a batch axis of 1."""
        self.require(modality)
        if modality == "text":
            require_length(self, media, self.count_tokens(media))
            whole: dict[str, Any] = {}
            if _pads_to_limit(self.model):
                whole = {"padding": "max_length", "max_length": self.max_tokens, "return_attention_mask": False}
            with self._lock:
                return dict(self._processor.tokenizer(media, return_tensors="pt", **whole))
        if modality == "image":
            picture = require_picture(media)
            if _is_pe_av(self.model):
                return dict(self._picture([[picture]], num_frames=1, return_tensors="pt"))
            return dict(self._picture(picture, return_tensors="pt"))
        check_waveform(self, media)
        return dict(self._sound(media, sampling_rate=self.sample_rate, return_tensors="pt"))

    def encode(self, modality: str, prepared: Sequence[Any], *, role: str = "document") -> torch.Tensor:
        """Return (N, feature_dim) float32; these models know no roles."""
        del role
        self.require(modality)
        if not prepared:
            return torch.empty(0, self.feature_dim(modality), device=self.device)
        return encode_processed(list(prepared), lambda features: self._run(modality, features))

    def _run(self, modality: str, features: Mapping[str, Any]) -> torch.Tensor:
        device = self.device
        moved = {key: value.to(device) if torch.is_tensor(value) else value for key, value in features.items()}
        if _is_pe_av(self.model):
            return _pe_av(self.model, modality, moved, self._text_head)
        name = "audio" if modality == "speech" else modality
        rows = getattr(self.model, f"get_{name}_features")(**moved)
        pooled = getattr(rows, "pooler_output", None)
        result: torch.Tensor = rows if pooled is None else pooled
        return result.float()


def _offered(model: Any) -> list[str]:  # noqa: ANN401
    if _is_pe_av(model):
        return ["text", "image", "audio"]
    return [name for name in ("text", "image", "audio") if hasattr(model, f"get_{name}_features")]


def _is_pe_av(model: Any) -> bool:  # noqa: ANN401
    return str(model.config.model_type) == "pe_audio_video"


def _pads_to_limit(model: Any) -> bool:  # noqa: ANN401
    """Whether the text network was trained on texts padded to its limit, without a mask, as SigLIP's is."""
    return str(model.config.model_type).startswith("siglip")


def _pe_av(model: Any, modality: str, features: dict[str, Any], text_head: str) -> torch.Tensor:  # noqa: ANN401
    """Return PE-AV's rows; its text projections hang on different parts of the model."""
    if modality == "text":
        ids, mask = features["input_ids"], features.get("attention_mask")
        words = model.text_model(input_ids=ids, attention_mask=mask, output_hidden_states=-1, return_dict=True)
        head = {
            "audio": model.audio_model.text_audio_head,
            "video": model.video_model.text_video_head,
            "audio_video": model.text_audio_video_head,
        }[text_head]
        rows = head(words.hidden_states[-1][:, 0])
    elif modality == "image":  # the method of version 5.24 for films calls one that is not there
        film = model.video_model.video_encoder(
            pixel_values_videos=features["pixel_values_videos"],
            padding_mask_videos=features.get("padding_mask_videos"),
            return_dict=True,
        )
        rows = model.video_model.video_head(film.pooler_output)
    else:
        rows = model.get_audio_embeds(features["input_values"], features.get("padding_mask"))
    result: torch.Tensor = rows.float()
    return result


def _token_limit(model: Any, tokenizer: Any) -> int | None:  # noqa: ANN401
    """Return how many tokens the text network reads."""
    text = getattr(model.config, "text_config", model.config)
    positions = getattr(text, "max_position_embeddings", None)
    if positions and getattr(text, "model_type", "") in ("roberta", "clap_text_model", "xlm-roberta"):
        positions -= 2  # their positions begin behind the padding's
    limits = [int(limit) for limit in (positions, tokenizer.model_max_length) if limit and limit < _NO_LIMIT]
    return min(limits, default=None)


@register_tower("transformers")
def _create(request: TowerRequest) -> TransformersTower:
    request.only("modalities", "revision", "window_seconds", "text_head")
    found = library("transformers", "transformers", request.label, lambda: importlib.import_module("transformers"))
    folder, revision = find_folder(request, request.place)
    with loading(request, f"transformers could not load {folder}"):
        model = found.AutoModel.from_pretrained(str(folder), local_files_only=True, dtype=torch.float32)
        processor = found.AutoProcessor.from_pretrained(str(folder), local_files_only=True)
    if not _offered(model):
        raise ConfigError(
            f"tower {request.reference!r}: {type(model).__name__} has no get_text_features, get_image_features or "
            "get_audio_features; try sentence-transformers:"
        )
    return TransformersTower(request, model, processor, model_files(folder), revision)
