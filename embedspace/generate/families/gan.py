"""The GAN family: one pass of a generator that learnt from a critic; what stabilises the two are switches.

The defaults are R3GAN's: a relativistic loss and both zero-centred penalties, no further tricks.

Source: Goodfellow et al. 2014 (https://arxiv.org/abs/1406.2661); Mirza and Osindero 2014
(https://arxiv.org/abs/1411.1784) for the condition; Huang et al. 2024 (R3GAN, https://arxiv.org/abs/2501.05441),
section 2; de Vries et al. 2017 (https://arxiv.org/abs/1707.00683) for the conditional norm; Zhang et al. 2016
(StackGAN, https://arxiv.org/abs/1612.03242), equation 2, for conditioning augmentation; Karras et al. 2020
(https://arxiv.org/abs/2006.06676), section 3, for the adaptive augmentation; Karras et al. 2019
(https://arxiv.org/abs/1912.04958), section 3.1, for penalties in some of the steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedspace.generate.conditioning import Condition, normal
from embedspace.generate.families.base import Family, FamilyConfig, Phase, SampleOptions, Shape
from embedspace.generate.families.registry import register_family
from embedspace.generate.latents.adversarial import (
    augment,
    critic_loss,
    generator_loss,
    gradient_penalty,
    zero_centred_penalty,
)
from embedspace.generate.latents.blocks import GridAttention, ResBlock
from embedspace.generate.latents.conditioned import ConditionEmbedding, context_channels
from embedspace.generate.latents.critic import Critic, grids

__all__ = [
    "AdversarialConfig",
    "AdversarialFamily",
    "Adversaries",
    "GANConfig",
    "GANFamily",
    "Generates",
    "adversarial_phases",
]

ConfigT = TypeVar("ConfigT", bound="AdversarialConfig")

_SMALLEST = 8
"""Width of a critic that nobody asks."""
_SURE, _PACE = 0.6, 0.002
"""Share of sure verdicts on real items from which augmentation rises, and its step."""


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig(FamilyConfig):
    """Settings of adversaries, each of whose switches is one of the field's ways to keep them stable.

    Attributes:
        channels: Width of the generator.
        critic_channels: Width of the critic.
        blocks: Residual blocks per resolution.
        noise_dim: Width of the noise.
        loss: The game.
        spectral_norm: The critic's layers keep a largest singular value of 1.
        r1: Weight of the penalty on the critic's slope at real items.
        r2: The same at made ones.
        gradient_penalty: Weight of the penalty on slopes other than 1 between real and made items.
        penalty_every: Slopes are penalised in every so many steps, so many times as much: they cost most of a step.
        adaptive_augmentation: What the critic sees is mirrored, moved, scaled and cut the more, the surer it is.
        self_attention: Cells of generator and critic see each other.
        conditioning_augmentation: Weight of the divergence of a condition that is drawn near the given one; 0: none is.
        auxiliary_classifier: Weight of naming: the critic says which vector an item is of.
        projection: The critic multiplies the condition with what it sees; else it stands beside the latents.
    """

    channels: int = 128
    critic_channels: int = 96
    blocks: int = 1
    noise_dim: int = 64
    loss: Literal["minimax", "non-saturating", "hinge", "wasserstein", "relativistic"] = "relativistic"
    spectral_norm: bool = False
    r1: float = 1.0
    r2: float = 1.0
    gradient_penalty: float = 0.0
    penalty_every: int = 1
    adaptive_augmentation: bool = False
    self_attention: bool = False
    conditioning_augmentation: float = 0.0
    auxiliary_classifier: float = 0.0
    projection: bool = True
    learning_rate: float = 3e-4
    weight_decay: float = 0.0


@dataclass(frozen=True, kw_only=True)
class GANConfig(AdversarialConfig):
    """Settings of a conditional GAN.

    Attributes:
        conditional_norm: The condition scales and shifts every layer; else it enters with the noise only.
    """

    conditional_norm: bool = True


class Generates(Protocol):
    """A generator: noise and a condition to latents."""

    @property
    def noise_dim(self) -> int:
        """Width of its noise."""
        ...

    def __call__(self, noise: Tensor, told: Tensor, condition: Condition, /) -> Tensor:
        """Return latents (B, C, H, W) of noise (B, noise_dim), an embedding (B, D) of the vectors, and neighbours."""
        ...


class Adversaries(nn.Module):
    """A generator, the embedding of its condition, and its critic.

    Args:
        config: Settings.
        shape: Channels, height and width of one item's latents.
        embed_dim: Width of the vectors of the space.
        generator: Told embeddings of a width of twice `channels`.
    """

    chance: Tensor

    def __init__(self, config: AdversarialConfig, shape: Shape, embed_dim: int, generator: nn.Module) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        hidden = 2 * config.channels
        self.embedding = ConditionEmbedding(embed_dim, hidden)
        drawn = config.conditioning_augmentation > 0
        self.drawn = nn.Linear(hidden, 2 * hidden) if drawn else None
        self.generator = generator
        self.critic = Critic(
            shape,
            embed_dim,
            config.critic_channels,
            config.blocks,
            projection=config.projection,
            attention=config.self_attention,
            spectral=config.spectral_norm,
            classifier=config.auxiliary_classifier > 0,
        )
        self.register_buffer("chance", torch.zeros(()))

    @property
    def noise_dim(self) -> int:
        """Width of all noise that a sample needs."""
        own: int = self.generator.noise_dim  # type: ignore[assignment]
        return own + (2 * self.config.channels if self.drawn is not None else 0)

    def forward(self, noise: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """Return latents (B, C, H, W), and the divergence of the conditions that were drawn for them."""
        told = self.embedding(condition)
        divergence = told.new_zeros(())
        if self.drawn is not None:
            mean, log_variance = self.drawn(told).chunk(2, dim=1)
            log_variance = log_variance.clamp(-10, 5)
            noise, own = torch.split(noise, [noise.shape[1] - mean.shape[1], mean.shape[1]], dim=1)
            told = mean + own * (0.5 * log_variance).exp()
            divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        made: Tensor = self.generator(noise, told, condition)
        return made, divergence


def _generator_loss(module: Adversaries, latents: Tensor, condition: Condition, generator: torch.Generator) -> Tensor:
    config = module.config
    made, divergence = module(torch.randn(len(latents), module.noise_dim, generator=generator), condition)
    real = latents
    if config.adaptive_augmentation:
        real, made = (augment(items, module.chance, generator) for items in (real, made))
    seen = module.critic.features(made, condition)
    verdicts = module.critic(real, condition), module.critic.judge(seen, condition)
    loss: Tensor = generator_loss(config.loss, *verdicts) + config.conditioning_augmentation * divergence
    if config.auxiliary_classifier:
        loss = loss + config.auxiliary_classifier * module.critic.naming_loss(seen, condition)
    return loss


def _critic_loss(module: Adversaries, latents: Tensor, condition: Condition, generator: torch.Generator) -> Tensor:
    config = module.config
    penalised = bool(module.critic.turns % config.penalty_every == 0)
    if module.training:
        module.critic.turns += 1
    with torch.no_grad():
        made, _ = module(torch.randn(len(latents), module.noise_dim, generator=generator), condition)
    real = latents
    if config.adaptive_augmentation:
        real, made = (augment(items, module.chance, generator) for items in (real, made))
    if penalised and (config.r1 or config.r2 or config.gradient_penalty):
        with torch.autocast("cpu", enabled=False):  # slopes are differentiated in full precision
            return _judged(module, real.float(), made.float(), condition, generator, float(config.penalty_every))
    return _judged(module, real, made, condition, generator, 0.0)


def _judged(
    module: Adversaries, real: Tensor, made: Tensor, condition: Condition, generator: torch.Generator, penalties: float
) -> Tensor:
    """Return the critic's loss on real and made items (B, C, H, W), its penalties weighted so many times; 0: none."""
    config, critic = module.config, module.critic
    real, made = real.detach().requires_grad_(penalties > 0), made.detach().requires_grad_(penalties > 0)
    seen = critic.features(real, condition)
    on_real, on_made = critic.judge(seen, condition), critic(made, condition)
    loss = critic_loss(config.loss, on_real, on_made)
    if config.r1 and penalties:
        loss = loss + penalties * config.r1 * zero_centred_penalty(real, on_real)
    if config.r2 and penalties:
        loss = loss + penalties * config.r2 * zero_centred_penalty(made, on_made)
    if config.gradient_penalty and penalties:

        def judge(items: Tensor) -> Tensor:
            verdicts: Tensor = critic(items, condition)
            return verdicts

        loss = loss + penalties * config.gradient_penalty * gradient_penalty(judge, real, made, generator)
    if config.auxiliary_classifier:
        loss = loss + config.auxiliary_classifier * critic.naming_loss(seen, condition)
    if config.adaptive_augmentation and module.training:
        with torch.no_grad():
            surer = on_real.sign().mean() > _SURE
            module.chance.add_(_PACE if surer else -_PACE).clamp_(0.0, 0.8)
    return loss


