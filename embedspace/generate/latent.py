"""What generators on latents share, whatever the latents mean: neighbours, condition, sampler, decoder."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedspace.encoders.base import load_strict
from embedspace.generate import flow, vae
from embedspace.generate.autoencoder import Autoencoder, AutoencoderConfig
from embedspace.generate.base import GeneratorHead, Neighbour, Request, Sample, generators_of
from embedspace.generate.conditioning import Condition
from embedspace.generate.gallery import Gallery, load_gallery
from embedspace.generate.memory import Memory, load_memory
from embedspace.generate.unet import LatentUNet, UNetConfig
from embedspace.generate.vae import LatentVAE, VAEConfig

__all__ = ["LatentHead", "LatentOptions", "load_parts", "memory_beside"]

SAMPLERS: dict[str, Callable[..., Tensor]] = {"flow": flow.sample, "vae": vae.sample}
"""Family -> its sampler; all have one signature."""


@dataclass(frozen=True, slots=True)
class LatentOptions:
    """How latents are drawn; chosen on the validation split.

    Attributes:
        num_steps: Of the flow.
        guidance_scale: Of either family.
        pool: Neighbours are drawn from so many nearest; samples with an even seed take the very nearest.
        spread: How far down the pool others reach: a neighbour's chance goes with exp(cosine / spread).
        projection: Temperature of the projection of noisy vectors onto the memory's (DeCap); 0 for none.
        projected_sigma: Noise assumed in a projected vector; vectors with no more than this are not projected.
    """

    num_steps: int = 16
    guidance_scale: float = 2.0
    pool: int = 8
    spread: float = 0.05
    projection: float = 0.05
    projected_sigma: float = 0.5


class LatentHead(GeneratorHead):
    """An autoencoder, one network a family on its latents, and the gallery that neighbours come from.

    Args:
        autoencoder: Its decoder makes the media.
        networks: Family -> network; the first is the default.
        gallery: Training items.
        sigma: As `GeneratorHead.sigma`.
        options: Defaults of sampling.
        memory: What noisy vectors are projected onto; None to take every vector as it is.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        networks: Mapping[str, nn.Module],
        gallery: Gallery,
        sigma: Mapping[str, float],
        options: LatentOptions | None = None,
        memory: Memory | None = None,
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.networks = nn.ModuleDict(dict(networks))
        self.families = tuple(networks)
        self.gallery = gallery
        self.sigma = sigma
        self.options = options or LatentOptions()
        self.memory = memory

    @abstractmethod
    def to_media(self, decoded: Tensor, request: Request) -> list[tuple[NDArray[Any], int]]:
        """Turn decoded items (B, in_channels, H, W) into (content, sample_rate)."""

    @torch.inference_mode()
    def generate(
        self, vectors: NDArray[np.float32], sigma: NDArray[np.float32], request: Request
    ) -> list[list[Sample]]:
        """Return `request.num_samples` samples of each vector."""
        family = self.check_family(request)
        if self.memory is not None:
            vectors, sigma = self.memory.settle(vectors, sigma, self.options.projection, self.options.projected_sigma)
        return [
            self._samples(torch.from_numpy(row), float(noise), request, family)
            for row, noise in zip(vectors, sigma, strict=True)
        ]

    def _samples(self, vector: Tensor, sigma: float, request: Request, family: str) -> list[Sample]:
        count = request.num_samples
        network: Any = self.networks[family]
        rows = self.draw_neighbours(vector, generators_of(request), getattr(network.config, "neighbours", 0))
        condition = Condition(vector.expand(count, -1), torch.full((count,), sigma), self.gallery.latents[rows])
        scale = self.options.guidance_scale if request.guidance_scale is None else request.guidance_scale
        latents = SAMPLERS[family](
            network,
            condition,
            num_steps=request.num_steps or self.options.num_steps,
            guidance_scale=scale,
            generator=generators_of(request),
        )
        copies = self.gallery.nearest_output(latents)
        media = self.to_media(self.autoencoder.decode(latents), request)
        return [
            Sample(
                self.modality.value,
                content,
                request.seed + number,
                sample_rate=rate,
                provenance={
                    "context": [self.gallery.items[i] for i in rows[number].tolist()],
                    "nearest_output": {"item": copies[number].item, "similarity": round(copies[number].similarity, 4)},
                },
                neighbours=(copies[number],),
            )
            for number, (content, rate) in enumerate(media)
        ]

    def draw_neighbours(self, vector: Tensor, generators: list[torch.Generator], k: int) -> Tensor:
        """Return (B, k) numbers of gallery items for samples of one vector (embed_dim,), nearest first.

        A sample with an even seed takes the nearest k, any other draws k of the pool without replacement: samples then
        differ in what they start from, and each depends on its own seed alone.

        Source: Vieira 2014 and Kool et al. 2019 (https://arxiv.org/abs/1903.06059), section 2.3, Gumbel-top-k.
        """
        found, cosines = self.gallery.nearest(vector[None], max(k, self.options.pool))
        near, logits = found[0], cosines[0] / self.options.spread
        rows = []
        for generator in generators:
            chosen = near[:k]
            if generator.initial_seed() % 2:
                uniform = torch.rand(len(near), generator=generator).clamp(1e-9, 1 - 1e-9)
                gumbel = -torch.log(-torch.log(uniform))
                chosen = near[(logits + gumbel).topk(k).indices.sort().values]
            rows.append(chosen)
        return torch.stack(rows)

    @torch.inference_mode()
    def gallery_media(self, vector: NDArray[np.float32], k: int) -> list[tuple[Neighbour, NDArray[Any]]]:
        """Return the k nearest gallery items of a centred vector (embed_dim,), decoded from their latents."""
        rows, cosines = self.gallery.nearest(torch.from_numpy(vector)[None], k)
        media = self.to_media(self.autoencoder.decode(self.gallery.latents[rows[0]]), Request())
        return [
            (Neighbour(self.gallery.items[i], self.gallery.captions[i], value), content)
            for i, value, (content, _) in zip(rows[0].tolist(), cosines[0].tolist(), media, strict=True)
        ]


def load_parts(config: Mapping[str, Any], folder: Path) -> tuple[Autoencoder, dict[str, nn.Module], Gallery]:
    """Make the networks of a latent head with their weights, strictly.

    Raises:
        WeightsError: If a file is missing, damaged or of another shape.
    """
    autoencoder = Autoencoder(AutoencoderConfig(**_tuples(config["autoencoder"])))
    load_strict(autoencoder, folder / "autoencoder.safetensors")
    makers: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
        "flow": lambda size: LatentUNet(UNetConfig(**size)),
        "vae": lambda size: LatentVAE(VAEConfig(**size)),
    }
    networks: dict[str, nn.Module] = {}
    for family, size in config["families"].items():
        networks[family] = makers[family](_tuples(size))
        load_strict(networks[family], folder / f"{family}.safetensors")
    return autoencoder, networks, load_gallery(folder)


def memory_beside(folder: Path) -> Memory | None:
    """Return the memory of the heads that `folder` is one of; None where they have none."""
    heads = folder.parent
    return load_memory(heads) if (heads / "memory.json").is_file() else None


def _tuples(size: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in size.items()}
