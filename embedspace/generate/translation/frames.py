"""The next frame of a film from its last two: what moves is moved on, in latents, and what does not stays as it is.

    predictor = load_predictor(folder)
    frame = predictor.next_frame(before, last)

Source: Ranzato et al. 2014 (https://arxiv.org/abs/1412.6604), section 3, for predicting frames from frames; Villegas et
al. 2017 (https://arxiv.org/abs/1706.08033) for telling motion, the difference of frames, from content.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from embedspace.encoders.base import load_module
from embedspace.errors import ConfigError, InputError
from embedspace.files import read_config
from embedspace.generate.latents.autoencoder import DOWN, Autoencoder
from embedspace.generate.latents.blocks import ResBlock
from embedspace.generate.latents.files import autoencoder_config

__all__ = ["FORMAT", "FrameConfig", "FrameNetwork", "FramePredictor", "load_predictor"]

FORMAT = 1


@dataclass(frozen=True, slots=True)
class FrameConfig:
    """Size of a `FrameNetwork`.

    Attributes:
        latent_dim: Channels of the latents.
        channels: Width.
        blocks: Residual blocks at half of the resolution.
        per_second: Frames per second that it was trained on; 0 for any.
    """

    latent_dim: int = 8
    channels: int = 48
    blocks: int = 4
    per_second: float = 10.0


class FrameNetwork(nn.Module):
    """Adds to the last latents what they will have changed by; a new network adds nothing."""

    def __init__(self, config: FrameConfig) -> None:
        super().__init__()
        width = config.channels
        self.enter = nn.Conv2d(2 * config.latent_dim, width, 3, padding=1)
        self.near = ResBlock(width, width)
        self.lower = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.far = nn.Sequential(*(ResBlock(2 * width, 2 * width) for _ in range(config.blocks)))
        self.raise_ = nn.Conv2d(2 * width, width, 1)
        self.leave = nn.Sequential(ResBlock(2 * width, width), nn.SiLU())
        self.out = nn.Conv2d(width, config.latent_dim, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        """Map two frames' standardised latents (B, latent_dim, h, w) to those of the next one."""
        near = self.near(self.enter(torch.cat([last, last - before], dim=1)))
        far = self.raise_(self.far(self.lower(near)))
        far = F.interpolate(far, size=near.shape[2:], mode="nearest")
        out: Tensor = last + self.out(self.leave(torch.cat([near, far], dim=1)))
        return out


class FramePredictor:
    """Draws the next frame.

    Args:
        autoencoder: Whose latents they are.
        network: Predicts them.
        config: Its settings.
    """

    def __init__(self, autoencoder: Autoencoder, network: FrameNetwork, config: FrameConfig) -> None:
        self.autoencoder, self.network, self.config = autoencoder, network, config

    @torch.inference_mode()
    def latents(self, frames: list[NDArray[np.uint8]]) -> Tensor:
        """Return latents (B, C, h, w) of frames (H, W, 3), whose edges are continued to whole cells."""
        pixels = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1
        height, width = pixels.shape[2:]
        pixels = F.pad(pixels, (0, -width % DOWN, 0, -height % DOWN), mode="replicate")
        return self.autoencoder.encode(pixels)

    @torch.inference_mode()
    def moved(self, frame: NDArray[np.uint8], given: Tensor, wanted: Tensor) -> NDArray[np.uint8]:
        """Return a frame (H, W, 3) changed by what its latents `given` (1, C, h, w) change by to become `wanted`."""
        height, width = frame.shape[:2]
        change = self.autoencoder.decode(torch.cat([given, wanted])).clamp(-1, 1).diff(dim=0)[0, :, :height, :width]
        pixels = frame.astype(np.float32) + 127.5 * change.permute(1, 2, 0).numpy()
        return pixels.round().clip(0, 255).astype(np.uint8)

    @torch.inference_mode()
    def next_frame(self, before: NDArray[np.uint8], last: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the frame after two, as far apart as they are.

        Args:
            before: (H, W, 3).
            last: The same size.

        Raises:
            InputError: If the sizes differ, or are no pictures.
        """
        if before.shape != last.shape or last.ndim != 3 or last.shape[2] != 3:
            raise InputError(f"two frames (H, W, 3) of one size are needed, got {before.shape} and {last.shape}")
        latents = self.latents([before, last])
        return self.moved(last, latents[1:], self.network(latents[:1], latents[1:]))


def load_predictor(folder: Path) -> FramePredictor:
    """Read what `embedspace train generator` writes for a recipe of kind "frames".

    Raises:
        WeightsError: If a file is missing or damaged.
        ConfigError: If its settings are wrong.
    """
    about = read_config(folder / "config.json", FORMAT, "configuration of a predictor of frames")
    try:
        config = FrameConfig(**about["network"])
        size = autoencoder_config(about)
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{folder / 'config.json'}: unknown or missing settings: {error}") from error
    autoencoder = load_module(partial(Autoencoder, size), folder / "autoencoder.safetensors")
    network = load_module(partial(FrameNetwork, config), folder / "frames.safetensors")
    return FramePredictor(autoencoder, network, config)