def adversarial_phases() -> tuple[Phase, ...]:
    """Return the generator's phase and the critic's."""
    betas = (0.0, 0.99)
    return (
        Phase(_generator_loss, ("embedding", "drawn", "generator"), betas=betas, held=False),
        Phase(_critic_loss, ("critic",), name="critic", betas=betas, held=False),
    )


class _Generator(nn.Module):
    """Residual blocks on a grid that grows, scaled and shifted by the condition."""

    def __init__(self, config: GANConfig, shape: Shape) -> None:
        super().__init__()
        self.config, self.shape, self.noise_dim = config, shape, config.noise_dim
        width, hidden = config.channels, 2 * config.channels
        self.sizes = grids(*shape[1:])
        first = self.sizes[0]
        self.enter = nn.Linear(config.noise_dim + hidden, width * first[0] * first[1])
        told = hidden if config.conditional_norm else 0
        self.levels = nn.ModuleList(
            [nn.ModuleList([ResBlock(width, width, told) for _ in range(config.blocks)]) for _ in self.sizes]
        )
        self.near = nn.Conv2d(max(1, config.neighbours * shape[0]), width, 3, padding=1)
        self.attention = GridAttention(width) if config.self_attention else nn.Identity()
        self.last = ResBlock(width, width, told)
        self.out = nn.Conv2d(width, shape[0], 3, padding=1)

    def forward(self, noise: Tensor, told: Tensor, condition: Condition) -> Tensor:
        """Return latents (B, C, H, W)."""
        x = self.enter(torch.cat([noise, told], dim=1)).view(len(noise), -1, *self.sizes[0])
        for size, level in zip(self.sizes, self.levels, strict=True):
            x = F.interpolate(x, size=size, mode="nearest")
            assert isinstance(level, nn.ModuleList)
            for block in level:
                x = block(x, told)
        if self.config.neighbours:
            x = x + self.near(context_channels(condition, self.shape, self.config.neighbours))
        out: Tensor = self.out(F.silu(self.last(self.attention(x), told)))
        return out


class AdversarialFamily(Family[ConfigT, Adversaries]):
    """What generators that learn from a critic share: its phases, and one pass from noise."""

    training_only = ("critic",)

    def for_sampling(self, config: ConfigT) -> ConfigT:
        """Return settings with a small critic: it is not kept."""
        return replace(config, critic_channels=_SMALLEST, spectral_norm=False)

    def phases(self, config: ConfigT) -> tuple[Phase, ...]:
        """Return the generator's phase and the critic's."""
        return adversarial_phases()

    @torch.inference_mode()
    def sample(
        self,
        module: Adversaries,
        condition: Condition,
        generators: Sequence[torch.Generator],
        options: SampleOptions,
    ) -> Tensor:
        """Draw noise, and pass it on."""
        made: Tensor = module(normal((module.noise_dim,), generators), condition)[0]
        return made


@register_family("gan")
class GANFamily(AdversarialFamily[GANConfig]):
    """The conditional GAN."""

    Config = GANConfig
    about = "conditional GAN: one pass of a generator that learnt from a critic (R3GAN, with switches)"

    def build(self, config: GANConfig, shape: Shape, embed_dim: int) -> Adversaries:
        """Return generator and critic."""
        return Adversaries(config, shape, embed_dim, _Generator(config, shape))
