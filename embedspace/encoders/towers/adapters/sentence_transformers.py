"""Any model of sentence-transformers: text embedders, CLIP, CLAP and the multimodal ones, from the hub or a folder.

    sentence-transformers:laion/clap-htsat-unfused
    sentence-transformers:./my-model

The library is asked what the model takes. Sound is cut before it is given: some processors crop at random.

Source: https://sbert.net (5.4 and later)
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
from embedspace.errors import ConfigError, UnknownModalityError

__all__ = ["SentenceTransformersTower"]

_PROMPTS = {"query": ("query",), "document": ("document", "passage", "corpus")}
"""Role -> the names of prompts that stand for it, the first that a model has."""


class SentenceTransformersTower(Tower):
    """One model; all its modalities share a space."""

    def __init__(self, request: TowerRequest, model: Any, files: dict[str, Path], revision: str | None) -> None:  # noqa: ANN401
        """Wrap a `SentenceTransformer`."""
        processor = getattr(model, "processor", None)
        picture = getattr(processor, "image_processor", None) or _only(processor, "crop_size", "size")
        sound = getattr(processor, "feature_extractor", None) or _only(processor, "sampling_rate")
        offered = [name for name in ("text", "image", "audio") if name in model.modalities]
        modalities = chosen_modalities(request, offered)
        prompts = {role: _prompt(model.prompts, names) for role, names in _PROMPTS.items()}
        limit = model.get_max_seq_length() if "text" in offered else None
        preprocessing = {
            "picture": plain(picture.to_dict()) if "image" in modalities and picture is not None else None,
            "sound": plain(sound.to_dict()) if {"audio", "speech"} & set(modalities) and sound is not None else None,
            "prompts": prompts,
            "max_tokens": limit,
        }
        super().__init__(request.reference, modalities, files=files, preprocessing=preprocessing, revision=revision)
        self.model = model
        self._prompts = prompts
        self.max_tokens = None if limit is None else int(limit)
        if "image" in modalities:
            self.image_size = picture_side(picture)
        if {"audio", "speech"} & set(modalities):
            self.sample_rate = int(sound.sampling_rate)
            self.window_seconds = longest_window(request, sound)
        self._one_at_a_time = threading.Lock()
        self._width: int | None = model.get_embedding_dimension()
        self.freeze()

    def feature_dim(self, modality: str) -> int:
        """Return the width of the model's rows."""
        self.require(modality)
        if self._width is None:
            with torch.inference_mode():
                self._width = int(self.encode("text", ["a"]).shape[1])
        return self._width

    def count_tokens(self, text: str) -> int:
        """Return how many tokens a text takes with its marks and the longest prompt before it."""
        self.require("text")
        longest = max((prompt or "" for prompt in self._prompts.values()), key=len)
        with self._one_at_a_time:
            return len(self.model.tokenizer(longest + text, truncation=False, verbose=False)["input_ids"])

    def prepare(self, modality: str, media: Any) -> Any:  # noqa: ANN401
        """Check a text; run the model's own processor on a picture or a waveform.

        Texts are split into tokens in `encode`, where the role and thus the prompt is known.
        """
        self.require(modality)
        if modality == "text":
            require_length(self, media, self.count_tokens(media))
            return media
        if modality == "image":
            return self._processed({"image": require_picture(media)})
        check_waveform(self, media)
        return self._processed({"audio": {"array": media, "sampling_rate": self.sample_rate}})

    def _processed(self, item: dict[str, Any]) -> dict[str, Any]:
        with self._one_at_a_time:  # a processor may hold a tokenizer, which refuses two threads at once
            return dict(self.model.preprocess([item]))

    def encode(self, modality: str, prepared: Sequence[Any], *, role: str = "document") -> torch.Tensor:
        """Return (N, feature_dim) float32; texts carry the model's prompt for the role."""
        self.require(modality)
        if not prepared:
            return torch.empty(0, self.feature_dim(modality), device=self.device)
        if modality != "text":
            return encode_processed(list(prepared), lambda features: self._run(features, role))
        # A bare string that names a file would be opened: the library is told that it is a text.
        texts = [{"text": text} for text in prepared]
        with self._one_at_a_time:
            features = self.model.preprocess(texts, prompt=self._prompts.get(role) or None)
        return self._run(dict(features), role)

    def _run(self, features: Mapping[str, Any], role: str) -> torch.Tensor:
        device = self.device
        moved = {key: value.to(device) if torch.is_tensor(value) else value for key, value in features.items()}
        rows: torch.Tensor = self.model(moved, task=role)["sentence_embedding"]
        return rows.float()


def _only(processor: Any, *attributes: str) -> Any:  # noqa: ANN401
    """Return the processor itself if it is of the kind that has one of the attributes."""
    return processor if any(hasattr(processor, name) for name in attributes) else None


def _prompt(prompts: Mapping[str, str], names: Sequence[str]) -> str | None:
    return next((prompts[name] for name in names if prompts.get(name)), None)


@register_tower("sentence-transformers")
def _create(request: TowerRequest) -> SentenceTransformersTower:
    request.only("modalities", "revision", "window_seconds")
    found = library(
        "sentence-transformers",
        "sentence-transformers",
        request.label,
        lambda: importlib.import_module("sentence_transformers"),
    )
    folder, revision = find_folder(request, request.place)
    with loading(request, f"sentence-transformers could not load {folder}"):
        model = found.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        if not hasattr(model, "modalities"):
            raise ConfigError(f"tower {request.reference!r} needs sentence-transformers 5.4 or later")
    try:
        return SentenceTransformersTower(request, model, model_files(folder), revision)
    except AttributeError as error:
        raise UnknownModalityError(
            f"tower {request.reference!r}: it cannot be told what this model takes ({error})"
        ) from error
