"""Stable Diffusion with an IP-Adapter: a CLIP image vector beside the words, through attention of its own.

    --head diffusers:<Stable Diffusion> --head-option adapter=h94/IP-Adapter --head-option scale=0.8

Option `weights` names the adapter's file in its folder, `scale` how much the vector counts beside the words. Taken are
adapters of CLIP's projected vector; those called "plus" or "full" read the layer before it, one row for each patch.

Source: Ye et al. 2023 (IP-Adapter, https://arxiv.org/abs/2308.06721), section 3.2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from embedspace.encoders.towers.adapters.files import find_folder, loading
from embedspace.errors import ConfigError, WeightsError
from embedspace.generate.pretrained.base import Asked, Content, Wanted
from embedspace.generate.pretrained.conditioning import PictureVectors, measured_spread, picture_rows
from embedspace.generate.pretrained.files import HeadRequest
from embedspace.generate.pretrained.pipelines import PictureHead, register_pipeline

__all__ = ["IpAdapter"]

_WEIGHTS = {
    "StableDiffusionPipeline": "models/ip-adapter_sd15.safetensors",
    "StableDiffusionXLPipeline": "sdxl_models/ip-adapter_sdxl.safetensors",
}
"""Class of a pipeline -> the adapter's file in h94/IP-Adapter."""


@register_pipeline("StableDiffusionPipeline", "StableDiffusionXLPipeline")
class IpAdapter(PictureHead):
    """A Stable Diffusion with an adapter, whose own CLIP image network says which tower it takes."""

    settings = ("adapter", "weights", "scale", "prior")
    steps, guidance = 50, 7.5

    @classmethod
    def require(cls, settings: Mapping[str, Any], label: str) -> None:
        """Refuse a Stable Diffusion alone, which takes words and no vector."""
        if not settings.get("adapter"):
            raise ConfigError(
                f"{label}: takes words alone; an IP-Adapter lets it take vectors: --head-option adapter=<folder or "
                "name>, such as h94/IP-Adapter"
            )

    def prepare(self) -> None:
        """Load the adapter and compare towers."""
        request = self.opened.request
        said = self.setting("scale") or "1"
        try:
            scale = float(said)
        except ValueError:
            scale = -1.0
        if not 0 <= scale <= 2:
            raise ConfigError(f"{request.label}: scale {said}, must be 0 to 2")
        weights = PurePosixPath(self.setting("weights") or _WEIGHTS[self.opened.kind])
        asked = request.beside(self.setting("adapter"))
        folder = _folder(asked, weights)
        if not (folder / weights).is_file():
            raise WeightsError(
                f"{request.label}: its adapter {folder} holds no {weights}; name its file by weights=..."
            )
        self.pipeline.register_modules(image_encoder=None)  # the adapter brings the one that it was trained with
        with loading(asked, f"the adapter {folder / weights} could not be loaded"):
            self.pipeline.load_ip_adapter(
                str(folder), subfolder=str(weights.parent), weight_name=weights.name, local_files_only=True
            )
        self.pipeline.set_ip_adapter_scale(scale)
        (layer,) = self.pipeline.unet.encoder_hid_proj.image_projection_layers
        if type(layer).__name__ != "ImageProjection":
            raise ConfigError(
                f"{request.label}: the adapter {weights.name} reads a layer of CLIP before its projected vector, which "
                "is all that a space has; take one that is neither plus, full nor face"
            )
        network, self._processor = self.pipeline.image_encoder, self.pipeline.feature_extractor
        wanted = Wanted(int(network.config.projection_dim), "image", "its CLIP image network", "image", self._encode)
        self._vectors = PictureVectors(self.opened, wanted, measured_spread(network, self._processor), self.prior())

    def _encode(self, pictures: Sequence[Any]) -> Tensor:
        return picture_rows(self.pipeline.image_encoder, self._processor, pictures)

    def run(self, asked: Asked) -> list[tuple[Content, dict[str, Any]]]:
        """Draw a picture of each row; words are the prompt as well."""
        rows, about = self._vectors(asked)
        used = self.resolved(asked.request)
        given = torch.from_numpy(rows).to(self.pipeline.device, self.dtype)[:, None]  # (B, 1, width)
        if used["guidance_scale"] > 1:
            given = torch.cat([torch.zeros_like(given), given])
        drawn = self.pipeline(
            prompt=list(asked.words),
            ip_adapter_image_embeds=[given],
            height=used["size"],
            width=used["size"],
            num_inference_steps=used["num_steps"],
            guidance_scale=used["guidance_scale"],
            generator=asked.generators,
            output_type="np",
        )
        withheld = getattr(drawn, "nsfw_content_detected", None) or [False] * len(about)
        marked = [{**one, **({"withheld": True} if black else {})} for one, black in zip(about, withheld, strict=True)]
        return list(zip(self.pixels(drawn.images), marked, strict=True))


def _folder(request: HeadRequest, weights: PurePosixPath) -> Path:
    """Return the adapter's folder; of a name, only what is needed is brought into the hub's cache, where allowed."""
    if request.download and not request.path().is_dir():
        import huggingface_hub

        needed = [str(weights), f"{weights.parent}/image_encoder/*"]
        with loading(request, f"{request.place} could not be downloaded"):
            huggingface_hub.snapshot_download(request.place, allow_patterns=needed)
        request = dataclasses.replace(request, download=False)
    return find_folder(request, request.place)[0]
