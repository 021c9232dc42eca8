"""Near-copies of training items as the sampler does not look for them: by another network, and by aligned pixels.

The samplers of latent generators draw again what is too much like a training item, by the correlation of latents. A
measure that is the same correlation can then say little. These two are others:

- `features`: the cosine of what the judge makes of two things, less the training items' mean.
- `aligned`: the normalised cross-correlation of two pictures' brightness, or of two sounds' log-mel frames, at the best
  of small shifts, scales and mirror images. It is measured against the items that either of the other measures finds
  nearest.

Source: Lewis 1995, "Fast normalized cross-correlation", equation 2, by the Fourier transform; Somepalli et al. 2023
(https://arxiv.org/abs/2212.03860), section 4, for copies by the features of a network of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import InputError

__all__ = ["MEASURES", "CopyIndex", "Nearest", "aligned_likeness", "normalised"]

MEASURES = ("features", "aligned")
CANDIDATES = 24
"""Training items that each measure proposes for the alignment."""

Rows = NDArray[np.float32]
Layout = NDArray[np.float32]
"""What is aligned: (H, W), of a picture its darkness on white, of a sound log-mel bands by frames."""


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """Which training items things are most like.

    Attributes:
        numbers: Measure -> (N,) number of the training item.
        likeness: Measure -> (N,) how much, at most 1.
    """

    numbers: dict[str, NDArray[np.int64]]
    likeness: dict[str, NDArray[np.float32]]


def normalised(layout: Layout, reach: tuple[int, int]) -> Layout:
    """Return a layout (H, W) with room for shifts, less its mean, of unit norm: (H + reach[0], W + reach[1]).

    The room is of the layout's lowest value: white paper, or silence. One without any contrast becomes zeros, which are
    like nothing.
    """
    lowest = float(layout.min(initial=np.inf))
    whole = np.pad(layout.astype(np.float64), ((0, reach[0]), (0, reach[1])), constant_values=lowest)
    whole -= whole.mean()
    norm = float(np.linalg.norm(whole))
    found: Layout = (whole / norm if norm > 1e-6 * whole.size**0.5 else 0.0 * whole).astype(np.float32)
    return found


def aligned_likeness(
    variants: Sequence[Layout], candidates: Sequence[Layout], reach: tuple[int, int]
) -> NDArray[np.float32]:
    """Return (M,) the best normalised cross-correlation of any variant with each candidate within some shifts.

    Args:
        variants: (H, W) each: a thing as it is, scaled, mirrored.
        candidates: M of (H, W).
        reach: Rows and columns that a shift may be large, either way.

    Raises:
        InputError: If the layouts' shapes differ.
    """
    shapes = {layout.shape for layout in (*variants, *candidates)}
    if len(shapes) > 1:
        raise InputError(f"layouts must have one shape, got {sorted(shapes)}")
    if not candidates:
        return np.zeros(0, np.float32)
    size = normalised(candidates[0], reach).shape
    known = np.conj(np.fft.rfft2(np.stack([normalised(layout, reach) for layout in candidates])))
    best = np.full(len(candidates), -1.0, np.float32)
    rows = np.r_[0 : reach[0] + 1, size[0] - reach[0] : size[0]]
    columns = np.r_[0 : reach[1] + 1, size[1] - reach[1] : size[1]]
    for variant in variants:
        spectrum = np.fft.rfft2(normalised(variant, reach))
        found = np.fft.irfft2(spectrum[None] * known, s=size)[:, rows][:, :, columns]
        best = np.maximum(best, found.reshape(len(candidates), -1).max(axis=1).astype(np.float32))
    return best


class CopyIndex:
    """Training items by the judge's features and by their layouts.

    Args:
        items: M ids.
        features: (M, K) the judge's kernel features.
        layouts: (M, H, W) float16.
        reach: Rows and columns that a shift may be large.
    """

    def __init__(
        self, items: Sequence[str], features: Rows, layouts: NDArray[np.float16], reach: tuple[int, int]
    ) -> None:
        if not len(items) == len(features) == len(layouts):
            raise InputError(f"{len(items)} ids, {len(features)} features and {len(layouts)} layouts do not match")
        self.items = list(items)
        self._place = {item: number for number, item in enumerate(self.items)}
        self._mean = features.mean(axis=0) if len(features) else np.zeros(features.shape[1:], np.float32)
        self._rows = self._unit(features)
        self._layouts = layouts
        self._reach = reach

    def __len__(self) -> int:
        """Return the number of training items."""
        return len(self.items)

    def _unit(self, features: Rows) -> Rows:
        centred = features - self._mean
        rows: Rows = (centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)).astype(np.float32)
        return rows

    def nearest(
        self, features: Rows, variants: Sequence[Sequence[Layout]], proposed: Sequence[Sequence[str]] = ()
    ) -> Nearest:
        """Return the nearest training items of N things.

        Args:
            features: (N, K) the judge's kernel features.
            variants: Variants of each thing, for the alignment.
            proposed: Ids of further training items that each thing is aligned with; unknown ones are passed over.
        """
        if not len(features) or not len(self):
            nothing = {name: np.full(len(features), -1.0, np.float32) for name in MEASURES}
            return Nearest({name: np.zeros(len(features), np.int64) for name in MEASURES}, nothing)
        cosines = self._unit(features) @ self._rows.T  # (N, M)
        numbers, values = [], []
        for row, (own, near) in enumerate(zip(variants, cosines, strict=True)):
            among = dict.fromkeys(np.argsort(-near, kind="stable")[:CANDIDATES].tolist())
            among |= dict.fromkeys(self._place[i] for i in (proposed[row] if proposed else ()) if i in self._place)
            chosen = list(among)
            alike = aligned_likeness(own, [self._layouts[k].astype(np.float32) for k in chosen], self._reach)
            numbers.append(chosen[int(alike.argmax())])
            values.append(alike.max())
        return Nearest(
            {"features": cosines.argmax(axis=1), "aligned": np.array(numbers, np.int64)},
            {"features": cosines.max(axis=1), "aligned": np.array(values, np.float32)},
        )
