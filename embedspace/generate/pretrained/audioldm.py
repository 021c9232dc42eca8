"""AudioLDM and MusicLDM: sounds from CLAP vectors, such as cvssp/audioldm-s-full-v2.

Trained on CLAP vectors of sounds and asked with those of texts, at unit length: rows of the space's CLAP go in as they
are. Where CLAP is connected to another anchor, rows are carried back through the connector.

Source: Liu et al. 2023 (AudioLDM, https://arxiv.org/abs/2301.12503), section 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from embedspace.errors import ArgumentError
from embedspace.generate.base import Request, Sample
from embedspace.generate.pretrained.base import Asked, Content, Wanted
from embedspace.generate.pretrained.fitting import way_to
from embedspace.generate.pretrained.pipelines import PipelineHead, register_pipeline

__all__ = ["AudioLdm"]


@register_pipeline("AudioLDMPipeline", "MusicLDMPipeline")
class AudioLdm(PipelineHead):
    """An AudioLDM or MusicLDM; its own copy of CLAP's text network says which tower it takes."""

    modality = "audio"
    options = frozenset({"guidance_scale", "num_steps", "seconds"})
    grows = "seconds"
    steps, guidance = 100, 2.5

    def prepare(self) -> None:
        """Compare towers."""
        self._way = way_to(
            self.opened.space,
            Wanted(int(self.pipeline.text_encoder.config.projection_dim), "audio", "its CLAP", "text", self._encode),
            self.opened.request.label,
        )
        config = self.pipeline.vocoder.config
        self._rate = int(config.sampling_rate)
        self._hop = int(np.prod(config.upsample_rates)) * int(self.pipeline.vae_scale_factor)
        """Samples of one row of the latents."""

    def _encode(self, texts: Sequence[str]) -> Tensor:
        """Return (N, width) rows of texts by the pipeline's own CLAP."""
        tokens = self.pipeline.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        words = self.pipeline.text_encoder
        given = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
        moved = {name: tensor.to(words.device) for name, tensor in given.items()}
        if hasattr(words, "get_text_features"):  # MusicLDM keeps the whole CLAP
            found = words.get_text_features(**moved)
            made: Tensor = getattr(found, "pooler_output", found)
        else:
            made = words(**moved).text_embeds
        return made

    def resolved(self, request: Request) -> dict[str, Any]:
        """Return steps, guidance and length as they are used."""
        whole = int(self.pipeline.unet.config.sample_size) * self._hop / self._rate
        seconds = whole if request.seconds is None else request.seconds
        least = self._hop / self._rate
        if seconds < least:
            raise ArgumentError("seconds", f"{seconds:g}: must be at least {least:g} for this head")
        return {**self.sampling(request), "seconds": round(seconds, 3)}

    def run(self, asked: Asked) -> list[tuple[Content, dict[str, Any]]]:
        """Draw a sound of each row."""
        used = self.resolved(asked.request)
        rows = F.normalize(torch.from_numpy(self._way.rows(asked.vectors)), dim=-1)
        nothing = F.normalize(self._encode([""] * len(rows)).float().cpu(), dim=-1)
        drawn = self.pipeline(
            prompt_embeds=rows.to(self.pipeline.device, self.dtype),
            negative_prompt_embeds=nothing.to(self.pipeline.device, self.dtype),
            audio_length_in_s=used["seconds"],
            num_inference_steps=used["num_steps"],
            guidance_scale=used["guidance_scale"],
            generator=asked.generators,
            output_type="np",
        )
        agreement = self._way.agreement
        about = {"tower": self._way.tower, **({} if agreement is None else {"tower_agreement": round(agreement, 3)})}
        return [(_bounded(waveform), about) for waveform in np.asarray(drawn.audios, np.float32)]

    def sample_of(self, content: Content, seed: int, about: Mapping[str, Any]) -> Sample:
        """Return a sound at the vocoder's rate."""
        return Sample("audio", content, seed, self._rate, provenance=about)


def _bounded(waveform: Any) -> Any:  # noqa: ANN401 - (T,) float32
    """Bring a waveform whose peak is beyond 1 back to it."""
    waveform = np.nan_to_num(waveform)
    return waveform / max(1.0, float(np.abs(waveform).max(initial=0.0)))
