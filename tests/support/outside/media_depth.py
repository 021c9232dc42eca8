"""Read depth maps: `.npy` files of metres, (H, W)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.encoders.decode import decode_whole
from embedspace.errors import MediaError

__all__ = ["decode", "read_depth"]


def read_depth(source: Any) -> NDArray[np.float32]:
    """Return (H, W) float32 metres.

    Raises:
        MediaError: If it is no such array.
    """
    try:
        depth = np.load(source, allow_pickle=False) if isinstance(source, str | Path) else np.asarray(source)
    except (OSError, ValueError, EOFError) as error:
        raise MediaError(f"{source}: not a depth map: {error}") from error
    if depth.ndim != 2 or depth.dtype.kind != "f":
        raise MediaError(f"{source}: a depth map is (H, W) of floats, got {depth.shape} {depth.dtype}")
    return depth.astype(np.float32)


decode = decode_whole("depth", read_depth)
