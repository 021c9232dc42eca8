"""Stable unCLIP: Stable Diffusion whose network is told a CLIP image vector, such as stable-diffusion-2-1-unclip.

Option `prior`: folder or name of an unCLIP prior; `noise_level`: how far the vector is blurred, 0 to 999.

Source: https://huggingface.co/docs/diffusers/api/pipelines/stable_unclip
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from embedspace.errors import ConfigError
from embedspace.generate.pretrained.base import Asked, Content, Wanted
from embedspace.generate.pretrained.conditioning import PictureVectors, picture_rows
from embedspace.generate.pretrained.pipelines import PictureHead, register_pipeline
from embedspace.generate.pretrained.vectors import spread_of

__all__ = ["StableUnclip"]


@register_pipeline("StableUnCLIPImg2ImgPipeline")
class StableUnclip(PictureHead):
    """A Stable unCLIP; its own copy of CLIP's image network says which tower it takes."""

    settings = ("prior", "noise_level")
    steps, guidance = 20, 10.0

    def prepare(self) -> None:
        """Compare towers, and take the place of pictures from what the pipeline normalises vectors by."""
        pipeline, levels = self.pipeline, self.pipeline.image_noising_scheduler.config.num_train_timesteps
        said = self.setting("noise_level") or "0"
        if not said.isdecimal() or int(said) >= levels:
            raise ConfigError(f"{self.opened.request.label}: noise_level {said}, must be 0 to {levels - 1}")
        self._level = int(said)
        normalizer = pipeline.image_normalizer
        wanted = Wanted(normalizer.mean.shape[-1], "image", "its CLIP image network", "image", self._encode)
        spread = spread_of(normalizer.mean, normalizer.std)
        self._vectors = PictureVectors(self.opened, wanted, spread, self.prior())

    def _encode(self, pictures: Sequence[Any]) -> Tensor:
        return picture_rows(self.pipeline.image_encoder, self.pipeline.feature_extractor, pictures)

    def run(self, asked: Asked) -> list[tuple[Content, dict[str, Any]]]:
        """Draw a picture of each row; words are the decoder's prompt as well."""
        rows, about = self._vectors(asked)
        used = self.resolved(asked.request)
        drawn = self.pipeline(
            prompt=list(asked.words),
            image_embeds=torch.from_numpy(rows).to(self.pipeline.device, self.dtype),
            noise_level=self._level,
            height=used["size"],
            width=used["size"],
            num_inference_steps=used["num_steps"],
            guidance_scale=used["guidance_scale"],
            generator=asked.generators,
            output_type="np",
        )
        return list(zip(self.pixels(drawn.images), about, strict=True))
