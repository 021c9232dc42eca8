"""The StyleGAN family: noise and condition become a style, which scales the kernels of a generator from a learnt grid.

Source: Karras et al. 2020 (StyleGAN2, https://arxiv.org/abs/1912.04958), equations 1 to 3, for modulation and
demodulation; Karras et al. 2019 (https://arxiv.org/abs/1812.04948), section 2, for the mapping and the noise of cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedspace.generate.conditioning import Condition
from embedspace.generate.families.base import Shape
from embedspace.generate.families.gan import AdversarialConfig, AdversarialFamily, Adversaries
from embedspace.generate.families.registry import register_family
from embedspace.generate.latents.conditioned import context_channels
from embedspace.generate.latents.critic import grids

__all__ = ["ModulatedConv", "StyleGANConfig", "StyleGANFamily"]


@dataclass(frozen=True, kw_only=True)
class StyleGANConfig(AdversarialConfig):
    """Settings of a StyleGAN.

    Attributes:
        mapping: Layers between noise and style.
    """

    mapping: int = 3


class ModulatedConv(nn.Module):
    """A convolution whose kernels a style scales, input channel by input channel, and whose outputs keep unit variance.

    Args:
        channels: Of the input.
        out_channels: Of the output.
        style_dim: Width of the style.
        kernel: Side of the kernels.
        demodulate: Whether outputs are brought to unit variance.
    """

    def __init__(
        self, channels: int, out_channels: int, style_dim: int, kernel: int = 3, demodulate: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.style = nn.Linear(style_dim, channels)
        nn.init.ones_(self.style.bias)
        self.demodulate = demodulate
        self.gain = (channels * kernel * kernel) ** -0.5

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Map (B, channels, H, W) and styles (B, style_dim) to (B, out_channels, H, W)."""
        weight = self.gain * self.weight
        scale = self.style(style)  # (B, channels)
        # scaled kernels and scaled inputs give the same sums, and kernels that all items share are much faster
        out = F.conv2d(x * scale[:, :, None, None], weight, padding=weight.shape[2] // 2)
        if self.demodulate:
            power = scale.square() @ weight.square().sum(dim=(2, 3)).T  # (B, out_channels)
            out = out * (power + 1e-8).rsqrt()[:, :, None, None]
        return out + self.bias[:, None, None]


class _Synthesis(nn.Module):
    """Modulated convolutions on a grid that grows from a learnt one, with noise in each cell."""

    def __init__(self, config: StyleGANConfig, shape: Shape) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        width, style = config.channels, 2 * config.channels
        self.sizes = [size for size in grids(*shape[1:]) for _ in range(1 + config.blocks)]
        self.noise_dim = config.noise_dim + sum(height * columns for height, columns in self.sizes)
        layers: list[nn.Module] = []
        for number in range(config.mapping):
            layers += [nn.Linear(config.noise_dim + style if number == 0 else style, style), nn.LeakyReLU(0.2)]
        self.mapping = nn.Sequential(*layers)
        self.first = nn.Parameter(torch.randn(width, *self.sizes[0]))
        self.layers = nn.ModuleList([ModulatedConv(width, width, style) for _ in self.sizes])
        self.strength = nn.Parameter(torch.zeros(len(self.sizes), 1))
        self.near = nn.Conv2d(max(1, config.neighbours * shape[0]), width, 3, padding=1)
        self.out = ModulatedConv(width, shape[0], style, kernel=1, demodulate=False)

    def forward(self, noise: Tensor, told: Tensor, condition: Condition) -> Tensor:
        """Return latents (B, C, H, W)."""
        widths = [self.config.noise_dim, *(height * columns for height, columns in self.sizes)]
        parts = torch.split(noise, widths, dim=1)
        own = F.normalize(parts[0], dim=1) * parts[0].shape[1] ** 0.5
        style = self.mapping(torch.cat([own, told], dim=1))
        x = self.first[None].expand(len(noise), -1, -1, -1)
        whole = tuple(self.shape[1:])
        for number, (size, layer) in enumerate(zip(self.sizes, self.layers, strict=True)):
            x = F.interpolate(x, size=size, mode="nearest")
            if self.config.neighbours and size == whole and (number == 0 or self.sizes[number - 1] != whole):
                x = x + self.near(context_channels(condition, self.shape, self.config.neighbours))
            grain = self.strength[number] * parts[number + 1].view(-1, 1, *size)
            x = F.leaky_relu(layer(x, style) + grain, 0.2) * 2**0.5
        out: Tensor = self.out(x, style)
        return out


@register_family("stylegan")
class StyleGANFamily(AdversarialFamily[StyleGANConfig]):
    """StyleGAN2's generator against the GAN's critic."""

    Config = StyleGANConfig
    about = "StyleGAN-like: a style scales the generator's kernels; the GAN's critic and switches"

    def build(self, config: StyleGANConfig, shape: Shape, embed_dim: int) -> Adversaries:
        """Return generator and critic."""
        return Adversaries(config, shape, embed_dim, _Synthesis(config, shape))
