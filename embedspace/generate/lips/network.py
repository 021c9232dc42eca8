"""The network that reads lips: pictures of a mouth, or points of a body, in time -> letters (CTC).

    crops (B, T, 32, 32) ──3-D convolution, three 2-D ones──▶ (B, T, width)
    points (B, T, 2 · P) ──two layers───────────────────────▶ (B, T, width)
    (B, T, width) ──two bidirectional GRUs──▶ letters (B, T, 29), shapes (B, T, S) in training

Source: Assael et al. 2016, "LipNet", for the shape of it: spatio-temporal convolutions, GRUs, CTC.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["BLANK", "CROP", "LETTERS", "LipConfig", "LipNetwork", "letters_of", "text_of"]

CROP = 32
"""Pixels a side of a crop of the mouth."""
LETTERS = " abcdefghijklmnopqrstuvwxyz'"
"""What is read: class k + 1 is the k-th of them."""
BLANK = 0


@dataclass(frozen=True)
class LipConfig:
    """Size of a network.

    Attributes:
        channels: Of the 3-D convolution; the next ones have two, four and four times as many.
        width: Features of a picture.
        hidden: Of each direction of a GRU.
        layers: GRUs on each other.
        points: Points of a body a picture in place of crops of a mouth; 0 for crops.
        shapes: Kinds of mouth shapes that training also asks for, where clips tell them; 0 for none.
        dropout: Between layers.
        deltas: Points come with their speed.
    """

    channels: int = 16
    width: int = 160
    hidden: int = 128
    layers: int = 2
    points: int = 0
    shapes: int = 0
    dropout: float = 0.2
    deltas: bool = True


class _Crops(nn.Module):
    """Crops (B, T, 32, 32) in [0, 1] -> (B, T, width)."""

    def __init__(self, config: LipConfig) -> None:
        super().__init__()
        c = config.channels
        # five pictures and five by five pixels, as channels of a 2-D convolution: faster on processors than conv3d
        self.first = nn.Conv2d(5, c, 5, stride=2, padding=2)
        self.second = nn.Conv2d(c, 2 * c, 3, stride=2, padding=1)
        self.third = nn.Conv2d(2 * c, 4 * c, 3, stride=2, padding=1)
        self.norms = nn.ModuleList([nn.GroupNorm(4, c), nn.GroupNorm(4, 2 * c), nn.GroupNorm(4, 4 * c)])
        self.out = nn.Linear(4 * c * (CROP // 8) ** 2, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, crops: Tensor, inside: Tensor) -> Tensor:
        """Return the features of every picture; `inside` (B, T) is 1 up to a clip's end."""
        b, t = crops.shape[:2]
        there = inside[:, :, None, None]
        pixels = there.sum(dim=1, keepdim=True) * crops.shape[2] * crops.shape[3]
        mean = (crops * there).sum(dim=(1, 2, 3), keepdim=True) / pixels
        away = (crops - mean) * there
        level = away / ((away.square().sum(dim=(1, 2, 3), keepdim=True) / pixels).sqrt() + 0.02)
        padded = F.pad(level, (0, 0, 0, 0, 2, 2))
        # (B, T + 4, H, W) -> (B, T, 5, H, W): each picture with two before and two after it
        x = torch.stack([padded[:, k : k + t] for k in range(5)], dim=2).flatten(0, 1)
        for layer, norm in zip((self.first, self.second, self.third), self.norms, strict=True):
            x = F.relu(norm(layer(x)))
        out: Tensor = F.relu(self.out(self.dropout(x.flatten(1)))).reshape(b, t, -1)
        return out


class _Points(nn.Module):
    """Points (B, T, 2 P) -> (B, T, width); their speeds are taken beside them."""

    def __init__(self, config: LipConfig) -> None:
        super().__init__()
        self.deltas = config.deltas
        self.layers = nn.Sequential(
            nn.Linear(2 * config.points * (2 if config.deltas else 1), config.width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.width, config.width),
            nn.ReLU(),
        )

    def forward(self, points: Tensor, inside: Tensor) -> Tensor:
        """Return the features of every picture."""
        speed = F.pad(points[:, 1:] - points[:, :-1], (0, 0, 1, 0))
        out: Tensor = self.layers(torch.cat([points, 4 * speed], dim=2) if self.deltas else points)
        return out


class LipNetwork(nn.Module):
    """Pictures of a mouth, or points, in time -> letters."""

    def __init__(self, config: LipConfig) -> None:
        super().__init__()
        self.config = config
        self.front: nn.Module = _Points(config) if config.points else _Crops(config)
        between = config.dropout if config.layers > 1 else 0.0
        self.time = nn.GRU(
            config.width, config.hidden, config.layers, batch_first=True, bidirectional=True, dropout=between
        )
        self.dropout = nn.Dropout(config.dropout)
        self.letters = nn.Linear(2 * config.hidden, len(LETTERS) + 1)
        self.shapes = nn.Linear(2 * config.hidden, config.shapes) if config.shapes else None

    def features(self, seen: Tensor, lengths: Tensor) -> Tensor:
        """Return (B, T, 2 · hidden).

        Args:
            seen: (B, T, 32, 32) crops in [0, 1], or (B, T, 2 P) points; 0 beyond a clip's end.
            lengths: (B,) pictures of each.
        """
        inside = torch.arange(seen.shape[1], device=seen.device) < lengths.to(seen.device)[:, None]
        front = self.front(seen, inside.to(seen.dtype))
        packed = nn.utils.rnn.pack_padded_sequence(front, lengths.cpu(), batch_first=True, enforce_sorted=False)
        out, _ = nn.utils.rnn.pad_packed_sequence(self.time(packed)[0], batch_first=True, total_length=seen.shape[1])
        dropped: Tensor = self.dropout(out)
        return dropped

    def forward(self, seen: Tensor, lengths: Tensor) -> Tensor:
        """Return (B, T, 29) logarithms of probabilities; class 0 is the blank."""
        return F.log_softmax(self.letters(self.features(seen, lengths)), dim=2)


def letters_of(text: str) -> list[int]:
    """Return the classes of a text's letters; what cannot be read from lips is left out, digits among it."""
    plain = " ".join(text.casefold().replace("-", " ").replace("\u2019", "'").split())
    return [LETTERS.index(letter) + 1 for letter in plain if letter in LETTERS]


def text_of(classes: list[int]) -> str:
    """Return the text of letters' classes."""
    return "".join(LETTERS[k - 1] for k in classes if k != BLANK).strip()
