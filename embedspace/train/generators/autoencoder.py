"""Train the autoencoder of a latent generator: reconstruction first, then the decoder alone against a discriminator."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedspace.errors import ConfigError
from embedspace.generate.latents.autoencoder import DOWN, Autoencoder, AutoencoderConfig, kl_divergence
from embedspace.train.generators.recipe import AutoencoderRecipe
from embedspace.train.generators.run import GeneratorRun
from embedspace.train.loop import FitProgress, fit
from embedspace.train.precision import bfloat16_autocast

__all__ = ["AUTOENCODER_SHARE", "Discriminator", "MediaSet", "Perceptual", "latents_of", "sharpen", "train_autoencoder"]

AUTOENCODER_SHARE = 0.25
"""Share of the minutes; a fifth of it goes to the last phase, where there is one."""
_BATCH = 64
Distance = Callable[[Tensor, Tensor], Tensor]


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


class Perceptual(nn.Module):
    """Distance between what a frozen network's stages make of two pictures.

    Source: Zhang et al. 2018 (LPIPS, https://arxiv.org/abs/1801.03924), equation 1, without the learnt weights.
    """

    def __init__(self, name: str = "efficientnet_lite0", stages: int = 4) -> None:
        super().__init__()
        from embedspace.encoders.towers import create_backbone

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


class Discriminator(nn.Module):
    """Tells patches of real items from reconstructed ones.

    Source: Isola et al. 2017 (PatchGAN, https://arxiv.org/abs/1611.07004), section 3.2.2, smaller; Miyato et al. 2018
    (https://arxiv.org/abs/1802.05957) for the spectral norm.
    """

    def __init__(self, in_channels: int, width: int = 32) -> None:
        super().__init__()
        sizes = [in_channels, width, 2 * width, 4 * width]
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(sizes):
            layers += [nn.utils.parametrizations.spectral_norm(nn.Conv2d(a, b, 4, 2, 1)), nn.LeakyReLU(0.2)]
        layers.append(nn.utils.parametrizations.spectral_norm(nn.Conv2d(sizes[-1], 1, 3, padding=1)))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, 1, H / 8, W / 8), high where it looks real."""
        out: Tensor = self.layers(x)
        return out


class _Contest(nn.Module):
    """An autoencoder whose decoder learns, and its opponent; one checkpoint holds both."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.autoencoder.encoder.requires_grad_(False)
        self.opponent = Discriminator(autoencoder.config.in_channels)

    def loss(self, made: Tensor, real: Tensor, weight: float) -> Tensor:
        """Return the hinge loss of the discriminator plus `weight` times what it costs the decoder to be found out.

        Source: Lim and Ye 2017 (https://arxiv.org/abs/1705.02894), equations 9 and 10.
        """
        verdict = F.relu(1 - self.opponent(real)).mean() + F.relu(1 + self.opponent(made.detach())).mean()
        # the decoder's part goes through the opponent as it stands, and must not train it
        frozen = {name: value.detach() for name, value in self.opponent.named_parameters()}
        found: Tensor = torch.func.functional_call(self.opponent, frozen, (made,))
        return 0.5 * verdict - weight * found.mean()


def train_autoencoder(
    run: GeneratorRun, recipe: AutoencoderRecipe, train: MediaSet, held: MediaSet, perceptual: Distance | None
) -> Autoencoder:
    """Train the autoencoder and set the scale of its latents."""
    torch.manual_seed(run.recipe.seed)
    widths = recipe.channels, _three(recipe.multiples), recipe.latent_dim
    network = Autoencoder(AutoencoderConfig(train.media.shape[1], *widths, linear=recipe.linear))

    def loss_of_step(model: nn.Module, generator: torch.Generator) -> Tensor:
        assert isinstance(model, Autoencoder)
        real = _drawn(train, recipe, generator)
        with bfloat16_autocast():
            made, mean, log_variance = model.reconstruct(real, generator)
            far = 0.0 if perceptual is None else recipe.perceptual * perceptual(made, real).float()
        made, mean, log_variance = made.float(), mean.float(), log_variance.float()
        return (made - real).abs().mean() + recipe.kl * kl_divergence(mean, log_variance) + far

    if recipe.linear:
        _set_principal(run, network, train, held)
        return network
    share = AUTOENCODER_SHARE * (0.8 if recipe.steps_adversarial else 1.0)
    fit(
        network,
        loss_of_step,
        run.fit_config(recipe, recipe.steps, share),
        stage="autoencoder",
        checkpoint=run.out / "autoencoder.ckpt",
        resume=run.resume,
        evaluate=_judged(held, perceptual),
        callback=run.tell,
    )
    with torch.inference_mode():
        rows = torch.randperm(len(train.items), generator=torch.Generator().manual_seed(0))[:2048]
        means = torch.cat([network.posterior(train.batch(part))[0] for part in torch.split(rows, _BATCH)])
    network.standardise(means)
    return network


def _set_principal(run: GeneratorRun, network: Autoencoder, train: MediaSet, held: MediaSet) -> None:
    """Set a linear autoencoder from items as often as they are drawn; there is nothing to train."""
    rows = torch.multinomial(train.weights, 2048, replacement=True, generator=torch.Generator().manual_seed(0))
    real = train.batch(rows)
    network.set_principal(real)
    network.standardise(torch.cat([network.posterior(part)[0] for part in torch.split(real, _BATCH)]).detach())
    run.tell(FitProgress("autoencoder", 1, 1, 0.0, {"loss": 0.0, **_judged(held, None)(network)}))


def sharpen(
    run: GeneratorRun,
    recipe: AutoencoderRecipe,
    network: Autoencoder,
    train: MediaSet,
    held: MediaSet,
    perceptual: Distance | None,
) -> None:
    """Train the decoder on, against a discriminator; latents stay what they are, so nothing made of them is lost.

    Source: Rombach et al. 2022 (https://arxiv.org/abs/2112.10752), equation 25, with a constant weight.
    """
    torch.manual_seed(run.recipe.seed + 1)
    contest = _Contest(network)

    def loss_of_step(model: nn.Module, generator: torch.Generator) -> Tensor:
        assert isinstance(model, _Contest)
        real = _drawn(train, recipe, generator)
        with bfloat16_autocast():
            with torch.no_grad():
                latents = model.autoencoder.encode(real)
            # generated latents are a little off: the decoder learns to make something clean of such ones as well
            blur = 0.1 * torch.rand(len(latents), 1, 1, 1, generator=generator)
            made = model.autoencoder.decode(latents + blur * torch.randn(latents.shape, generator=generator))
            far = 0.0 if perceptual is None else recipe.perceptual * perceptual(made, real).float()
            contested = model.loss(made, real, recipe.adversarial).float()
        return (made.float() - real).abs().mean() + far + contested

    config = run.fit_config(recipe, recipe.steps_adversarial, 0.2 * AUTOENCODER_SHARE)
    fit(
        contest,
        loss_of_step,
        dataclasses.replace(config, learning_rate=recipe.learning_rate / 4),  # it is trained already
        stage="decoder",
        checkpoint=run.out / "decoder.ckpt",
        resume=run.resume,
        evaluate=lambda model: _judged(held, perceptual)(model.autoencoder),  # type: ignore[arg-type]
        callback=run.tell,
    )
    network.requires_grad_(True)


def _drawn(train: MediaSet, recipe: AutoencoderRecipe, generator: torch.Generator) -> Tensor:
    """Draw a batch in [-1, 1]: crops, or half as many whole items."""
    height, width = train.media.shape[2:]
    crops = 0 < recipe.crop < min(height, width) and float(torch.rand((), generator=generator)) < 0.75
    whole = recipe.crop > 0 and not crops
    size = max(1, recipe.batch_size // 2) if whole else recipe.batch_size
    real = train.batch(torch.multinomial(train.weights, size, replacement=True, generator=generator))
    if not crops:
        return real
    top, left = (
        int(torch.randint((side - recipe.crop) // DOWN + 1, (), generator=generator)) * DOWN for side in (height, width)
    )
    return real[:, :, top : top + recipe.crop, left : left + recipe.crop].contiguous()


def _judged(held: MediaSet, perceptual: Distance | None) -> Callable[[nn.Module], dict[str, float]]:
    @torch.inference_mode()
    def evaluate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, Autoencoder)
        if not len(held.items):
            return {}
        real = held.batch(torch.arange(min(len(held.items), 256)))
        made = torch.cat([model.decode(model.encode(part)) for part in torch.split(real, _BATCH)]).clamp(-1, 1)
        error = (made - real).square().mean(dim=(1, 2, 3))
        far = {} if perceptual is None else {"held_perceptual": float(perceptual(made, real))}
        return {"held_psnr_db": float((10 * torch.log10(4.0 / error)).mean()), **far}

    return evaluate


@torch.inference_mode()
def latents_of(network: Autoencoder, media: MediaSet, mirror: bool = False) -> Tensor:
    """Return the latents (N, C, h, w) of all items, or of their mirror images."""
    parts = [media.batch(part) for part in torch.split(torch.arange(len(media.items)), _BATCH)]
    return torch.cat([network.encode(part.flip(3) if mirror else part) for part in parts])


def _three(multiples: tuple[int, ...]) -> tuple[int, int, int]:
    if len(multiples) != 3:
        raise ConfigError(f"autoencoder: multiples must be three, one a resolution, got {multiples}")
    return multiples[0], multiples[1], multiples[2]
