"""The transformer layer of all decoders here: of captions, and of tokens of latents."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedspace.generate.latents.blocks import attend

__all__ = ["TransformerBlock"]


class TransformerBlock(nn.Module):
    """Pre-norm transformer layer; keeps keys and values when it is given a cache.

    Args:
        width: Channels.
        heads: Attention heads.
        dropout: In training.
        causal: Whether a position sees only those before it, and itself.

    Source: Vaswani et al. 2017 (https://arxiv.org/abs/1706.03762), section 3; Xiong et al. 2020
    (https://arxiv.org/abs/2002.04745) for where the norms are.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0, causal: bool = True) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, cache: list[Tensor] | None = None) -> Tensor:
        """Map (B, T, width) to the same; `cache` holds earlier keys and values and is extended."""
        batch, length, width = x.shape
        # (B, T, 3 * C) -> 3 of (B, heads, T, C / heads)
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if cache is not None:
            if cache:
                k, v = torch.cat([cache[0], k], dim=2), torch.cat([cache[1], v], dim=2)
            cache[:] = [k, v]
        mixed = attend(q, k, v, causal=self.causal and length > 1)
        x = x + self.dropout(self.out(mixed.transpose(1, 2).reshape(batch, length, width)))
        y: Tensor = x + self.dropout(self.fc2(F.gelu(self.fc1(self.norm2(x)))))
        return y
