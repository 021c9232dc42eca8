"""Two towers of fully connected layers that bring video and audio features of YouTube-8M into one space.

Source: Surís et al. 2018 (https://arxiv.org/abs/1801.02200): video-level features, a tower of fully connected layers
    for each side, a cosine loss with a margin for pairs that do not match, and a classification of both embeddings as a
    regulariser. Widths, margin and weight are settings; their defaults are ours where the paper could not be looked up.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["AUDIO_DIM", "VISUAL_DIM", "FeatureTowers", "cosine_margin"]

VISUAL_DIM, AUDIO_DIM = 1024, 128


class FeatureTowers(nn.Module):
    """Both towers, and the classifier that they share.

    Args:
        visual_layers: Widths of the hidden layers.
        audio_layers: The same.
        embed_dim: Width of the space.
        classes: Labels that are told from an embedding; 0: none.
    """

    def __init__(self, visual_layers: Sequence[int], audio_layers: Sequence[int], embed_dim: int, classes: int) -> None:
        super().__init__()
        self.visual = _layers([VISUAL_DIM, *visual_layers, embed_dim])
        self.audio = _layers([AUDIO_DIM, *audio_layers, embed_dim])
        self.classifier = nn.Linear(embed_dim, classes) if classes else None

    def encode_visual(self, features: Tensor) -> Tensor:
        """Return (N, embed_dim) unit rows of (N, 1024)."""
        return F.normalize(self.visual(features), dim=1)

    def encode_audio(self, features: Tensor) -> Tensor:
        """Return (N, embed_dim) unit rows of (N, 128)."""
        return F.normalize(self.audio(features), dim=1)


def _layers(widths: Sequence[int]) -> nn.Sequential:
    made: list[nn.Module] = []
    for first, last in itertools.pairwise(widths):
        made += [nn.Linear(first, last), nn.ReLU()]
    return nn.Sequential(*made[:-1])


def cosine_margin(visual: Tensor, audio: Tensor, other: Tensor, margin: float) -> Tensor:
    """Return the mean of 1 - cos over pairs and of max(0, cos - margin) over pairs that do not match.

    Args:
        visual: (B, embed_dim) unit rows.
        audio: (B, embed_dim) unit rows; row i belongs to row i of `visual`.
        other: (B,) number of another row's audio for each.
        margin: Cosine that those may have.
    """
    matching = 1 - (visual * audio).sum(dim=1)
    apart = torch.clamp((visual * audio[other]).sum(dim=1) - margin, min=0)
    return (matching.mean() + apart.mean()) / 2
