"""What generators on latents share, whatever the latents mean: neighbours, condition, sampler, decoder."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedspace.encoders.base import load_strict
from embedspace.encoders.sizes import make_checked
from embedspace.errors import WeightsError
from embedspace.generate.base import GeneratorHead, Neighbour, Request, Sample, generators_of
from embedspace.generate.captions.vocabulary import Memory, load_memory
from embedspace.generate.conditioning import Condition
from embedspace.generate.families import flow, vae
from embedspace.generate.families.vae import LatentVAE, VAEConfig
from embedspace.generate.latents.autoencoder import Autoencoder, AutoencoderConfig
from embedspace.generate.latents.neighbours import Gallery, load_gallery
from embedspace.generate.latents.unet import LatentUNet, UNetConfig

__all__ = ["LatentHead", "LatentOptions", "load_parts", "memory_beside"]

SAMPLERS: dict[str, Callable[..., Tensor]] = {"flow": flow.sample, "vae": vae.sample}
"""Family -> its sampler; all have one signature."""
_EARLIER = 0.8
_STRIDE = 1_000_003
"""Seeds of a sample's candidates lie this far apart."""
_BATCH = 16
"""Samples that are drawn together."""


@dataclass(frozen=True, slots=True)
class LatentOptions:
    """How latents are drawn; chosen on the validation split.

    Attributes:
        num_steps: Of the flow.
        guidance_scale: Of either family.
        start: Time that the flow begins at, from the first neighbour; 0 for pure noise.
        pool: Neighbours are drawn from so many nearest; samples with an even seed take the very nearest.
        spread: How far down the pool others reach: a neighbour's chance goes with exp(cosine / spread).
        projection: Temperature of the projection of noisy vectors onto the memory's (DeCap); 0 for none.
        projected_sigma: Noise assumed in a projected vector; vectors with no more than this are not projected.
        copy_similarity: A sample as much like a training item as this counts as a near copy; one in twenty real items
            of the validation split does.
        candidates: So many are drawn for each sample, and the one is kept whose own vector fits best, near copies last;
            for heads that can tell (`fits`).
        redraws: A near copy is drawn again up to so often, each time from a start `_EARLIER` as late; 0 for never.
    """

    num_steps: int = 16
    guidance_scale: float = 2.0
    start: float = 0.0
    pool: int = 8
    spread: float = 0.05
    projection: float = 0.05
    projected_sigma: float = 0.5
    copy_similarity: float = 1.0
    candidates: int = 1
    redraws: int = 4


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
        vectors, sigma = self.settled(vectors, sigma)
        rounds = []
        candidates = request.candidates or self.options.candidates
        for number in range(candidates):
            asked = dataclasses.replace(request, seed=request.seed + number * _STRIDE)
            made = self._drawn(vectors, sigma, asked, family)
            if candidates == 1:
                return made
            found = [self.fits(row, own) for row, own in zip(vectors, made, strict=True)]
            if found[0] is None:
                return made
            rounds.append((made, found))
        return [
            [
                _best([(made[row][k], found[row][k]) for made, found in rounds], request.seed + k)  # type: ignore[index]
                for k in range(request.num_samples)
            ]
            for row in range(len(vectors))
        ]

    def settled(
        self, vectors: NDArray[np.float32], sigma: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return what the networks are given for centred vectors (N, embed_dim) and their noise (N,)."""
        if self.memory is None:
            return vectors, sigma
        return self.memory.settle(vectors, sigma, self.options.projection, self.options.projected_sigma)

    def fits(self, vector: NDArray[np.float32], samples: Sequence[Sample]) -> list[float] | None:
        """Return how well each sample's vector fits a centred vector (embed_dim,); None if this head cannot tell."""
        del vector, samples
        return None

    def _drawn(
        self, vectors: NDArray[np.float32], sigma: NDArray[np.float32], request: Request, family: str
    ) -> list[list[Sample]]:
        """Draw one candidate of every sample."""
        network: Any = self.networks[family]
        rows = torch.from_numpy(np.asarray(vectors, np.float32))
        noise = torch.from_numpy(np.asarray(sigma, np.float32))
        wanted = getattr(network.config, "neighbours", 0)
        near = torch.stack([self.draw_neighbours(row, generators_of(request), wanted) for row in rows])
        count = request.num_samples
        # (N, ...) -> (N * count, ...): samples of different vectors share a pass through the network
        vector, size, context = rows.repeat_interleave(count, 0), noise.repeat_interleave(count), near.flatten(0, 1)
        generators = [generator for _ in rows for generator in generators_of(request)]
        flat: list[Sample] = []
        for first in range(0, len(vector), _BATCH):
            part = slice(first, first + _BATCH)
            chosen = context[part]
            condition = Condition(vector[part], size[part], self.gallery.latents[chosen])
            draw = partial(self._latents, network, family, request)
            latents = draw(condition, [g.clone_state() for g in generators[part]], self.options.start)
            copies = self._redrawn(draw, latents, condition, generators[part])
            seeds = [request.seed + (first + k) % count for k in range(len(chosen))]
            flat += self._finished(latents, copies, chosen, seeds, request)
        return [flat[first : first + count] for first in range(0, len(flat), count)]

    def _latents(
        self,
        network: nn.Module,
        family: str,
        request: Request,
        condition: Condition,
        generators: list[torch.Generator],
        start: float,
    ) -> Tensor:
        """Draw latents (B, C, H, W) with one of the samplers."""
        scale = self.options.guidance_scale if request.guidance_scale is None else request.guidance_scale
        return SAMPLERS[family](
            network,
            condition,
            num_steps=request.num_steps or self.options.num_steps,
            guidance_scale=scale,
            generator=generators,
            start=start,
        )

    def _redrawn(
        self,
        draw: Callable[[Condition, list[torch.Generator], float], Tensor],
        latents: Tensor,
        condition: Condition,
        generators: list[torch.Generator],
    ) -> list[Neighbour]:
        """Draw near copies of training items again, with the same noise and less of the neighbour to begin from.

        Changes `latents` in place, and returns the training item that each is then most like.
        """
        start = self.options.start
        copies = self.gallery.nearest_output(latents)
        for _ in range(self.options.redraws if start else 0):
            alike = torch.tensor([copy.similarity for copy in copies])
            rows = (alike >= self.options.copy_similarity).nonzero().flatten()
            if not len(rows):
                break
            start *= _EARLIER
            part = Condition(condition.vector[rows], condition.sigma[rows], _rows_of(condition.context, rows))
            latents[rows] = draw(part, [generators[k].clone_state() for k in rows.tolist()], start)
            for row, copy in zip(rows.tolist(), self.gallery.nearest_output(latents[rows]), strict=True):
                copies[row] = copy
        return copies

    def _finished(
        self, latents: Tensor, copies: list[Neighbour], context: Tensor, seeds: list[int], request: Request
    ) -> list[Sample]:
        """Decode latents, and say what they were made from and which training item they are most like."""
        media = self.to_media(self.autoencoder.decode(latents), request)
        return [
            Sample(
                self.modality.value,
                content,
                seed,
                sample_rate=rate,
                provenance={
                    "context": [self.gallery.items[i] for i in near],
                    "nearest_output": {"item": copy.item, "similarity": round(copy.similarity, 4)},
                    **({"near_copy": True} if copy.similarity >= self.options.copy_similarity else {}),
                },
                neighbours=(copy,),
            )
            for (content, rate), seed, near, copy in zip(media, seeds, context.tolist(), copies, strict=True)
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


def _best(candidates: list[tuple[Sample, float]], seed: int) -> Sample:
    """Return the candidate that fits best, near copies last, under the seed that was asked for.

    Source: Ramesh et al. 2021 (https://arxiv.org/abs/2102.12092), section 2.6, for reranking by a contrastive model.
    """
    sample, fit = max(candidates, key=lambda pair: (not pair[0].provenance.get("near_copy", False), pair[1]))
    return dataclasses.replace(sample, seed=seed, score=fit)


def _rows_of(tensor: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if tensor is None else tensor[rows]


def load_parts(config: Mapping[str, Any], folder: Path) -> tuple[Autoencoder, dict[str, nn.Module], Gallery]:
    """Make the networks of a latent head with their weights, strictly.

    Raises:
        WeightsError: If a file is missing, damaged or of another shape.
    """
    parsed, path = AutoencoderConfig(**_tuples(config["autoencoder"])), folder / "autoencoder.safetensors"
    autoencoder = make_checked(lambda: Autoencoder(parsed), path)
    load_strict(autoencoder, path)
    makers: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
        "flow": lambda size: LatentUNet(UNetConfig(**size)),
        "vae": lambda size: LatentVAE(VAEConfig(**size)),
    }
    networks: dict[str, nn.Module] = {}
    for family, size in config["families"].items():
        path, make = folder / f"{family}.safetensors", partial(makers[family], _tuples(size))
        networks[family] = make_checked(make, path)
        load_strict(networks[family], path)
    gallery = load_gallery(folder)
    for family, network in networks.items():
        shape = getattr(network, "shape", None)
        if shape != tuple(gallery.latents.shape[1:]):
            raise WeightsError(
                f"{folder}: the {family} draws latents of {shape}, those of the gallery are "
                f"{tuple(gallery.latents.shape[1:])}; restore config.json as training wrote it"
            )
    return autoencoder, networks, gallery


def memory_beside(folder: Path) -> Memory | None:
    """Return the memory of the heads that `folder` is one of; None where they have none."""
    heads = folder.parent
    return load_memory(heads) if (heads / "memory.json").is_file() else None


def _tuples(size: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in size.items()}
