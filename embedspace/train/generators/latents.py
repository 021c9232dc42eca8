"""Train what latent generators are made of: the autoencoder, then a flow and a VAE on its latents."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedspace.encoders.base import save_tensors
from embedspace.generate.conditioning import Condition, add_noise
from embedspace.generate.families.flow import flow_loss
from embedspace.generate.families.vae import LatentVAE, VAEConfig, vae_loss
from embedspace.generate.latents.autoencoder import Autoencoder
from embedspace.generate.latents.neighbours import Neighbours
from embedspace.generate.latents.unet import LatentUNet, UNetConfig
from embedspace.train.generators.autoencoder import AUTOENCODER_SHARE, MediaSet, latents_of, sharpen, train_autoencoder
from embedspace.train.generators.recipe import AutoencoderRecipe, FlowRecipe
from embedspace.train.generators.run import GeneratorRun, measured_sigma, write_generator_config
from embedspace.train.loop import fit
from embedspace.train.mirroring import can_mirror
from embedspace.train.precision import bfloat16_autocast

__all__ = ["Averaged", "train_latent_generator"]

_FLOW_SHARE = 0.65
"""Share of the minutes; the VAE has what autoencoder and flow leave."""


class Averaged(nn.Module):
    """A network and the moving average of its weights; both are in a checkpoint.

    Source: Polyak and Juditsky 1992; Karras et al. 2024 (https://arxiv.org/abs/2312.02696), section 3.1, on why
    diffusion needs it.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.live = network
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.decay = decay
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self.updates: Tensor

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the live weights; early on faster, so that it forgets how it began."""
        decay = min(self.decay, float((1 + self.updates) / (10 + self.updates)))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.live.parameters()), 1.0 - decay)
        self.updates += 1


def train_latent_generator(
    run: GeneratorRun,
    recipes: tuple[AutoencoderRecipe, FlowRecipe],
    train: MediaSet,
    held: MediaSet,
    may_ship: NDArray[np.bool_],
    perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
    about: Mapping[str, Any] | None = None,
    options: Mapping[str, float] | None = None,
) -> None:
    """Train every part of a latent generator, and write it.

    Args:
        run: The run.
        recipes: Recipes of the autoencoder and of the flow.
        train: Training items.
        held: Validation items.
        may_ship: (N,) which training items may be neighbours that ship.
        perceptual: Distance of two batches, for the autoencoder.
        about: Further sections of the generator's configuration.
        options: Options of sampling, kept in the configuration.
    """
    autoencoder = train_autoencoder(run, recipes[0], train, held, perceptual)
    if recipes[0].steps_adversarial:
        sharpen(run, recipes[0], autoencoder, train, held, perceptual)
    save_tensors(autoencoder, run.folder / "autoencoder.safetensors")
    latents = _latents(autoencoder, recipes[1], train, held, may_ship)
    latents.shipped.save(run.folder)
    families = _families(recipes[1], latents)
    for family in families:
        _train_family(run, recipes[1], family, latents)
    config = {
        "autoencoder": dataclasses.asdict(autoencoder.config),
        "families": {family.name: dataclasses.asdict(family.size) for family in families},
        "sigma": measured_sigma(run),
        "options": {**_copies(latents.shipped, latents.held_latents), **(options or {})},
    }
    write_generator_config(run, {**config, **(about or {})})


@dataclass(frozen=True)
class _Latents:
    """What the families learn from.

    Attributes:
        train: Training items.
        held: Validation items.
        views: (V, N, C, H, W) latents of the training items, as they are and, where the recipe says so, mirrored.
        held_latents: (M, C, H, W) of the validation items; None without any.
        shipped: Neighbours that may ship.
        rows: (G,) the training item that each of them is.
        places: (N,) each training item's place among them, -1 where it is none.
        mirrored: (N,) whether a training item may be mirrored.
    """

    train: MediaSet
    held: MediaSet
    views: Tensor
    held_latents: Tensor | None
    shipped: Neighbours
    rows: Tensor
    places: Tensor
    mirrored: Tensor

    def draw(self, recipe: FlowRecipe, generator: torch.Generator) -> tuple[Tensor, Condition]:
        """Return latents (B, C, H, W) of a batch, and what they are to be made from."""
        rows = torch.multinomial(self.train.weights, recipe.batch_size, replacement=True, generator=generator)
        view = torch.randint(len(self.views), (len(rows),), generator=generator) * self.mirrored[rows]
        sigma = torch.rand(len(rows), generator=generator) * recipe.max_sigma
        vector = add_noise(self.train.keys[rows], sigma, generator)
        context = None
        if recipe.neighbours:
            # found by the noisy vector, as they will be; the item itself is never among them
            near, _ = self.shipped.nearest(vector, recipe.neighbours, exclude=self.places[rows])
            alone = torch.rand(len(rows), generator=generator) < recipe.drop_context
            # a mirrored item has mirrored neighbours: what faces left in one drawing mostly does in others
            context = self.views[view[:, None], self.rows[near]] * (~alone)[:, None, None, None, None]
        dropped = torch.rand(len(rows), generator=generator) < recipe.drop
        return self.views[view, rows], Condition(vector, sigma, context).drop_rows(dropped)


def _latents(
    autoencoder: Autoencoder, recipe: FlowRecipe, train: MediaSet, held: MediaSet, may_ship: NDArray[np.bool_]
) -> _Latents:
    """Encode all items, and choose the neighbours that ship."""
    views = torch.stack([latents_of(autoencoder, train, mirror) for mirror in (False, True)[: 1 + recipe.mirror]])
    chosen = np.flatnonzero(may_ship).tolist()
    kept = train.take(chosen)
    shipped = Neighbours(kept.keys, views[0, chosen], kept.items, kept.captions)
    place = {item: number for number, item in enumerate(shipped.items)}
    return _Latents(
        train,
        held,
        views,
        latents_of(autoencoder, held) if len(held.items) else None,
        shipped,
        torch.tensor(chosen),
        torch.tensor([place.get(item, -1) for item in train.items]),
        torch.tensor([can_mirror(caption) for caption in train.captions]),
    )


@dataclass(frozen=True)
class _Family:
    """One network on latents: how it is made, its loss, its steps, and its share of the minutes."""

    name: str
    size: UNetConfig | VAEConfig
    make: Callable[[Any], nn.Module]
    loss: Callable[..., Tensor]
    steps: int
    share: float


def _families(recipe: FlowRecipe, latents: _Latents) -> list[_Family]:
    """Return the families that the recipe trains."""
    channels, height, width = latents.views.shape[2:]
    embed_dim = latents.train.keys.shape[1]
    unet = UNetConfig(
        channels, height, width, embed_dim, recipe.neighbours, recipe.width, recipe.multiples, recipe.blocks
    )
    vae = VAEConfig(channels, height, width, embed_dim, channels=recipe.width)
    flow = partial(flow_loss, first_time=recipe.first_time)
    every = (
        _Family("flow", unet, LatentUNet, flow, recipe.steps, _FLOW_SHARE),
        _Family("vae", vae, LatentVAE, vae_loss, recipe.steps_vae, 1.0 - AUTOENCODER_SHARE - _FLOW_SHARE),
    )
    return [family for family in every if family.steps]


def _copies(shipped: Neighbours, held: Tensor | None) -> dict[str, float]:
    """Return the likeness that one in twenty real items that were never trained on has with some training item."""
    if held is None:
        return {}
    alike = torch.tensor([found.similarity for part in torch.split(held, 64) for found in shipped.nearest_output(part)])
    return {"copy_similarity": round(float(alike.quantile(0.95)), 4)}


def _train_family(run: GeneratorRun, recipe: FlowRecipe, family: _Family, latents: _Latents) -> None:
    """Train one network on latents with its moving average, and write the average."""

    def loss_of_step(model: nn.Module, generator: torch.Generator) -> Tensor:
        assert isinstance(model, Averaged)
        model.update()  # with what the last step made
        real, condition = latents.draw(recipe, generator)
        with bfloat16_autocast():
            return family.loss(model.live, real, condition, generator).float()

    @torch.inference_mode()
    def evaluate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, Averaged)
        if latents.held_latents is None:
            return {}
        keys = latents.held.keys
        near, _ = latents.shipped.nearest(keys, recipe.neighbours or 1)
        context = latents.shipped.latents[near] if recipe.neighbours else None
        condition = Condition(keys, torch.zeros(len(keys)), context)
        generator = torch.Generator().manual_seed(0)
        return {"held_loss": float(family.loss(model.average, latents.held_latents, condition, generator))}

    torch.manual_seed(run.recipe.seed)
    network = family.make(family.size).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pair = Averaged(network, recipe.ema)
    fit(
        pair,
        loss_of_step,
        run.fit_config(recipe, family.steps, family.share),
        stage=family.name,
        checkpoint=run.out / f"{family.name}.ckpt",
        resume=run.resume,
        evaluate=evaluate,
        callback=run.tell,
    )
    pair.update()
    save_tensors(pair.average, run.folder / f"{family.name}.safetensors")
