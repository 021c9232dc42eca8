"""What is said, frame by frame, with who says it taken out: two layers of Whisper through a linear map.

The map separates phonemes (Fisher's discriminant, fitted on voices that tell when each phoneme is said), so that what
varies within a phoneme is made small: the speaker, and where in the window a frame stands.

Source: Fisher 1936; Hastie, Tibshirani and Friedman, "The Elements of Statistical Learning", section 4.3.3.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from embedspace.encoders.towers import create_backbone
from embedspace.encoders.towers.whisper import WhisperEncoder

__all__ = ["LAYER", "ContentEncoder", "discriminant"]

LAYER = 3
"""The layer beside the last one; both together tell phonemes of unheard voices apart best (training/LOG.md)."""
_RATE, _STEP = 16_000, 320
_WINDOW, _MARGIN = 8 * _RATE, _RATE
"""Samples that are heard at once, and of these at each end what only is context."""


class ContentEncoder(nn.Module):
    """Speech -> (T, size) content at 50 frames a second; the backbone is frozen and not part of the weights."""

    def __init__(self, size: int, width: int = 1024) -> None:
        """Make an empty map.

        Args:
            size: Numbers of a frame's content.
            width: Twice the backbone's.
        """
        super().__init__()
        self._backbone: list[WhisperEncoder] = []  # in a list: no submodule, not saved
        self.mean = nn.Parameter(torch.zeros(width), requires_grad=False)
        self.matrix = nn.Parameter(torch.zeros(width, size), requires_grad=False)

    @property
    def backbone(self) -> WhisperEncoder:
        """Whisper's encoder, opened once."""
        if not self._backbone:
            self._backbone.append(cast(WhisperEncoder, create_backbone("whisper_base").eval()))
        return self._backbone[0]

    @torch.inference_mode()
    def layers(self, waveform: NDArray[np.float32]) -> Tensor:
        """Return (T / 320, 2 * feature_dim) of speech (T,) at 16 kHz, window by window with context on both sides."""
        total = max(1, -(-len(waveform) // _STEP))
        parts, done = [], 0
        while done < total:
            first = max(0, done * _STEP - _MARGIN)
            piece = torch.from_numpy(np.ascontiguousarray(waveform[first : first + _WINDOW], np.float32))
            found = self.backbone(self.backbone.preprocess(piece)[None], layers=(LAYER,))
            frames = torch.cat([found.layers[0][0], found.last[0]], dim=1)
            skipped = done - first // _STEP
            is_last = first + _WINDOW >= len(waveform)
            end = len(frames) if is_last else len(frames) - _MARGIN // _STEP
            parts.append(frames[skipped:end])
            done = total if is_last else first // _STEP + end
        return torch.cat(parts)[:total]

    @torch.inference_mode()
    def forward(self, waveform: NDArray[np.float32], frames: int) -> Tensor:
        """Return (frames, size): the content of speech (T,) at 16 kHz, spread over so many frames."""
        content = (self.layers(waveform) - self.mean) @ self.matrix
        # (T, C) -> (1, C, T): frames of both kinds cover the same time
        spread = F.interpolate(content.T[None], size=frames, mode="linear", align_corners=False)
        return spread[0].T


def discriminant(
    rows: NDArray[np.float32], labels: NDArray[np.int64], size: int, shrink: float = 0.02
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean (C,) and the map (C, size) that separates labels, with unit variance within them.

    Args:
        rows: (N, C).
        labels: (N,) from 0.
        size: Directions that are kept.
        shrink: Share of the mean variance that is added to all, against few rows.
    """
    mean = rows.mean(axis=0)
    away = (rows - mean).astype(np.float64)
    within = np.zeros((rows.shape[1], rows.shape[1]))
    centres = []
    for label in np.unique(labels):
        own = away[labels == label]
        centre = own.mean(axis=0)
        within += (own - centre).T @ (own - centre)
        centres.append(centre * np.sqrt(len(own) / len(rows)))
    within /= len(rows)
    within += np.eye(len(within)) * np.trace(within) / len(within) * shrink
    whiten = np.linalg.cholesky(np.linalg.inv(within))
    _, _, directions = np.linalg.svd(np.stack(centres) @ whiten, full_matrices=False)
    return mean.astype(np.float32), (whiten @ directions[:size].T).astype(np.float32)
