"""What the transformer layers of all backbones share: attention whose query, key and value come from one matrix."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

__all__ = ["TransformerLayer"]


class TransformerLayer(nn.Module):
    """The parameters of one layer, and the steps that do not depend on where its norms stand.

    Args:
        width: Width of the residual stream.
        heads: Attention heads.
        eps: Epsilon of the layer norms.
    """

    def __init__(self, width: int, heads: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width, eps)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width, eps)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def split(self, x: torch.Tensor, parts: int) -> tuple[torch.Tensor, ...]:
        """Cut (B, N, parts * C) into as many parts, each (B, heads, N, C / heads)."""
        return x.view(*x.shape[:2], parts, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)

    def attend(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Mix the positions of (B, N, C) by attention; the bias, where there is one, is True where to look."""
        y: torch.Tensor = self.out(self.mix(self.qkv(x), bias))
        return y

    def mix(self, qkv: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """Mix queries, keys and values (B, N, 3 * C) of all heads to (B, N, C)."""
        q, k, v = self.split(qkv, 3)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return mixed.transpose(1, 2).reshape(*qkv.shape[:2], -1)  # (B, heads, N, C / heads) -> (B, N, C)

    def feed_forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map each position of (B, N, C) by the two linear maps."""
        y: torch.Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return y
