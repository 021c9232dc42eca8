"""A published prior: from what a text's vector says to the vector of a picture that shows it, drawn by diffusion.

It takes the place of the exchange of means where a head is given one: `prior=<folder or name>`. Its parts are read from
a folder of Kandinsky's prior, of Karlo, or of Stable unCLIP; which is which says `model_index.json`.

Source: Ramesh et al. 2022 (unCLIP, https://arxiv.org/abs/2204.06125), section 2.2.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from embedspace.encoders.towers.adapters.files import loading
from embedspace.errors import ConfigError
from embedspace.generate.pretrained.base import Asked, HeadSpace, Wanted
from embedspace.generate.pretrained.files import HeadRequest, folder_of, pipeline_class
from embedspace.generate.pretrained.fitting import probes, way_to

__all__ = ["Prior", "load_part", "open_prior"]

_LAYOUTS = {
    "KandinskyV22PriorPipeline": ("prior", "text_encoder", "tokenizer", "scheduler"),
    "KandinskyPriorPipeline": ("prior", "text_encoder", "tokenizer", "scheduler"),
    "UnCLIPPipeline": ("prior", "text_encoder", "tokenizer", "prior_scheduler"),
    "StableUnCLIPPipeline": ("prior", "prior_text_encoder", "prior_tokenizer", "prior_scheduler"),
}
"""Class of a pipeline -> what its prior, its text network, the tokenizer and the schedule are called."""
_STEPS = 25
_GUIDANCE = 4.0


class Prior:
    """A diffusion prior with its text network.

    Args:
        parts: Network, text network, tokenizer, schedule, as diffusers and transformers load them.
        space: Whose vectors it is given.
        label: The head that it belongs to, for messages.

    Raises:
        ConfigError: If its text network is none of the space's towers.
    """

    def __init__(self, parts: Sequence[Any], space: HeadSpace, label: str) -> None:
        self._network, self._words, self._tokenizer, self._schedule = parts
        self.width = int(self._network.config.clip_embed_dim or self._network.config.embedding_dim)
        width = int(self._network.config.embedding_proj_dim or self._network.config.embedding_dim)
        wanted = Wanted(width, "text", "its prior's text network", "text", self._embeddings)
        self.way = way_to(space, wanted, label)
        with torch.inference_mode():
            self._length = float(self._embeddings(probes("text")).float().norm(dim=1).mean())

    @property
    def mean_and_std(self) -> tuple[Tensor, Tensor]:
        """(1, width) mean and standard deviation of the vectors of pictures that it was trained on."""
        return self._network.clip_mean, self._network.clip_std

    def draw(self, asked: Asked, rows: Sequence[int]) -> Tensor:
        """Return (len(rows), width) vectors of pictures for some rows of what is asked."""
        vectors = torch.from_numpy(self.way.rows(asked.vectors[list(rows)])).to(self._network.device)
        given = F.normalize(vectors, dim=-1).to(self._network.dtype) * self._length
        _, heard, masks = self._read([asked.words[row] for row in rows])  # the vector may be of more than its words
        nothing, silence, nowhere = self._read([""] * len(rows))
        condition = {
            "proj_embedding": torch.cat([nothing, given]),
            "encoder_hidden_states": torch.cat([silence, heard]),
            "attention_mask": torch.cat([nowhere, masks]),
        }
        generators = [asked.generators[row] for row in rows]
        noise = torch.stack([torch.randn(self.width, generator=one) for one in generators])
        latents = noise.to(given) * getattr(self._schedule, "init_noise_sigma", 1.0)
        self._schedule.set_timesteps(_STEPS, device=given.device)
        steps = self._schedule.timesteps
        takes = inspect.signature(self._schedule.step).parameters
        for number, step in enumerate(steps):
            both = self._network(torch.cat([latents, latents]), timestep=step, **condition).predicted_image_embedding
            plain, bound = both.chunk(2)
            extra: dict[str, Any] = {"generator": generators} if "generator" in takes else {}
            if "prev_timestep" in takes:
                extra["prev_timestep"] = steps[number + 1] if number + 1 < len(steps) else None
            guided = plain + _GUIDANCE * (bound - plain)
            latents = self._schedule.step(guided, timestep=step, sample=latents, **extra).prev_sample
        made: Tensor = self._network.post_process_latents(latents)
        return made

    def _embeddings(self, texts: Sequence[str]) -> Tensor:
        return self._read(list(texts))[0]

    def _read(self, texts: list[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the text network's (N, width) vectors, (N, L, hidden) states, and (N, L) which tokens are words."""
        length = min(self._tokenizer.model_max_length, self._words.config.max_position_embeddings)
        tokens = self._tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        read = self._words(tokens.input_ids.to(self._words.device))
        return read.text_embeds, read.last_hidden_state, tokens.attention_mask.bool().to(self._words.device)


def open_prior(request: HeadRequest, place: str, space: HeadSpace, dtype: torch.dtype) -> Prior:
    """Load a prior.

    Args:
        request: That of the head that it belongs to.
        place: Its folder or name.
        space: Whose vectors it is given.
        dtype: Precision of its weights.

    Raises:
        WeightsError: If it is missing, damaged, or would have to be downloaded.
        ConfigError: If it is no prior, or one of another tower.
    """
    asked = request.beside(place)
    folder, _ = folder_of(asked)
    kind, index = pipeline_class(asked, folder)
    names = _LAYOUTS.get(kind)
    if names is None:
        raise ConfigError(f"{request.label}: prior {place}: a {kind} holds no prior; known: {', '.join(_LAYOUTS)}")
    with loading(asked, f"its prior {folder} could not be loaded"):
        parts = [load_part(folder, name, index[name], dtype) for name in names]
    for network in parts[:2]:
        network.to(space.device).eval()
    return Prior(parts, space, request.label)


def load_part(folder: Path, name: str, made_by: Sequence[str], dtype: torch.dtype) -> Any:  # noqa: ANN401
    """Return a part of a pipeline: a network, a tokenizer, a schedule.

    Args:
        folder: The pipeline's.
        name: The part's subfolder.
        made_by: Library and class, as `model_index.json` has them.
        dtype: Precision of a network's weights.
    """
    import diffusers
    import transformers

    library, kind = made_by
    made = getattr(diffusers if library == "diffusers" else transformers, kind)
    is_network = not kind.endswith(("Tokenizer", "TokenizerFast", "Scheduler", "Processor", "Extractor"))
    options: dict[str, Any] = {"use_safetensors": True, "dtype": dtype} if is_network else {}
    return made.from_pretrained(str(folder), subfolder=name, local_files_only=True, **options)
