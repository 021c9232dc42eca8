"""What a picture's outlines, colours and small patches say, without any pretrained network.

Outlines: Dalal and Triggs 2005 (Histograms of Oriented Gradients for Human Detection), section 6, with cells of two
sizes. Colours: means of a grid, and soft histograms of five parts. Patches: Coates, Ng and Lee 2011 (An Analysis of
Single-Layer Networks in Unsupervised Feature Learning), section 3.2, whitened, with the triangle activation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["PARTS", "Patches", "colours", "drawn_features", "learn_patches", "outlines", "shapes"]

_ANGLES = 9
_CELLS = (12, 24)  # pixels
_LEVELS = 4  # of a colour, in a histogram
_GRID = 8
_SIDE = 6  # of a patch, in pixels of the picture at half its size
_STRIDE = 2
_POOL = 3
_FLAT = 10.0 / 255
"""Added to a patch's deviation: a flat one stays flat."""


def outlines(x: Tensor) -> Tensor:
    """Return (B, D) histograms of gradients of pictures (B, 3, H, W) in [0, 1]."""
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    dx, dy = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2], padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    strength, channel = (dx.square() + dy.square()).max(dim=1, keepdim=True)
    dx, dy = dx.gather(1, channel), dy.gather(1, channel)
    # direction without sign, 0.._ANGLES, shared by the two nearest bins
    place = torch.atan2(dy, dx).remainder(torch.pi) * (_ANGLES / torch.pi)
    low = place.floor()
    share, low = place - low, low.long() % _ANGLES
    strength = strength.sqrt()
    bins = torch.zeros(len(x), _ANGLES, *x.shape[2:])
    bins.scatter_add_(1, low, strength * (1 - share)).scatter_add_(1, (low + 1) % _ANGLES, strength * share)
    parts = []
    for cell in _CELLS:
        blocks = F.unfold(F.avg_pool2d(bins, cell), 2)  # (B, 4 * _ANGLES, L)
        blocks = F.normalize(F.normalize(blocks, dim=1, eps=1e-3).clamp(max=0.2), dim=1, eps=1e-3)
        parts.append(blocks.flatten(1))
    return torch.cat(parts, dim=1)


def colours(x: Tensor) -> Tensor:
    """Return (B, D) means of a grid, and roots of soft histograms of the whole and of its quarters."""
    grid = F.adaptive_avg_pool2d(x, _GRID).flatten(1)
    small = F.avg_pool2d(x, 2)
    centres = torch.linspace(0, 1, _LEVELS)
    near = (1 - (small[:, :, None] - centres[:, None, None]).abs() * (_LEVELS - 1)).clamp(min=0)  # (B, 3, L, h, w)
    red, green, blue = near.unbind(1)
    joint = (red[:, :, None, None] * green[:, None, :, None] * blue[:, None, None]).flatten(1, 3)  # (B, L^3, h, w)
    counted = [F.adaptive_avg_pool2d(joint, parts).flatten(1).sqrt() for parts in (1, 2)]
    return torch.cat([grid, *counted], dim=1)


PARTS = ("mean", "whiten", "centres")
"""Fields of `Patches`."""


@dataclass(frozen=True)
class Patches:
    """A dictionary of small patches.

    Attributes:
        mean: (P,) of normalised patches.
        whiten: (P, P).
        centres: (K, P), of whitened patches.
    """

    mean: Tensor
    whiten: Tensor
    centres: Tensor

    def digest(self) -> str:
        """Return what tells a dictionary from another."""
        found = hashlib.sha256()
        for name in PARTS:
            found.update(getattr(self, name).numpy().tobytes())
        return found.hexdigest()[:12]

    def __call__(self, x: Tensor) -> Tensor:
        """Return (B, K * 9): how much of a picture's thirds, across and down, looks like each patch."""
        white = (_patches(x) - self.mean) @ self.whiten  # (B, L, P)
        squares = white.square().sum(-1, keepdim=True) + self.centres.square().sum(1) - 2 * white @ self.centres.T
        distance = squares.clamp(min=0).sqrt()
        near = (distance.mean(-1, keepdim=True) - distance).clamp(min=0)
        side = round(near.shape[1] ** 0.5)
        # (B, L, K) -> (B, K, side, side) -> (B, K, 3, 3)
        return F.adaptive_avg_pool2d(near.transpose(1, 2).unflatten(2, (side, side)), _POOL).flatten(1)


def _patches(x: Tensor) -> Tensor:
    """Return (B, L, P) patches of pictures at half their size, without their mean, of like deviation."""
    rows = F.unfold(F.avg_pool2d(x, 2), _SIDE, stride=_STRIDE).transpose(1, 2)
    rows = rows - rows.mean(-1, keepdim=True)
    return rows / (rows.square().mean(-1, keepdim=True) + _FLAT**2).sqrt()


def learn_patches(pictures: Sequence[NDArray[np.uint8]], count: int, seed: int, rounds: int = 10) -> Patches:
    """Return a dictionary of pictures (96, 96, 3), by k-means of patches that are not flat.

    Args:
        pictures: To learn from.
        count: Patches of the dictionary.
        seed: Of the choice of patches.
        rounds: Of k-means.
    """
    dice = torch.Generator().manual_seed(seed)
    found = []
    for start in range(0, len(pictures), 64):
        rows = _patches(as_input(pictures[start : start + 64]))
        chosen = torch.randint(rows.shape[1], (len(rows), 20), generator=dice)
        found.append(rows.gather(1, chosen[:, :, None].expand(-1, -1, rows.shape[2])).flatten(0, 1))
    rows = torch.cat(found)
    rows = rows[rows.square().mean(1) > 0.1]
    rows = rows[torch.randperm(len(rows), generator=dice)[:60_000]]
    mean = rows.mean(0)
    values, vectors = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
    whiten = vectors @ torch.diag((values + 0.1).rsqrt()) @ vectors.T
    white = (rows - mean) @ whiten
    centres = white[:count].clone()
    for _ in range(rounds):
        nearest = (white @ centres.T - centres.square().sum(1) / 2).argmax(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, white)
        counts = torch.bincount(nearest, minlength=count)[:, None]
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    return Patches(mean, whiten, centres)


def as_input(pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Return (B, 3, H, W) in [0, 1] of pictures (H, W, 3)."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def drawn_features(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Return (N, D) outlines and colours of pictures (96, 96, 3)."""
    return _of(pictures, lambda x: torch.cat([outlines(x), colours(x)], dim=1))


def shapes(pictures: Sequence[NDArray[np.uint8]], patches: Patches) -> NDArray[np.float32]:
    """Return (N, D) outlines, colours and patches of pictures (96, 96, 3)."""
    return _of(pictures, lambda x: torch.cat([outlines(x), colours(x), patches(x)], dim=1))


@torch.inference_mode()
def _of(pictures: Sequence[NDArray[np.uint8]], see: Callable[[Tensor], Tensor]) -> NDArray[np.float32]:
    rows = [see(as_input(pictures[start : start + 32])) for start in range(0, len(pictures), 32)]
    return torch.cat(rows).numpy() if rows else np.zeros((0, 1), np.float32)
