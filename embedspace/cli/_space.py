"""The one place where the command line gets its embedding space; tests replace `load_space`."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedspace.space import EmbeddingSpace

__all__ = ["load_space", "quick_start"]


def load_space(weights: Path | None = None, device: str = "cpu") -> EmbeddingSpace:
    """Return the space of `weights`, or the shipped one.

    Reads configuration and calibration only: an encoder's weights load when it is first used.

    Raises:
        WeightsError: If the weights are missing or damaged.
    """
    from embedspace.space import EmbeddingSpace

    return EmbeddingSpace.from_pretrained(weights, device=device)


@contextlib.contextmanager
def quick_start(*, words_only: bool) -> Iterator[None]:
    """Save start-up time around the first use of the space.

    Args:
        words_only: Only short texts are encoded, which do not repay the start of a thread pool.
    """
    threads = os.environ.get("OMP_NUM_THREADS")
    if words_only and threads is None:
        os.environ["OMP_NUM_THREADS"] = "1"  # read once, when torch is loaded
    collecting = gc.isenabled()
    gc.disable()  # importing torch makes a million objects that all stay: looking for garbage among them takes 0.15 s
    try:
        yield
    finally:
        if collecting:
            gc.enable()
        if words_only and threads is None:
            del os.environ["OMP_NUM_THREADS"]
