"""Any model of open_clip: one CLIP with an image and a text network.

    open_clip:<model>/<pretrained>      a built-in architecture and a tag: open_clip:ViT-B-32/laion2b_s34b_b79k
    open_clip:<model>/<file>            weights in a file; the option `tag` says whose preprocessing they expect
    open_clip:hf-hub:<org>/<name>       a repository that holds open_clip_config.json
    open_clip:local-dir:<folder>        the same in a folder

Source: https://github.com/mlfoundations/open_clip
"""

from __future__ import annotations

import importlib
import json
import threading
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from embedspace.encoders.towers.adapters.files import (
    WEIGHTS,
    chosen_modalities,
    find_folder,
    hub_folder,
    library,
    loading,
    model_files,
    plain,
    require_length,
    require_picture,
)
from embedspace.encoders.towers.base import Tower, TowerRequest
from embedspace.encoders.towers.registry import register_tower
from embedspace.errors import ConfigError, WeightsError

__all__ = ["OpenClipTower"]

_CONFIG = "open_clip_config.json"
_SAFE, _PICKLED = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"
_EXAMPLE = "open_clip:ViT-B-32/laion2b_s34b_b79k"


class OpenClipTower(Tower):
    """One CLIP; its text and image rows are in one space."""

    def __init__(
        self,
        request: TowerRequest,
        model: Any,  # noqa: ANN401 - the library is optional
        tokenizer: Any,  # noqa: ANN401
        files: dict[str, Path],
        revision: str | None,
    ) -> None:
        """Wrap what `open_clip.create_model` and a tokenizer of open_clip are."""
        from open_clip.transform import PreprocessCfg, image_transform_v2

        picture = dict(model.visual.preprocess_cfg)
        tokens = getattr(tokenizer, "context_length", None) or model.context_length
        super().__init__(
            request.reference,
            chosen_modalities(request, ("text", "image")),
            files=files,
            preprocessing={"picture": plain(picture), "max_tokens": int(tokens)},
            revision=revision,
        )
        size = picture["size"]
        self.image_size = int(max(size) if isinstance(size, list | tuple) else size)
        self.max_tokens = int(tokens)
        self.model = model
        self._tokenizer = tokenizer
        self._transform = image_transform_v2(PreprocessCfg(**picture), is_train=False)
        self._lock = threading.Lock()  # tokenizers written in Rust refuse two threads at once
        self.freeze()
        with torch.inference_mode():
            self._width = int(model.encode_text(tokenizer(["a"])).shape[1])

    def feature_dim(self, modality: str) -> int:
        """Return the width that both networks share."""
        self.require(modality)
        return self._width

    def count_tokens(self, text: str) -> int:
        """Return how many tokens a text takes, start and end included."""
        self.require("text")
        inner = getattr(self._tokenizer, "tokenizer", None)
        with self._lock:
            if inner is None:
                return len(self._tokenizer.encode(text)) + 2
            return len(inner(self._tokenizer.clean_fn(text), truncation=False, padding=False)["input_ids"])

    def prepare(self, modality: str, media: Any) -> torch.Tensor:  # noqa: ANN401
        """Turn a text into (max_tokens,) ids, a picture into (3, H, W) float32 by the model's own preprocessing."""
        self.require(modality)
        if modality == "text":
            require_length(self, media, self.count_tokens(media))
            with self._lock:
                input_ids: torch.Tensor = self._tokenizer([media])[0]
            return input_ids
        pixel_values: torch.Tensor = self._transform(require_picture(media))
        return pixel_values

    def encode(self, modality: str, prepared: Sequence[Any], *, role: str = "document") -> torch.Tensor:
        """Return (N, feature_dim) float32; CLIP knows no roles."""
        del role
        self.require(modality)
        if not prepared:
            return torch.empty(0, self._width, device=self.device)
        batch = torch.stack(list(prepared)).to(self.device)
        run = self.model.encode_text if modality == "text" else self.model.encode_image
        rows: torch.Tensor = run(batch).float()
        return rows


@register_tower("open_clip")
def _create(request: TowerRequest) -> OpenClipTower:
    request.only("modalities", "revision", "tag")
    open_clip = library("open_clip", "open-clip", request.label, lambda: importlib.import_module("open_clip"))
    scheme, colon, place = request.place.partition(":")
    if colon and scheme == "hf-hub":
        return _from_folder(request, open_clip, *hub_folder(request, place))
    if colon and scheme == "local-dir":
        return _from_folder(request, open_clip, *find_folder(request, place))
    if colon:
        raise ConfigError(f"tower {request.reference!r}: unknown scheme {scheme!r}; known: hf-hub, local-dir")
    return _from_tag(request, open_clip)


def _from_folder(request: TowerRequest, open_clip: Any, folder: Path, revision: str | None) -> OpenClipTower:  # noqa: ANN401
    """Make the model of a folder in the hub's format; weights must be in it."""
    if not (folder / _CONFIG).is_file():
        raise WeightsError(f"tower {request.reference!r}: {folder} holds no {_CONFIG}; it is no open_clip model")
    files = model_files(folder)
    if not any(Path(name).suffix in WEIGHTS for name in files):
        raise WeightsError(
            f"tower {request.reference!r}: {folder} holds no weights (open_clip_model.safetensors); "
            "open_clip would start from random ones"
        )
    with loading(request, f"open_clip could not load {folder}"):
        text = json.loads((folder / _CONFIG).read_text("utf-8"))["model_cfg"]["text_cfg"]
        model = open_clip.create_model(
            f"local-dir:{folder}", precision="fp32", device="cpu", require_pretrained=True, pretrained_text=False
        )
        tokenizer, beside = _tokenizer(request, open_clip, text, folder)
    return OpenClipTower(request, model, tokenizer, files | beside, revision)


