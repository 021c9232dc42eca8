"""The normalising flow family: an invertible network between latents and noise, with an exact density.

Source: Dinh et al. 2017 (RealNVP, https://arxiv.org/abs/1605.08803), equations 7 and 8, for affine couplings; Kingma
and Dhariwal 2018 (Glow, https://arxiv.org/abs/1807.03039), section 3.2, for rotations of the channels between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from embedspace.generate.conditioning import Condition, normal
from embedspace.generate.families.base import Family, FamilyConfig, Phase, SampleOptions, Shape
from embedspace.generate.families.registry import register_family
from embedspace.generate.latents.blocks import ResBlock
from embedspace.generate.latents.conditioned import ConditionEmbedding, context_channels

__all__ = ["NormalisingConfig", "NormalisingFamily", "NormalisingFlow"]


@dataclass(frozen=True, kw_only=True)
class NormalisingConfig(FamilyConfig):
    """Settings of a normalising flow.

    Attributes:
        channels: Width of the networks of its couplings.
        couplings: Affine couplings.
        jitter: Standard deviation of noise on the data in training, so that no density grows without bound.
        temperature: Of the noise that is drawn.
    """

    channels: int = 96
    couplings: int = 12
    jitter: float = 0.05
    temperature: float = 0.8
    learning_rate: float = 5e-4


def _rotation(channels: int, number: int) -> Tensor:
    """Return the orthogonal matrix (channels, channels) of a coupling, which follows from its number."""
    random = torch.randn(channels, channels, generator=torch.Generator().manual_seed(number), device="cpu")
    q, r = torch.linalg.qr(random)
    canonical: Tensor = q * r.diagonal().sign()  # the decomposition that is the same everywhere
    return canonical


def _kept(shape: Shape, number: int) -> Tensor:
    """Return which numbers (1, C, H, W) a coupling leaves: half of the channels, or half of the cells, in turns."""
    channels, height, width = shape
    if channels > 1 and number % 2 == 0:
        kept = (torch.arange(channels, device="cpu") % 2)[:, None, None].expand(shape)
    else:
        rows, columns = torch.arange(height, device="cpu")[:, None], torch.arange(width, device="cpu")
        kept = ((rows + columns + number // 2) % 2).expand(shape)
    return kept.float()[None].contiguous()


class _Coupling(nn.Module):
    """Scales and shifts half of the numbers by what the other half says."""

    rotation: Tensor
    kept: Tensor

    def __init__(self, shape: Shape, width: int, hidden: int, context: int, number: int) -> None:
        super().__init__()
        channels = shape[0]
        self.register_buffer("rotation", _rotation(channels, number), persistent=False)
        self.register_buffer("kept", _kept(shape, number), persistent=False)
        self.enter = nn.Conv2d(channels + context, width, 3, padding=1)
        self.blocks = nn.ModuleList([ResBlock(width, width, hidden) for _ in range(2)])
        self.out = nn.Conv2d(width, 2 * channels, 3, padding=1)
        self.gain = nn.Parameter(torch.zeros(1, channels, 1, 1))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def _terms(self, x: Tensor, embedding: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
        y = self.enter(torch.cat([x * self.kept, near], dim=1))
        for block in self.blocks:
            y = block(y, embedding)
        scale, shift = self.out(y).chunk(2, dim=1)
        free = 1 - self.kept
        return (2 * torch.tanh(scale / 2) + self.gain) * free, shift * free

    def forward(self, x: Tensor, embedding: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
        """Return what lies nearer to noise (B, C, H, W), and the logarithm of the change of volume (B,)."""
        x = torch.einsum("dc,bchw->bdhw", self.rotation, x)
        scale, shift = self._terms(x, embedding, near)
        return x * scale.exp() + shift, scale.sum(dim=(1, 2, 3))

    def inverse(self, x: Tensor, embedding: Tensor, near: Tensor) -> Tensor:
        """Undo `forward`."""
        scale, shift = self._terms(x, embedding, near)
        return torch.einsum("dc,bdhw->bchw", self.rotation, (x - shift) * (-scale).exp())


class NormalisingFlow(nn.Module):
    """Couplings, each of which is told the condition.

    Args:
        config: Its settings.
        shape: Channels, height and width of one item's latents.
        embed_dim: Width of the vectors of the space.
    """

    def __init__(self, config: NormalisingConfig, shape: Shape, embed_dim: int) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        hidden, context = 2 * config.channels, config.neighbours * shape[0]
        self.embedding = ConditionEmbedding(embed_dim, hidden)
        self.couplings = nn.ModuleList(
            [_Coupling(shape, config.channels, hidden, context, number) for number in range(config.couplings)]
        )

    def forward(self, latents: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """Return the noise (B, C, H, W) of latents, and the logarithm of the change of volume (B,)."""
        embedding, near = self._told(condition)
        volume = latents.new_zeros(len(latents))
        for coupling in self.couplings:
            latents, change = coupling(latents, embedding, near)
            volume = volume + change
        return latents, volume

    def inverse(self, noise: Tensor, condition: Condition) -> Tensor:
        """Return the latents of noise (B, C, H, W)."""
        embedding, near = self._told(condition)
        for coupling in reversed(self.couplings):
            assert isinstance(coupling, _Coupling)
            noise = coupling.inverse(noise, embedding, near)
        return noise

    def log_density(self, latents: Tensor, condition: Condition) -> Tensor:
        """Return the log-density (B,) in nats of latents (B, C, H, W)."""
        noise, volume = self(latents, condition)
        result: Tensor = volume - 0.5 * (noise.square() + math.log(2 * math.pi)).sum(dim=(1, 2, 3))
        return result

    def _told(self, condition: Condition) -> tuple[Tensor, Tensor]:
        return self.embedding(condition), context_channels(condition, self.shape, self.config.neighbours)


def _loss(module: NormalisingFlow, latents: Tensor, condition: Condition, generator: torch.Generator) -> Tensor:
    """Return the negative log-density per number, of data with a little noise."""
    blurred = latents + module.config.jitter * torch.randn(latents.shape, generator=generator)
    return -module.log_density(blurred, condition).mean() / latents[0].numel()


@register_family("normalising")
class NormalisingFamily(Family[NormalisingConfig, NormalisingFlow]):
    """RealNVP with rotations."""

    Config = NormalisingConfig
    can = frozenset({"likelihood"})
    about = "normalising flow: invertible couplings between noise and latents, one pass"

    def build(self, config: NormalisingConfig, shape: Shape, embed_dim: int) -> NormalisingFlow:
        """Return the couplings."""
        return NormalisingFlow(config, shape, embed_dim)

    def phases(self, config: NormalisingConfig) -> tuple[Phase, ...]:
        """Return the one loss, in full precision, as the volume must be exact."""
        return (Phase(_loss, autocast=False),)

    @torch.inference_mode()
    def sample(
        self,
        module: NormalisingFlow,
        condition: Condition,
        generators: Sequence[torch.Generator],
        options: SampleOptions,
    ) -> Tensor:
        """Go back from noise."""
        return module.inverse(module.config.temperature * normal(module.shape, generators), condition)

    @torch.inference_mode()
    def log_likelihood(self, module: NormalisingFlow, latents: Tensor, condition: Condition) -> Tensor:
        """Return the log-density (B,) in nats of latents."""
        return module.log_density(latents, condition)
