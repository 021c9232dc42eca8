"""A translator: latents of a picture of one kind in, latents of the same thing as another kind draws it out.

It is learnt from two folders of pictures that need not show the same things (`embedspace.train.generators.styles`). It
lies in the folder `styles` of a generator of pictures, whose autoencoder it was trained on: there its name is a style.

Source: Zhu et al. 2017 (CycleGAN, https://arxiv.org/abs/1703.10593), section 4, for the residual network, here on
latents.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from embedspace.encoders.base import load_module
from embedspace.errors import ConfigError, WeightsError
from embedspace.files import read_config
from embedspace.generate.latents.blocks import ResBlock

__all__ = [
    "FOLDER",
    "FORMAT",
    "Translator",
    "TranslatorConfig",
    "autoencoder_digest",
    "described",
    "load_translators",
]

FOLDER = "styles"
"""Where a generator of pictures keeps its translators."""
FORMAT = 1


@dataclass(frozen=True, slots=True)
class TranslatorConfig:
    """Size of a `Translator`.

    Attributes:
        latent_dim: Channels of the latents.
        channels: Width.
        blocks: Residual blocks.
    """

    latent_dim: int = 8
    channels: int = 48
    blocks: int = 3


class Translator(nn.Module):
    """Adds to latents what makes them another kind's; a new one adds nothing."""

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__()
        self.config = config
        width = config.channels
        self.enter = nn.Conv2d(config.latent_dim, width, 3, padding=1)
        self.blocks = nn.Sequential(*(ResBlock(width, width) for _ in range(config.blocks)))
        self.leave = nn.Sequential(nn.GroupNorm(8 if width % 8 == 0 else 1, width), nn.SiLU())
        self.out = nn.Conv2d(width, config.latent_dim, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)

    def forward(self, latents: Tensor) -> Tensor:
        """Map standardised latents (B, latent_dim, H, W) to the same."""
        out: Tensor = latents + self.out(self.leave(self.blocks(self.enter(latents))))
        return out

    def between(self, latents: Tensor, strength: float) -> Tensor:
        """Return latents so far on the way, 0 to 1."""
        return torch.lerp(latents, self(latents), strength)


def autoencoder_digest(generator: Path) -> str:
    """Return the SHA-256 of the autoencoder of a generator's folder, which latents have their meaning from."""
    return hashlib.sha256((generator / "autoencoder.safetensors").read_bytes()).hexdigest()


def load_translators(generator: Path) -> dict[str, Translator]:
    """Return the translators of a generator's folder by their names; none where it keeps none.

    Raises:
        WeightsError: If one is damaged, or was trained on the latents of another autoencoder.
        ConfigError: If one's settings are wrong.
    """
    found: dict[str, Translator] = {}
    for path in sorted((generator / FOLDER).glob("*.json")):
        if path.name == "recipe.json":  # which training writes beside it
            continue
        about = read_config(path, FORMAT, "settings of a style")
        if about.get("autoencoder") != autoencoder_digest(generator):
            raise WeightsError(
                f"{path}: was trained on the latents of another autoencoder than that of {generator}; "
                "train it again with this generator in its recipe, or take it out of the folder"
            )
        try:
            size = TranslatorConfig(**about["network"])
        except (KeyError, TypeError) as error:
            raise ConfigError(f"{path}: its network has unknown or missing settings: {error}") from error
        found[path.stem] = load_module(partial(Translator, size), path.with_suffix(".safetensors"))
    return found


def described(config: TranslatorConfig, generator: Path) -> dict[str, object]:
    """Return what the settings beside a translator's weights say."""
    return {"format": FORMAT, "network": dataclasses.asdict(config), "autoencoder": autoencoder_digest(generator)}
