"""Train what latent generators are made of: the autoencoder, then a flow and a VAE on its latents."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
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
from embedspace.generate.latents.neighbours import Neighbours
from embedspace.generate.latents.unet import LatentUNet, UNetConfig
from embedspace.train.generators.autoencoder import AUTOENCODER_SHARE, MediaSet, latents_of, sharpen, train_autoencoder
from embedspace.train.generators.recipe import AutoencoderRecipe, FlowRecipe
from embedspace.train.generators.run import HeadRun, measured_sigma, write_head_config
from embedspace.train.loop import fit
from embedspace.train.mirroring import can_mirror
from embedspace.train.precision import bfloat16_autocast

__all__ = ["Averaged", "train_latent_head"]

_FLOW_SHARE = 0.65
"""Of the minutes; the VAE has what autoencoder and flow leave."""


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


def train_latent_head(
    run: HeadRun,
    recipes: tuple[AutoencoderRecipe, FlowRecipe],
    train: MediaSet,
    held: MediaSet,
    may_ship: NDArray[np.bool_],
    perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
    about: Mapping[str, Any] | None = None,
    options: Mapping[str, float] | None = None,
) -> None:
    """Train every part of a latent head, and write it.

    Args:
        run: The run.
        recipes: Of the autoencoder and of the flow.
        train: Training items.
        held: Validation items.
        may_ship: (N,) which training items may be in the gallery.
        perceptual: Distance of two batches, for the autoencoder.
        about: Further sections of the head's configuration.
        options: Of sampling, kept in the configuration.
    """
    autoencoder = train_autoencoder(run, recipes[0], train, held, perceptual)
    if recipes[0].steps_adversarial:
        sharpen(run, recipes[0], autoencoder, train, held, perceptual)
    save_tensors(autoencoder, run.head / "autoencoder.safetensors")
    recipe = recipes[1]
    views = torch.stack([latents_of(autoencoder, train, mirror) for mirror in (False, True)[: 1 + recipe.mirror]])
    chosen = np.flatnonzero(may_ship).tolist()
    kept = train.take(chosen)
    gallery = Neighbours(kept.keys, views[0, chosen], kept.items, kept.captions)
    gallery.save(run.head)
    place = {item: number for number, item in enumerate(gallery.items)}
    own = torch.tensor([place.get(item, -1) for item in train.items])
    held_latents = latents_of(autoencoder, held) if len(held.items) else None
    mirrored = torch.tensor([can_mirror(caption) for caption in train.captions])

    def draw(generator: torch.Generator) -> tuple[Tensor, Condition]:
        rows = torch.multinomial(train.weights, recipe.batch_size, replacement=True, generator=generator)
        view = torch.randint(len(views), (len(rows),), generator=generator) * mirrored[rows]
        sigma = torch.rand(len(rows), generator=generator) * recipe.max_sigma
        vector = add_noise(train.keys[rows], sigma, generator)
        context = None
        if recipe.neighbours:
            # found by the noisy vector, as they will be; the item itself is never among them
            near, _ = gallery.nearest(vector, recipe.neighbours, exclude=own[rows])
            alone = torch.rand(len(rows), generator=generator) < recipe.drop_context
            # a mirrored item has mirrored neighbours: what faces left in one drawing mostly does in others
            context = views[view[:, None], kept_rows[near]] * (~alone)[:, None, None, None, None]
        dropped = torch.rand(len(rows), generator=generator) < recipe.drop
        return views[view, rows], Condition(vector, sigma, context).drop_rows(dropped)

    kept_rows = torch.tensor(chosen)
    channels, height, width = views.shape[2:]
    embed_dim = train.keys.shape[1]
    sizes: dict[str, Any] = {
        "flow": UNetConfig(
            channels,
            height,
            width,
            embed_dim,
            recipe.neighbours,
            recipe.width,
            recipe.multiples,
            recipe.blocks,
        ),
        "vae": VAEConfig(channels, height, width, embed_dim, channels=recipe.width),
    }
    makers: dict[str, Any] = {"flow": LatentUNet, "vae": LatentVAE}
    losses: dict[str, Any] = {"flow": partial(flow_loss, first_time=recipe.first_time), "vae": vae_loss}
    steps = {"flow": recipe.steps, "vae": recipe.steps_vae}
    shares = {"flow": _FLOW_SHARE, "vae": 1.0 - AUTOENCODER_SHARE - _FLOW_SHARE}
    for family, size in sizes.items():
        if not steps[family]:
            continue
        torch.manual_seed(run.recipe.seed)
        pair = Averaged(makers[family](size).to(memory_format=torch.channels_last), recipe.ema)
        _fit_family(run, family, pair, losses[family], draw, (held, held_latents, gallery), recipe, shares[family])
        save_tensors(pair.average, run.head / f"{family}.safetensors")
    families = {family: dataclasses.asdict(size) for family, size in sizes.items() if steps[family]}
    write_head_config(
        run,
        {
            "autoencoder": dataclasses.asdict(autoencoder.config),
            "families": families,
            "sigma": measured_sigma(run),
            "options": {**_copies(gallery, held_latents), **(options or {})},
            **(about or {}),
        },
    )


def _copies(gallery: Neighbours, held: Tensor | None) -> dict[str, float]:
    """Return the likeness that one in twenty real items that were never trained on has with some training item."""
    if held is None:
        return {}
    alike = torch.tensor([found.similarity for part in torch.split(held, 64) for found in gallery.nearest_output(part)])
    return {"copy_similarity": round(float(alike.quantile(0.95)), 4)}


def _fit_family(
    run: HeadRun,
    family: str,
    pair: Averaged,
    loss_of: Callable[..., Tensor],
    draw: Callable[[torch.Generator], tuple[Tensor, Condition]],
    held: tuple[MediaSet, Tensor | None, Neighbours],
    recipe: FlowRecipe,
    share: float,
) -> None:
    """Train one network on latents, with its moving average."""
    steps = recipe.steps if family == "flow" else recipe.steps_vae

    def loss_of_step(model: nn.Module, generator: torch.Generator) -> Tensor:
        assert isinstance(model, Averaged)
        model.update()  # with what the last step made
        latents, condition = draw(generator)
        with bfloat16_autocast():
            return loss_of(model.live, latents, condition, generator).float()

    @torch.inference_mode()
    def evaluate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, Averaged)
        items, latents, gallery = held
        if latents is None:
            return {}
        near, _ = gallery.nearest(items.keys, recipe.neighbours or 1)
        context = gallery.latents[near] if recipe.neighbours else None
        condition = Condition(items.keys, torch.zeros(len(latents)), context)
        return {"held_loss": float(loss_of(model.average, latents, condition, torch.Generator().manual_seed(0)))}

    fit(
        pair,
        loss_of_step,
        run.fit_config(recipe, steps, share),
        stage=family,
        checkpoint=run.out / f"{family}.ckpt",
        resume=run.resume,
        evaluate=evaluate,
        callback=run.tell,
    )
    pair.update()
