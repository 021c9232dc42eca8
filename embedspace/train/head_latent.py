"""Train what latent generators are made of: the autoencoder, then a flow and a VAE on its latents."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from embedspace.encoders.base import save_tensors
from embedspace.errors import ConfigError
from embedspace.generate.autoencoder import Autoencoder, AutoencoderConfig, kl_divergence
from embedspace.generate.conditioning import Condition, add_noise
from embedspace.generate.flow import flow_loss
from embedspace.generate.gallery import Gallery
from embedspace.generate.unet import LatentUNet, UNetConfig
from embedspace.generate.vae import LatentVAE, VAEConfig, vae_loss
from embedspace.train.head import HeadRun, measured_sigma, write_head_config
from embedspace.train.head_recipe import AutoencoderRecipe, FlowRecipe
from embedspace.train.loop import fit

__all__ = ["Averaged", "MediaSet", "Perceptual", "train_latent_head"]

_AUTOENCODER_SHARE, _FLOW_SHARE = 0.25, 0.65
"""Shares of the minutes; the VAE has the rest."""
_BATCH = 64


@dataclass(frozen=True)
class MediaSet:
    """Items of one split, ready for the autoencoder.

    Attributes:
        media: (N, in_channels, H, W) uint8; 0 to 255 stands for -1 to 1.
        items: N ids.
        captions: N first captions.
        keys: (N, embed_dim) centred text vectors of the captions.
        weights: (N,) how often each is drawn.
    """

    media: Tensor
    items: list[str]
    captions: list[str]
    keys: Tensor
    weights: Tensor

    def batch(self, rows: Tensor) -> Tensor:
        """Return items (B, in_channels, H, W) in [-1, 1]."""
        return self.media[rows].float() / 127.5 - 1.0

    def take(self, rows: Sequence[int]) -> MediaSet:
        """Return some of the items."""
        index = torch.as_tensor(list(rows), dtype=torch.long)
        names = [self.items[k] for k in rows], [self.captions[k] for k in rows]
        return MediaSet(self.media[index], *names, self.keys[index], self.weights[index])


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
        for mean, value in zip(self.average.parameters(), self.live.parameters(), strict=True):
            mean.lerp_(value, 1.0 - decay)
        self.updates += 1


class Perceptual(nn.Module):
    """Distance between what a frozen network's stages make of two pictures.

    Source: Zhang et al. 2018 (LPIPS, https://arxiv.org/abs/1801.03924), equation 1, without the learnt weights.
    """

    def __init__(self, name: str = "efficientnet_lite0", stages: int = 4) -> None:
        super().__init__()
        from embedspace.encoders.backbones import create_backbone

        network: Any = create_backbone(name)
        self.stem, self.stages = network.stem, nn.ModuleList(list(network.stages)[:stages])

    def forward(self, made: Tensor, real: Tensor) -> Tensor:
        """Return the mean distance of pictures (B, 3, H, W) in [-1, 1]."""
        x = F.relu6(self.stem(torch.cat([made, real]).contiguous(memory_format=torch.channels_last)))
        total = made.new_zeros(())
        for stage in self.stages:
            x = stage(x)
            a, b = F.normalize(x, dim=1).chunk(2)
            total = total + (a - b).square().sum(dim=1).mean()
        return total / len(self.stages)


def train_autoencoder(
    run: HeadRun,
    recipe: AutoencoderRecipe,
    train: MediaSet,
    held: MediaSet,
    perceptual: Callable[[Tensor, Tensor], Tensor] | None,
) -> Autoencoder:
    """Train the autoencoder and set the scale of its latents."""
    torch.manual_seed(run.recipe.seed)
    size = AutoencoderConfig(train.media.shape[1], recipe.channels, _three(recipe.multiples), recipe.latent_dim)
    network = Autoencoder(size)

    def loss_of_step(model: nn.Module, generator: torch.Generator) -> Tensor:
        assert isinstance(model, Autoencoder)
        rows = torch.multinomial(train.weights, recipe.batch_size, replacement=True, generator=generator)
        real = train.batch(rows)
        made, mean, log_variance = model.reconstruct(real, generator)
        loss = (made - real).abs().mean() + recipe.kl * kl_divergence(mean, log_variance)
        return loss if perceptual is None else loss + recipe.perceptual * perceptual(made, real)

    @torch.inference_mode()
    def evaluate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, Autoencoder)
        if not len(held.items):
            return {}
        real = held.batch(torch.arange(min(len(held.items), 256)))
        parts = [model.decode(model.encode(part)) for part in torch.split(real, _BATCH)]
        error = (torch.cat(parts).clamp(-1, 1) - real).square().mean(dim=(1, 2, 3))
        return {"held_psnr_db": float((10 * torch.log10(4.0 / error)).mean())}

    config = run.fit_config(recipe, recipe.steps, _AUTOENCODER_SHARE)
    path = run.out / "autoencoder.ckpt"
    fit(
        network, loss_of_step, config, stage="autoencoder", checkpoint=path, resume=run.resume, evaluate=evaluate,
        callback=run.tell,
    )  # fmt: skip
    with torch.inference_mode():
        rows = torch.randperm(len(train.items), generator=torch.Generator().manual_seed(0))[:2048]
        means = torch.cat([network.posterior(train.batch(part))[0] for part in torch.split(rows, _BATCH)])
    network.standardise(means)
    return network


@torch.inference_mode()
def latents_of(network: Autoencoder, media: MediaSet, mirror: bool = False) -> Tensor:
    """Return the latents (N, C, h, w) of all items, or of their mirror images."""
    parts = [media.batch(part) for part in torch.split(torch.arange(len(media.items)), _BATCH)]
    return torch.cat([network.encode(part.flip(3) if mirror else part) for part in parts])


def _three(multiples: tuple[int, ...]) -> tuple[int, int, int]:
    if len(multiples) != 3:
        raise ConfigError(f"autoencoder: multiples must be three, one a resolution, got {multiples}")
    return multiples[0], multiples[1], multiples[2]


def train_latent_head(
    run: HeadRun,
    recipes: tuple[AutoencoderRecipe, FlowRecipe],
    train: MediaSet,
    held: MediaSet,
    may_ship: NDArray[np.bool_],
    perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
    about: Mapping[str, Any] | None = None,
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
    """
    autoencoder = train_autoencoder(run, recipes[0], train, held, perceptual)
    save_tensors(autoencoder, run.head / "autoencoder.safetensors")
    recipe = recipes[1]
    views = [latents_of(autoencoder, train), *([latents_of(autoencoder, train, mirror=True)] if recipe.mirror else [])]
    chosen = np.flatnonzero(may_ship).tolist()
    kept = train.take(chosen)
    gallery = Gallery(kept.keys, views[0][chosen], kept.items, kept.captions)
    gallery.save(run.head)
    place = {item: number for number, item in enumerate(gallery.items)}
    own = torch.tensor([place.get(item, -1) for item in train.items])
    held_latents = latents_of(autoencoder, held) if len(held.items) else None

    def draw(generator: torch.Generator) -> tuple[Tensor, Condition]:
        rows = torch.multinomial(train.weights, recipe.batch_size, replacement=True, generator=generator)
        view = int(torch.randint(len(views), (), generator=generator))
        sigma = torch.rand(len(rows), generator=generator) * recipe.max_sigma
        vector = add_noise(train.keys[rows], sigma, generator)
        context = None
        if recipe.neighbours:
            # found by the noisy vector, as they will be; the item itself is never among them
            near, _ = gallery.nearest(vector, recipe.neighbours, exclude=own[rows])
            alone = torch.rand(len(rows), generator=generator) < recipe.drop_context
            context = gallery.latents[near] * (~alone)[:, None, None, None, None]
        dropped = torch.rand(len(rows), generator=generator) < recipe.drop
        return views[view][rows], Condition(vector, sigma, context).drop_rows(dropped)

    channels, height, width = views[0].shape[1:]
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
    losses: dict[str, Any] = {"flow": flow_loss, "vae": vae_loss}
    steps = {"flow": recipe.steps, "vae": recipe.steps_vae}
    shares = {"flow": _FLOW_SHARE, "vae": 1.0 - _AUTOENCODER_SHARE - _FLOW_SHARE}
    for family, size in sizes.items():
        if not steps[family]:
            continue
        torch.manual_seed(run.recipe.seed)
        pair = Averaged(makers[family](size), recipe.ema)
        _fit_family(run, family, pair, losses[family], draw, (held, held_latents, gallery), recipe, shares[family])
        save_tensors(pair.average, run.head / f"{family}.safetensors")
    families = {family: dataclasses.asdict(size) for family, size in sizes.items() if steps[family]}
    write_head_config(
        run,
        {
            "autoencoder": dataclasses.asdict(autoencoder.config),
            "families": families,
            "sigma": measured_sigma(run),
            **(about or {}),
        },
    )


def _fit_family(
    run: HeadRun,
    family: str,
    pair: Averaged,
    loss_of: Callable[..., Tensor],
    draw: Callable[[torch.Generator], tuple[Tensor, Condition]],
    held: tuple[MediaSet, Tensor | None, Gallery],
    recipe: FlowRecipe,
    share: float,
) -> None:
    """Train one network on latents, with its moving average."""
    steps = recipe.steps if family == "flow" else recipe.steps_vae

    def loss_of_step(model: nn.Module, generator: torch.Generator) -> Tensor:
        assert isinstance(model, Averaged)
        model.update()  # with what the last step made
        latents, condition = draw(generator)
        return loss_of(model.live, latents, condition, generator)

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
