"""Half precision where it is as good: tried on the first batch of each modality, and kept where it proves itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEAST_COSINE", "HalfPrecision", "HalfTrial"]

LEAST_COSINE = 0.998
"""Each row of the batch must be at least so near to the row of full precision."""
_LEAST_GAIN = 1.1
_LEAST_ROWS = 8
"""Fewer rows prove nothing; a smaller batch is encoded in full, and a later one is tried."""


class Halving(Protocol):
    """An encoder; see `MediaEncoder`, which is one."""

    may_halve: bool
    halved: bool


class Encoded(Protocol):
    """What encoding a batch gives."""

    @property
    def rows(self) -> NDArray[np.float32]:
        """(N, embed_dim) unit rows."""
        ...


Result = TypeVar("Result", bound=Encoded)


@dataclass(frozen=True, slots=True)
class HalfTrial:
    """What half precision did to a batch.

    Attributes:
        cosine: The least of the batch, of a row and its row in full precision.
        gain: Time in full precision over time in half; 0 where the networks failed in half.
        rows: Rows of the batch.
    """

    cosine: float
    gain: float
    rows: int

    @property
    def is_kept(self) -> bool:
        """Whether half precision is used from then on."""
        return self.cosine >= LEAST_COSINE and self.gain >= _LEAST_GAIN

    def __str__(self) -> str:
        """Say it in words."""
        if not self.gain:
            return "its networks cannot compute so"
        return f"cosine at least {self.cosine:.5f} over {self.rows} rows, {self.gain:.1f} times as fast"


class HalfPrecision:
    """Has each encoder try bfloat16 on its first batch, and go on in it where rows stay the same and come faster.

    Attributes:
        trials: Modality -> what its trial showed; those that were not tried are missing.
    """

    def __init__(self, clock: Callable[[], float] = time.process_time) -> None:
        """Take a clock that tells seconds."""
        self.trials: dict[str, HalfTrial] = {}
        self._clock = clock

    def encode(self, modality: str, encoder: Halving, encode: Callable[[], Result]) -> Result:
        """Return what `encode` gives: in full precision while it is not known that half is as good.

        Args:
            modality: Of the batch.
            encoder: Its encoder, which nobody else uses meanwhile.
            encode: Encodes the batch with that encoder.
        """
        if modality in self.trials or not encoder.may_halve:
            return encode()
        in_full = encode()
        if len(in_full.rows) < _LEAST_ROWS:
            return in_full
        encoder.halved = True
        try:
            in_half = encode()  # the first time in a new precision prepares kernels
            half_seconds = self._timed(encode)
        except RuntimeError:  # torch has no such kernel, or a network mixes precisions
            self.trials[modality] = HalfTrial(0.0, 0.0, len(in_full.rows))
            return in_full
        finally:
            encoder.halved = False
        gain = self._timed(encode) / max(half_seconds, 1e-9)
        trial = HalfTrial(_least_cosine(in_full.rows, in_half.rows), gain, len(in_full.rows))
        self.trials[modality], encoder.halved = trial, trial.is_kept
        return in_full

    def told(self) -> list[str]:
        """Return a line on what was kept and one on what was not, for people."""
        lines = []
        for wanted, said in ((True, "in half precision"), (False, "in full precision")):
            found = [f"{name} ({trial})" for name, trial in sorted(self.trials.items()) if trial.is_kept is wanted]
            if found:
                lines.append(f"{said}: {', '.join(found)}")
        return lines

    def _timed(self, encode: Callable[[], Result]) -> float:
        started = self._clock()
        encode()
        return self._clock() - started


def _least_cosine(in_full: NDArray[np.float32], in_half: NDArray[np.float32]) -> float:
    norms = np.linalg.norm(in_full, axis=1) * np.linalg.norm(in_half, axis=1)
    cosines = (in_full * in_half).sum(axis=1) / np.maximum(norms, 1e-12)
    return float(np.nan_to_num(cosines, nan=-1.0).min())
