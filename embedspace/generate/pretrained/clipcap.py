"""Captions by a prefix: a language model goes on from what a small network makes of a CLIP vector, `clipcap:<folder>`.

The folder holds what ClipCap trains, as safetensors:

    clipcap.json            {"tower": "CLIP ViT-B/32", "width": 512, "prefix": 10, "length": 10.0}
    mapping.safetensors     model.0.weight, model.0.bias, model.2.weight, model.2.bias: its "clip_project" of kind MLP
    decoder/                the language model and its tokenizer, as transformers saved them
    clip/                   the CLIP that it was trained on, as transformers saved it; without it widths are compared

It takes vectors of pictures. "length" is what a vector of the space, whose length is 1, is brought to: that of the
CLIP's pictures, or 1 where it was trained on unit vectors. Of anything but a picture the mean of its modality is taken
out and that of pictures put in its place (`embedspace.calibration.centring`), where the space knows both.

Source: Mokady et al. 2021 (ClipCap, https://arxiv.org/abs/2111.09734), section 3, and
https://github.com/rmokady/CLIP_prefix_caption for the names; Holtzman et al. 2020 (https://arxiv.org/abs/1904.09751),
section 3.1, for sampling from the nucleus.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from embedspace.config import build
from embedspace.encoders.base import load_module
from embedspace.encoders.towers.adapters.files import library, loading
from embedspace.errors import ArgumentError, ConfigError, WeightsError
from embedspace.generate.base import Generator, Request, Sample
from embedspace.generate.pretrained.base import Asked, Content, HeadSpace, Opened, PretrainedGenerator, Wanted
from embedspace.generate.pretrained.files import HeadRequest
from embedspace.generate.pretrained.fitting import way_to
from embedspace.generate.pretrained.registry import register_head
from embedspace.modality import Modality

__all__ = ["ClipCap", "ClipCapConfig", "PrefixMapping"]

ABOUT = "clipcap.json"
_PIECES, _MOST = 40, 200
"""Pieces of a caption at most, where the request does not say, and where it does."""
_NUCLEUS = 0.9


@dataclass(frozen=True, slots=True)
class ClipCapConfig:
    """What `clipcap.json` says.

    Attributes:
        tower: The tower that it was trained on, for people.
        width: Width of that tower's vectors.
        prefix: Pieces that a vector becomes.
        length: What a unit vector is brought to.
    """

    tower: str
    width: int
    prefix: int = 10
    length: float = 1.0


class PrefixMapping(nn.Module):
    """A vector as so many embeddings of pieces.

    Args:
        width: Of the vector.
        prefix: Pieces.
        embedding: Width of a piece's embedding.
    """

    def __init__(self, width: int, prefix: int, embedding: int) -> None:
        super().__init__()
        self.prefix = prefix
        hidden = embedding * prefix // 2
        self.model = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, embedding * prefix))

    def forward(self, vectors: Tensor) -> Tensor:
        """Map (B, width) to (B, prefix, embedding)."""
        out: Tensor = self.model(vectors)
        return out.view(len(vectors), self.prefix, -1)


class ClipCap(PretrainedGenerator):
    """A captioner.

    Args:
        opened: Where it came from.
        config: What it says of itself.
        decoder: The language model.
        tokenizer: Its tokenizer.
        clip: The network that it was trained on, with its preprocessing; None where the folder has none.
    """

    modality = Modality.TEXT.value
    options = frozenset({"num_steps"})
    settings = ("temperature",)
    grows = "num_steps"

    def __init__(self, opened: Opened, config: ClipCapConfig, decoder: Any, tokenizer: Any, clip: Any) -> None:  # noqa: ANN401
        super().__init__(opened)
        self.config, self.tokenizer = config, tokenizer
        self.decoder = decoder.to(opened.space.device)
        embedding = int(decoder.get_input_embeddings().weight.shape[1])
        make = partial(PrefixMapping, config.width, config.prefix, embedding)
        self.mapping = load_module(make, opened.folder / "mapping.safetensors").to(opened.space.device)
        self.temperature = _temperature(opened)
        encode = None if clip is None else partial(_seen, *clip)
        wanted = Wanted(config.width, "image", config.tower, "image", encode)
        self._way = way_to(opened.space, wanted, opened.request.label)

    def resolved(self, request: Request) -> dict[str, Any]:
        """Return how long a caption may become."""
        pieces = _PIECES if request.num_steps is None else request.num_steps
        if not 1 <= pieces <= _MOST:
            raise ArgumentError("num_steps", f"{pieces}: a caption of this head has 1 to {_MOST} pieces")
        return {"num_steps": pieces}

    def draw(self, asked: Asked) -> list[tuple[Content, dict[str, Any]]]:
        """Write a caption of each row."""
        rows = self._way.rows(_as_pictures(asked.vectors, asked.modalities, self.opened.space))
        vectors = self.config.length * F.normalize(torch.from_numpy(rows).float(), dim=1)
        said = self._written(self.mapping(vectors.to(self.opened.space.device)), asked)
        fits = [float("nan")] * len(said)
        if self.opened.space.supports(Modality.TEXT):
            known = [number for number, text in enumerate(said) if text]
            if known:
                encoded = self.opened.space.encode_text([said[number] for number in known])
                for number, row in zip(known, encoded, strict=True):
                    fits[number] = float(row @ asked.vectors[number])
        agreement = self._way.agreement
        about = {"tower": self._way.tower, **({} if agreement is None else {"tower_agreement": round(agreement, 3)})}
        return [(text, {**about, "fit": fit}) for text, fit in zip(said, fits, strict=True)]

    def sample_of(self, content: Content, seed: int, about: Mapping[str, Any]) -> Sample:
        """Return a caption with the cosine of its own vector and its source's as its score."""
        told = {name: value for name, value in about.items() if name != "fit"}
        return Sample(str(self.modality), str(content), seed, text=str(content), score=about["fit"], provenance=told)

    def _written(self, prefix: Tensor, asked: Asked) -> list[str]:
        """Return what the language model goes on with after prefixes (B, P, E), piece by piece, up to its end mark."""
        pieces: list[list[int]] = [[] for _ in prefix]
        ended = self.tokenizer.eos_token_id
        open_rows, past, given = list(range(len(prefix))), None, {"inputs_embeds": prefix}
        for _ in range(self.resolved(asked.request)["num_steps"]):
            out = self.decoder(**given, past_key_values=past, use_cache=True)
            past = out.past_key_values
            drawn = [
                self._piece(row.float().cpu(), generator)
                for row, generator in zip(out.logits[:, -1], asked.generators, strict=True)
            ]
            open_rows = [row for row in open_rows if drawn[row] != ended]
            for row in open_rows:
                pieces[row].append(drawn[row])
            if not open_rows:
                break
            given = {"input_ids": torch.tensor(drawn, device=prefix.device)[:, None]}
        return [" ".join(self.tokenizer.decode(own, skip_special_tokens=True).split()) for own in pieces]

    def _piece(self, logits: Tensor, generator: torch.Generator) -> int:
        """Return a piece drawn from the likeliest that together make up the nucleus; the likeliest at temperature 0."""
        if self.temperature == 0:
            return int(logits.argmax())
        shares, order = (logits / self.temperature).softmax(dim=0).sort(descending=True)
        kept = shares.cumsum(dim=0) - shares < _NUCLEUS
        return int(order[torch.multinomial(shares * kept, 1, generator=generator)])


