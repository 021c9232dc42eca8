"""A small log-mel network for sounds, trained from nothing: an attempt, not part of what ships.

It sees 96 log-mel bands at 43 frames a second, and is taught to meet the captions in the space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedspace.encoders.towers.mel import htk_filters

__all__ = ["FRAMES", "SAMPLE_RATE", "MelNet", "augment_mel", "fit_mel_net", "fixed_length", "log_mel"]

SAMPLE_RATE, N_FFT, HOP_LENGTH, N_MELS = 44_100, 2048, 1024, 96
FRAMES = 128
"""Of a training crop: 3 s."""
_GAIN = 1e4
_LARGEST = 9.457798957824707  # log-mel value in the library of sound effects that the paper trained on
_STEPS, _BATCH, _RATE = 250, 64, 2e-3
_TEMPERATURE = 0.07


class MelNet(nn.Module):
    """Four strided convolutions, mean and maximum over what is left, one linear layer: 0.13 M parameters.

    Args:
        embed_dim: Width of the space.
        widths: Channels of the convolutions.
    """

    def __init__(self, embed_dim: int = 256, widths: Sequence[int] = (16, 32, 64, 96)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for width in widths:
            layers += [nn.Conv2d(before, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.3)
        self.out = nn.Linear(2 * before, embed_dim)

    def forward(self, mel: Tensor) -> Tensor:
        """Map (B, frames, bands) log-mel to (B, embed_dim) unit rows."""
        x = self.layers(mel[:, None] * 4 - 1).flatten(2)  # (B, frames, bands) -> (B, C, frames / 16 * bands / 16)
        pooled = torch.cat([x.mean(dim=2), x.amax(dim=2)], dim=1)
        return F.normalize(self.out(self.dropout(pooled)), dim=-1)


@lru_cache(maxsize=1)
def _filters() -> Tensor:
    """Return (bands, bins) triangles from 0 Hz to half the sample rate, each summing to 1."""
    weights = htk_filters(SAMPLE_RATE, N_FFT, N_MELS, 0.0, SAMPLE_RATE / 2)
    # As Essentia's: a filter ends at the bin nearest its upper edge, exclusive, and so may lose the last bin inside.
    top = 2595.0 * np.log10(1.0 + SAMPLE_RATE / 2 / 700.0)
    edges = 700.0 * (10.0 ** (np.linspace(0.0, top, N_MELS + 2)[2:] / 2595.0) - 1.0)
    ends = torch.from_numpy(np.floor(edges * N_FFT / SAMPLE_RATE + 0.5))
    weights[torch.arange(weights.shape[1]) >= ends[:, None]] = 0.0
    return weights / weights.sum(dim=1, keepdim=True)


def log_mel(waveform: Tensor) -> Tensor:
    """Compute the network's log-mel frames: log10(1 + 10^4 power), scaled to lie mostly in [0, 1].

    Args:
        waveform: (T,) at 44.1 kHz in [-1, 1], from 1 sample.

    Returns:
        (frames, 96), 43 frames a second, the first centred on the first sample.

    Source:
        Ma and Lerch, Representation Learning for the Automatic Indexing of Sound Effects Libraries, ISMIR 2022; the
        filters are Essentia's `MelBands` with warpingFormula=htkMel, weighting=warping and normalize=unit_sum.
    """
    padded = F.pad(waveform, (0, -len(waveform) % HOP_LENGTH))
    window = torch.hann_window(N_FFT, periodic=False)
    spectrum = torch.stft(
        padded, N_FFT, HOP_LENGTH, window=window, center=True, pad_mode="constant", return_complex=True
    )
    mel = _filters() @ spectrum.abs().square()
    return (mel.mul_(_GAIN).add_(1.0).log10_() / _LARGEST).T  # (bands, frames) -> (frames, bands)


def fixed_length(mel: np.ndarray, start: int = 0) -> np.ndarray:
    """Return FRAMES frames of a (frames, bands) log-mel from `start` on, silence after its end."""
    cut = mel[start : start + FRAMES].astype(np.float32)
    return np.pad(cut, ((0, FRAMES - len(cut)), (0, 0)))


def augment_mel(mel: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Stretch, crop, shift in pitch, change the level, and blank a band and a span (SpecAugment); (FRAMES, bands)."""
    speed = random.uniform(0.75, 1.3)
    rows = np.clip(np.arange(0, len(mel), speed).astype(np.int64), 0, len(mel) - 1)
    out = fixed_length(mel[rows], int(random.integers(0, max(1, len(rows) - FRAMES + 1))))
    shift = int(random.integers(-5, 6))
    bands = out.shape[1]
    out = np.pad(out, ((0, 0), (5, 5)))[:, 5 - shift : 5 - shift + bands]
    # adding to a logarithm is gain; silence stays silent
    out = np.where(out > 0.02, out + random.uniform(-0.08, 0.08) + np.linspace(-1, 1, bands) * 0.05, out)
    band, span = int(random.integers(0, 12)), int(random.integers(0, 20))
    first = int(random.integers(0, bands - band))
    out[:, first : first + band] = 0
    begin = int(random.integers(0, FRAMES - span))
    out[begin : begin + span] = 0
    return np.asarray(np.clip(out, 0, 1), np.float32)


def fit_mel_net(
    mels: Sequence[np.ndarray],
    targets: np.ndarray,
    weights: np.ndarray,
    seed: int,
    evaluate: Callable[[MelNet, int, float], None],
    steps: int = _STEPS,
    batch_size: int = _BATCH,
) -> MelNet:
    """Train a network with InfoNCE against the vectors of the captions; half of all items are mixtures of two.

    Args:
        mels: Of each item (frames, bands).
        targets: (N, embed_dim) unit rows of what they are.
        weights: (N,) how often each is drawn.
        seed: Of everything random.
        evaluate: Told the network, the step and the loss, every 50 steps.
        steps: Optimiser steps.
        batch_size: Items a step.
    """
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    net = MelNet(targets.shape[1])
    optimizer = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    share = weights / weights.sum()
    for step in range(1, steps + 1):
        net.train()
        drawn = random.choice(len(mels), batch_size, p=share)
        x = torch.from_numpy(np.stack([augment_mel(mels[k], random) for k in drawn]))
        y = torch.from_numpy(targets[drawn])
        mix = torch.from_numpy(np.where(random.random(batch_size) < 0.5, random.uniform(0.5, 1, batch_size), 1)).float()
        other = torch.randperm(batch_size)
        # the louder of two sounds covers the other in each band; 0.1 is a factor of nine in power
        quieter = (x[other] - 0.1 * (mix / (1.5 - mix)).view(-1, 1, 1)).clamp(min=0)
        x = torch.where((mix < 1).view(-1, 1, 1), torch.maximum(x, quieter), x)
        aim = F.normalize(mix[:, None] * y + (1 - mix[:, None]) * y[other], dim=1)
        same = (y @ y.T > 0.95).float()
        logits = net(x) @ aim.T / _TEMPERATURE
        wanted = same / same.sum(dim=1, keepdim=True)
        loss = -(wanted * logits.log_softmax(dim=1)).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            net.eval()
            evaluate(net, step, float(loss.detach()))
    return net.eval()
