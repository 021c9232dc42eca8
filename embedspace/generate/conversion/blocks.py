"""Convolution blocks over frames, shared by the vocoder and the decoder of a voice.

Source: Liu et al. 2022, "A ConvNet for the 2020s" (https://arxiv.org/abs/2201.03545), section 2.6, in one dimension as
    Vocos has it (Siuzdak 2023, https://arxiv.org/abs/2306.00814, section 3.2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ConvNeXt", "FrameBlock"]

_KERNEL = 7


class FrameBlock(nn.Module):
    """Depthwise convolution in time, then two layers per frame; what comes in is added: (B, C, T) -> (B, C, T)."""

    def __init__(self, channels: int, hidden: int, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(channels, channels, _KERNEL, padding=_KERNEL // 2, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.widen = nn.Linear(channels, hidden)
        self.narrow = nn.Linear(hidden, channels)
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, T)."""
        # (B, C, T) -> (B, T, C)
        y = self.norm(self.depthwise(x).transpose(1, 2))
        y = self.scale * self.narrow(nn.functional.gelu(self.widen(y)))
        out: Tensor = x + y.transpose(1, 2)
        return out


class ConvNeXt(nn.Module):
    """A convolution, blocks, and a norm: (B, inputs, T) -> (B, T, channels)."""

    def __init__(self, inputs: int, channels: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.enter = nn.Conv1d(inputs, channels, _KERNEL, padding=_KERNEL // 2)
        self.first = nn.LayerNorm(channels)
        self.blocks = nn.ModuleList(FrameBlock(channels, hidden, 1 / blocks) for _ in range(blocks))
        self.last = nn.LayerNorm(channels)

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """Return (B, T, channels); `added` (B, channels) is the same for all frames."""
        x = self.enter(x)
        if added is not None:
            x = x + added[:, :, None]
        x = self.first(x.transpose(1, 2)).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.last(x.transpose(1, 2))
        return out