def _temperature(opened: Opened) -> float:
    given = opened.request.options.get("temperature", 0.6)
    try:
        found = float(given)
    except (TypeError, ValueError):
        found = -1.0
    if not 0 <= found <= 5:
        raise ConfigError(f"{opened.request.label}: temperature {given!r}: must be 0 to 5")
    return found


def _as_pictures(vectors: NDArray[np.float32], modalities: Sequence[str], space: HeadSpace) -> NDArray[np.float32]:
    """Return unit rows (B, embed_dim) where pictures lie: with their mean in place of another modality's."""
    means = space.calibration.means
    shown = means.get(Modality.IMAGE)
    moved = [
        row if own == Modality.IMAGE or own not in means or shown is None else row - means[own] + shown
        for row, own in zip(vectors, modalities, strict=True)
    ]
    rows = np.stack(moved).astype(np.float32)
    unit: NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return unit


def _seen(network: Any, processor: Any, pictures: Sequence[Any]) -> Tensor:  # noqa: ANN401 - the library is optional
    """Return (N, width) rows of pictures by the folder's own CLIP."""
    pixels = processor(images=list(pictures), return_tensors="pt")["pixel_values"]
    found = network(pixel_values=pixels).image_embeds
    made: Tensor = found
    return made


@register_head("clipcap")
def _create(request: HeadRequest, target: str, space: HeadSpace) -> Generator:
    if target != Modality.TEXT:
        raise ArgumentError("head", f"{request.reference}: writes text, not {target}")
    request.only(*ClipCap.settings)
    folder = request.path()
    about = _about(request, folder)
    needs = partial(library, "transformers", "towers", request.label)
    transformers = needs(lambda: importlib.import_module("transformers"))
    with loading(request, f"transformers could not load {folder / 'decoder'}"):
        options = {"local_files_only": True}
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder / "decoder"), **options)
        decoder = transformers.AutoModelForCausalLM.from_pretrained(
            str(folder / "decoder"), use_safetensors=True, **options
        )
        clip = None
        if (folder / "clip").is_dir():
            network = transformers.CLIPVisionModelWithProjection.from_pretrained(
                str(folder / "clip"), use_safetensors=True, **options
            )
            clip = (network.eval(), transformers.CLIPImageProcessor.from_pretrained(str(folder / "clip"), **options))
    return ClipCap(Opened(request, folder, None, "ClipCap", space), about, decoder.eval(), tokenizer, clip)


def _about(request: HeadRequest, folder: Path) -> ClipCapConfig:
    """Read what a captioner says of itself.

    Raises:
        WeightsError: If the folder holds none.
        ConfigError: If it has an unknown or wrong key.
    """
    path = folder / ABOUT
    try:
        table = json.loads(path.read_text("utf-8"))
    except OSError:
        raise WeightsError(
            f"{request.label}: {folder} holds no {ABOUT}: it is no captioner of this kind; docs/pretrained-heads.md "
            "says what belongs there"
        ) from None
    except ValueError as error:
        raise ConfigError(f"{path}: is no JSON: {error}") from None
    return build(ClipCapConfig, table, str(path))
