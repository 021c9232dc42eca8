"""A KL autoencoder: pictures or spectrograms to a grid of latents an eighth as wide and high, and back.

Source: Rombach et al. 2022 (https://arxiv.org/abs/2112.10752), section 3.1 and appendix G, the KL variant without the
discriminator; Kingma and Welling 2014 (https://arxiv.org/abs/1312.6114), appendix B, for the divergence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedspace.generate.latents.blocks import ResBlock

__all__ = ["Autoencoder", "AutoencoderConfig", "kl_divergence"]

DOWN = 8
"""Pixels a latent cell is wide and high."""


@dataclass(frozen=True, slots=True)
class AutoencoderConfig:
    """Size of an `Autoencoder`.

    Attributes:
        in_channels: 3 for pictures, 1 for spectrograms.
        channels: Width at half resolution.
        multiples: Multiples of it, at half, quarter and eighth resolution.
        latent_dim: Channels of the latents.
        decoder_blocks: Residual blocks a stage of the decoder; the encoder has one.
        linear: One linear map of each patch there and one back, in place of networks; `channels` and `multiples` then
            mean nothing. Set by `Autoencoder.set_principal`.
    """

    in_channels: int = 3
    channels: int = 32
    multiples: tuple[int, int, int] = (1, 2, 4)
    latent_dim: int = 8
    decoder_blocks: int = 2
    linear: bool = False


class Autoencoder(nn.Module):
    """Encoder, decoder, and the scale that gives latents unit variance.

    Half resolution is reached by rearranging 2 x 2 pixels into channels: at full resolution convolutions would cost
    more than all others together.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        a, b, c = (config.channels * m for m in config.multiples)
        grey = config.in_channels
        self.register_buffer("shift", torch.zeros(config.latent_dim))
        self.register_buffer("scale", torch.ones(config.latent_dim))
        self.encoder: nn.Module
        self.decoder: nn.Module
        if config.linear:
            self.encoder = nn.Conv2d(grey, 2 * config.latent_dim, DOWN, stride=DOWN)
            self.decoder = nn.Sequential(nn.Conv2d(config.latent_dim, grey * DOWN * DOWN, 1), nn.PixelShuffle(DOWN))
            return
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * grey, a, 3, padding=1),
            ResBlock(a, a),
            nn.Conv2d(a, b, 3, stride=2, padding=1),
            ResBlock(b, b),
            nn.Conv2d(b, c, 3, stride=2, padding=1),
            ResBlock(c, c),
            nn.GroupNorm(8 if c % 8 == 0 else 1, c),
            nn.SiLU(),
            nn.Conv2d(c, 2 * config.latent_dim, 3, padding=1),
        )

        def stage(channels: int) -> list[nn.Module]:
            return [ResBlock(channels, channels) for _ in range(config.decoder_blocks)]

        self.decoder = nn.Sequential(
            nn.Conv2d(config.latent_dim, c, 3, padding=1),
            *stage(c),
            nn.Conv2d(c, 4 * b, 1),
            nn.PixelShuffle(2),
            *stage(b),
            nn.Conv2d(b, 4 * a, 1),
            nn.PixelShuffle(2),
            *stage(a),
            nn.GroupNorm(8 if a % 8 == 0 else 1, a),
            nn.SiLU(),
            nn.Conv2d(a, 4 * grey, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance (B, latent_dim, H / 8, W / 8) of inputs (B, in_channels, H, W) in [-1, 1]."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance.clamp(-20.0, 10.0)

    def reconstruct(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the reconstruction through a drawn latent, and the posterior's mean and log-variance."""
        mean, log_variance = self.posterior(x)
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        return self.decoder(mean + noise * (0.5 * log_variance).exp()), mean, log_variance

    def encode(self, x: Tensor) -> Tensor:
        """Return standardised latents (B, latent_dim, H / 8, W / 8)."""
        mean, _ = self.posterior(x)
        return (mean - self.shift[:, None, None]) * self.scale[:, None, None]

    def decode(self, latents: Tensor) -> Tensor:
        """Return (B, in_channels, H, W), about [-1, 1], from standardised latents."""
        out: Tensor = self.decoder(latents / self.scale[:, None, None] + self.shift[:, None, None])
        return out

    @torch.no_grad()
    def set_principal(self, x: Tensor) -> None:
        """Let a linear autoencoder keep the principal components of the 8 x 8 patches of x (B, in_channels, H, W).

        Source: Pearson 1901 (https://doi.org/10.1080/14786440109462720); no linear map back from as many numbers a
        patch has a smaller squared error.
        """
        size = self.config.latent_dim
        patches = F.pixel_unshuffle(x, DOWN).permute(0, 2, 3, 1).flatten(0, 2).double()  # (N, in_channels * 64)
        middle = patches.mean(dim=0)
        _, vectors = torch.linalg.eigh((patches - middle).T @ (patches - middle) / len(patches))
        kept = vectors.flip(1)[:, :size].float()  # (in_channels * 64, latent_dim)
        encoder, (decoder, _) = self.encoder, cast(nn.Sequential, self.decoder)
        assert isinstance(encoder, nn.Conv2d)
        assert isinstance(decoder, nn.Conv2d)
        assert encoder.bias is not None
        assert decoder.bias is not None
        encoder.weight.zero_()
        encoder.weight[:size] = kept.T.reshape(size, *encoder.weight.shape[1:])
        encoder.bias[:size] = -(kept.T @ middle.float())
        encoder.bias[size:] = -20.0  # log-variance: what is kept is known
        decoder.weight.copy_(kept[:, :, None, None])
        decoder.bias.copy_(middle)

    @torch.no_grad()
    def standardise(self, means: Tensor) -> None:
        """Set the scale from posterior means (N, latent_dim, h, w)."""
        self.shift.copy_(means.mean(dim=(0, 2, 3)))
        self.scale.copy_(1.0 / means.std(dim=(0, 2, 3)).clamp(min=1e-4))


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the mean divergence, in nats a latent entry, of the posterior from a standard normal."""
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).mean()
