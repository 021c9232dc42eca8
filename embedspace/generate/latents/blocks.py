"""What the latent generators are built of: residual blocks, resampling, attention over a small grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["GridAttention", "ResBlock", "attend", "embed_scalar"]


def _groups(channels: int) -> int:
    return max(g for g in (8, 4, 2, 1) if channels % g == 0)


class ResBlock(nn.Module):
    """Two 3 x 3 convolutions around a skip; with `condition_dim`, scaled and shifted by an embedding (FiLM).

    Source: He et al. 2016 (pre-activation, https://arxiv.org/abs/1603.05027); Perez et al. 2018 (FiLM,
    https://arxiv.org/abs/1709.07871), equation 1.
    """

    def __init__(self, channels: int, out_channels: int, condition_dim: int = 0) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(_groups(channels), channels)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(_groups(out_channels), out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.film = nn.Linear(condition_dim, 2 * out_channels) if condition_dim else None
        self.skip = nn.Conv2d(channels, out_channels, 1) if channels != out_channels else nn.Identity()
        nn.init.zeros_(self.conv2.weight)  # a block starts as its skip

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """Map (B, channels, H, W), and (B, condition_dim) where it is conditioned, to (B, out_channels, H, W)."""
        y = self.norm2(self.conv1(F.silu(self.norm1(x))))
        if self.film is not None and embedding is not None:
            scale, shift = self.film(embedding)[:, :, None, None].chunk(2, dim=1)
            y = y * (1 + scale) + shift
        out: Tensor = self.skip(x) + self.conv2(F.silu(y))
        return out


def attend(q: Tensor, k: Tensor, v: Tensor, causal: bool = False, twice: bool = False) -> Tensor:
    """Return what each query sees, (B, heads, T, width), of queries, keys and values of that shape.

    The fused kernels are quickest but for two cases: their slopes cannot be differentiated again, and in bfloat16 on a
    processor they learn at two thirds of the pace of plain products.

    Args:
        q: Queries.
        k: Keys, of at least as many positions.
        v: Values of them.
        causal: A position sees only those before it, and itself.
        twice: Slopes are differentiated again, as penalties do.

    Source: Vaswani et al. 2017 (https://arxiv.org/abs/1706.03762), equation 1.
    """
    learns = torch.is_grad_enabled() and q.requires_grad and q.dtype is torch.bfloat16 and q.device.type == "cpu"
    if not (twice or learns):
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    scores = q * q.shape[3] ** -0.5 @ k.transpose(2, 3)
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1), -torch.inf)
    seen: Tensor = scores.softmax(dim=3) @ v
    return seen


class GridAttention(nn.Module):
    """Self-attention over the cells of a grid.

    Args:
        channels: Of the grid.
        heads: Of the attention.
        twice: Its slopes are differentiated again, see `attend`.
    """

    def __init__(self, channels: int, heads: int = 4, twice: bool = False) -> None:
        super().__init__()
        self.heads, self.twice = heads, twice
        self.norm = nn.GroupNorm(_groups(channels), channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same."""
        batch, channels, height, width = x.shape
        # (B, 3 * C, H, W) -> 3 of (B, heads, H * W, C / heads)
        parts = self.qkv(self.norm(x)).view(batch, 3, self.heads, channels // self.heads, height * width)
        q, k, v = parts.transpose(3, 4).unbind(1)
        seen = attend(q, k, v, twice=self.twice)
        mixed = seen.transpose(2, 3).reshape(x.shape)
        y: Tensor = x + self.out(mixed)
        return y


def embed_scalar(value: Tensor, dim: int, largest: float = 1000.0) -> Tensor:
    """Return sines and cosines (B, dim) of scalars (B,) of order 1.

    Source: Vaswani et al. 2017 (https://arxiv.org/abs/1706.03762), section 3.5.
    """
    rates = torch.exp(torch.linspace(0.0, torch.log(torch.tensor(largest)).item(), dim // 2, device=value.device))
    angles = value[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
