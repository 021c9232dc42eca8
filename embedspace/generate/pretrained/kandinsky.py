"""Kandinsky 2.2: a decoder of CLIP ViT-bigG/14 image vectors; `prior` names the folder with its prior and CLIP network.

The decoder has no copy of the tower that it was trained on, and is guided away from the vector of a black picture: both
come with the prior, so it is needed.

Source: https://huggingface.co/docs/diffusers/api/pipelines/kandinsky_v22
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from embedspace.encoders.towers.adapters.files import loading
from embedspace.errors import ConfigError
from embedspace.generate.pretrained.base import Asked, Content, Wanted
from embedspace.generate.pretrained.conditioning import PictureVectors, picture_rows
from embedspace.generate.pretrained.files import folder_of, pipeline_class
from embedspace.generate.pretrained.pipelines import PictureHead, register_pipeline
from embedspace.generate.pretrained.prior import load_part
from embedspace.generate.pretrained.vectors import spread_of

__all__ = ["Kandinsky"]

_PARTS = ("image_encoder", "image_processor")


@register_pipeline("KandinskyV22Pipeline")
class Kandinsky(PictureHead):
    """A decoder of Kandinsky 2.2 with the prior that it was published with."""

    settings = ("prior",)
    steps, guidance = 50, 4.0

    @classmethod
    def require(cls, settings: Mapping[str, Any], label: str) -> None:
        """Refuse a decoder without its prior."""
        if not settings.get("prior"):
            raise ConfigError(
                f"{label}: needs the prior that it was published with, for its CLIP network: "
                "--head-option prior=<folder or name>, such as kandinsky-community/kandinsky-2-2-prior"
            )

    def prepare(self) -> None:
        """Load the prior and its CLIP network, and compare towers."""
        request, prior = self.opened.request, self.prior()
        assert prior is not None  # `require`
        asked = request.beside(self.setting("prior"))
        folder, _ = folder_of(asked)
        kind, index = pipeline_class(asked, folder)
        if not all(name in index for name in _PARTS):
            raise ConfigError(f"{request.label}: its prior, a {kind}, holds no {' and '.join(_PARTS)}")
        with loading(asked, f"the CLIP network of {folder} could not be loaded"):
            self._network, self._processor = (load_part(folder, name, index[name], self.dtype) for name in _PARTS)
        self._network.to(self.opened.space.device).eval()
        width = int(self._network.config.projection_dim)
        wanted = Wanted(width, "image", "its prior's CLIP image network", "image", self._encode)
        self._vectors = PictureVectors(self.opened, wanted, spread_of(*prior.mean_and_std), prior)
        side = int(self._network.config.image_size)
        with torch.inference_mode():
            black = torch.zeros(1, 3, side, side, device=self._network.device, dtype=self.dtype)
            self._nothing: Tensor = self._network(black).image_embeds

    def _encode(self, pictures: Sequence[Any]) -> Tensor:
        return picture_rows(self._network, self._processor, pictures)

    @property
    def side(self) -> int:
        """Side of the network's latents, in pixels."""
        return int((self.pipeline.unet.config.sample_size or 64) * self.pipeline.movq_scale_factor)

    @property
    def multiple(self) -> int:
        """What the decoder rounds up to."""
        return int(self.pipeline.movq_scale_factor**2)

    def run(self, asked: Asked) -> list[tuple[Content, dict[str, Any]]]:
        """Draw a picture of each row."""
        rows, about = self._vectors(asked)
        used = self.resolved(asked.request)
        given = torch.from_numpy(rows).to(self.pipeline.device, self.dtype)
        drawn = self.pipeline(
            image_embeds=given,
            negative_image_embeds=self._nothing.expand_as(given),
            height=used["size"],
            width=used["size"],
            num_inference_steps=used["num_steps"],
            guidance_scale=used["guidance_scale"],
            generator=asked.generators,
            output_type="np",
        )
        return list(zip(self.pixels(drawn.images), about, strict=True))