def _from_tag(request: TowerRequest, open_clip: Any) -> OpenClipTower:  # noqa: ANN401
    """Make a built-in architecture with the weights of a tag, or of a file that is preprocessed as a tag's."""
    name, pretrained = _split(request, open_clip)
    config = open_clip.get_model_config(name)
    tags = open_clip.list_pretrained_tags_by_model(name)
    file = Path(pretrained).expanduser()
    file = file if request.folder is None or file.is_absolute() else request.folder / file
    tag = str(request.options.get("tag", "")) if file.is_file() else pretrained
    if not tag:
        raise ConfigError(
            f"tower {request.reference!r}: a bare file does not say how pictures are prepared; give the option tag, "
            f"one of: {', '.join(tags) or 'none'}"
        )
    if tag not in tags:
        raise ConfigError(
            f"tower {request.reference!r}: {name} has no weights {tag!r}; known: {', '.join(tags) or 'none'}"
        )
    about = open_clip.get_pretrained_cfg(name, tag)
    _check_activation(request, name, tag, config, about)
    checkpoint = file if file.is_file() else _checkpoint(request, open_clip, about)
    picture = merged_preprocessing(about)
    with loading(request, f"open_clip could not load {checkpoint.name}"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a file's activation cannot be checked: it was
        model = open_clip.create_model(
            name,
            pretrained=str(checkpoint),
            precision="fp32",
            device="cpu",
            require_pretrained=True,
            pretrained_text=False,
            force_preprocess_cfg=picture,
        )
        tokenizer, beside = _tokenizer(request, open_clip, config["text_cfg"], None)
    return OpenClipTower(request, model, tokenizer, {checkpoint.name: checkpoint, **beside}, None)


def merged_preprocessing(about: dict[str, Any]) -> dict[str, Any]:
    """Return what a tag's pictures need where it differs from the library's default; the model knows the size."""
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    merged: dict[str, Any] = merge_preprocess_dict(asdict(PreprocessCfg()), about)
    merged.pop("size")
    return merged


def _split(request: TowerRequest, open_clip: Any) -> tuple[str, str]:  # noqa: ANN401
    """Split "<model>/<pretrained>"; both may hold more than one "/"."""
    known = set(open_clip.list_models())
    parts = request.place.split("/")
    for count in range(len(parts) - 1, 0, -1):
        name = "-".join(parts[:count])
        if name in known:
            return name, "/".join(parts[count:])
    if len(parts) == 1:
        raise ConfigError(f"tower {request.reference!r}: write open_clip:<model>/<pretrained>, such as {_EXAMPLE}")
    raise ConfigError(f"tower {request.reference!r}: open_clip has no model {parts[0]!r}; see open_clip.list_models()")


def _check_activation(
    request: TowerRequest, name: str, tag: str, config: dict[str, Any], about: dict[str, Any]
) -> None:
    """Refuse an architecture with another activation than the weights were trained with: it would only do worse."""
    has, wants = bool(config.get("quick_gelu", False)), bool(about.get("quick_gelu", False))
    if has == wants:
        return
    other = f"{name}-quickgelu" if wants else name.removesuffix("-quickgelu")
    kind = "QuickGELU" if wants else "GELU"
    raise ConfigError(
        f"tower {request.reference!r}: the weights {tag!r} were trained with {kind}; write open_clip:{other}/{tag}"
    )


def _checkpoint(request: TowerRequest, open_clip: Any, about: dict[str, Any]) -> Path:  # noqa: ANN401
    """Return the file of a tag's weights, from the cache or, if that is allowed, from the network."""
    if "file" in about:
        return Path(about["file"])
    if request.download:
        with loading(request, "its weights could not be downloaded"):
            return Path(open_clip.pretrained.download_pretrained(about))
    repository, _, name = str(about.get("hf_hub") or "").rpartition("/")
    found: Any = None
    if repository:
        import huggingface_hub

        name = name or _PICKLED
        safe = [_SAFE] if name == _PICKLED else [str(Path(name).with_suffix(".safetensors"))]
        paths = (huggingface_hub.try_to_load_from_cache(repository, each) for each in [*safe, name])
        found = next((path for path in paths if isinstance(path, str)), None)
    if found is None and about.get("url"):
        cached = Path("~/.cache/clip").expanduser() / Path(about["url"]).name
        found = cached if cached.is_file() else None
    if found is None:
        raise WeightsError(
            f"tower {request.reference!r}: its weights are not on this machine, and nothing is downloaded unless "
            "asked; allow it with download=True (--download), or name a local folder"
        )
    return Path(found)


def _tokenizer(
    request: TowerRequest,
    open_clip: Any,  # noqa: ANN401
    text: dict[str, Any],
    folder: Path | None,
) -> tuple[Any, dict[str, Path]]:
    """Make the tokenizer that a model's configuration names; returns the files it needs from elsewhere as well."""
    length = text.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH)
    options = dict(text.get("tokenizer_kwargs", {}))
    name = text.get("hf_tokenizer_name")
    if not name:
        return open_clip.SimpleTokenizer(context_length=length, **options), {}
    if folder is not None and (folder / "tokenizer_config.json").is_file():
        place, files = folder, {}
    else:
        place, _ = hub_folder(request, name, weights=False)
        files = {f"tokenizer/{each}": path for each, path in model_files(place).items() if "token" in each}
    library("transformers", "transformers", request.label, lambda: importlib.import_module("transformers"))
    mode = text.get("tokenizer_mode")
    return open_clip.HFTokenizer(str(place), context_length=length, tokenizer_mode=mode, **options), files
