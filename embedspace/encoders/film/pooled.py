"""A video's window as the mean of its frames' rows: what it means, in the space of whatever encodes pictures.

What moves is often a small part of each frame. Views of it alone, cut out, are weighed beside the whole frames.

Source: temporal mean pooling over a picture tower: Luo et al. 2022 (CLIP4Clip, https://arxiv.org/abs/2104.08860),
    "parameter-free" similarity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedspace.encoders.contract import Encoders, MediaEncoder, content_bytes
from embedspace.encoders.registry import register_encoder
from embedspace.errors import ConfigError
from embedspace.modality import Modality

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["POOLED_SECTION", "FrameWindow", "PooledConfig", "PooledEncoder"]

POOLED_SECTION = {
    "type": "pooled",
    "pools": Modality.IMAGE.value,
    "frames_per_second": 4.0,
    "window_seconds": 4.0,
    "still": 0.03,
    "views": 2,
    "view_weight": 2.0,
}
"""What a space's configuration says of videos, where it has an encoder of pictures and none of videos."""

_RATES, _WINDOWS, _VIEWS = (0.05, 60.0), (0.1, 3600.0), (0, 16)


@dataclass(frozen=True, slots=True, eq=False)
class FrameWindow:
    """Frames of one window, prepared; one that lasts for several moments is there as often.

    Attributes:
        frames: What the frames' encoder made of each; the same object where nothing moved.
        views: The same of what moves in it, cut out.
    """

    frames: tuple[Any, ...]
    views: tuple[Any, ...] = ()

    @property
    def distinct(self) -> dict[int, Any]:
        """Identity -> frame or view, each once."""
        return {id(frame): frame for frame in (*self.frames, *self.views)}

    @property
    def nbytes(self) -> int:
        """Memory that the frames hold."""
        return content_bytes(list(self.distinct.values()))


@dataclass(frozen=True)
class PooledConfig:
    """How a video is looked at.

    Attributes:
        pools: Modality whose encoder of the same space takes the frames.
        frames_per_second: Moments looked at per second.
        window_seconds: Length of a window.
        still: A frame that differs less from the last one (root mean square of pixels from 0 to 1) takes its row.
        views: Views of what moves in a window, at most.
        view_weight: Weight of their mean beside that of the frames.
    """

    pools: str = Modality.IMAGE.value
    frames_per_second: float = 4.0
    window_seconds: float = 4.0
    still: float = 0.0
    views: int = 0
    view_weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what no video can be cut by."""
        for name, value, (low, high) in (
            ("frames_per_second", self.frames_per_second, _RATES),
            ("window_seconds", self.window_seconds, _WINDOWS),
            ("still", self.still, (0.0, 1.0)),
            ("views", self.views, _VIEWS),
            ("view_weight", self.view_weight, (0.0, 100.0)),
        ):
            if not low <= value <= high:
                raise ConfigError(f"{name} {value}: must be {low:g} to {high:g}")


class PooledEncoder(MediaEncoder):
    """Mean pooling over another encoder's rows. It holds no weights."""

    def __init__(self, config: PooledConfig) -> None:
        """Pool as a configuration says; `join` gives the encoder of the frames."""
        self.config = config
        self.pools = config.pools
        self.frames_per_second, self.window_seconds = config.frames_per_second, config.window_seconds
        self.still, self.views = config.still, config.views
        self._frames: MediaEncoder | None = None

    def join(self, encoders: Encoders) -> None:
        """Take the encoder of the frames from those of the space."""
        self._frames = encoders(self.pools)
        self.embed_dim, self.min_side = self._frames.embed_dim, self._frames.min_side

    def prepare(self, media: Sequence[Any]) -> FrameWindow:
        """Take the frames of a window, each prepared by the frames' encoder."""
        return FrameWindow(tuple(media))

    def prepare_views(self, media: FrameWindow, images: Sequence[Image.Image]) -> FrameWindow:
        """Add to a window the views of what moves in its images, one for each of its frames."""
        from embedspace.encoders.film.moving import moving_things  # a search by words opens no picture

        assert self._frames is not None
        return FrameWindow(media.frames, tuple(map(self._frames.prepare, moving_things(images, self.views))))

    def encode(self, prepared: Sequence[FrameWindow]) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows; each frame is encoded once."""
        assert self._frames is not None
        frames = {key: frame for window in prepared for key, frame in window.distinct.items()}
        rows = self._frames.encode(list(frames.values()))
        return self.pool(prepared, dict(zip(frames, rows, strict=True)))

    def pool(self, prepared: Sequence[FrameWindow], rows: Mapping[int, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the (N, embed_dim) normalised means of frames that are encoded already.

        Args:
            prepared: Windows.
            rows: Identity of a frame -> its (embed_dim,) unit row.
        """
        means = np.stack([self._mean(window, rows) for window in prepared])
        lengths = np.linalg.norm(means, axis=1, keepdims=True)
        pooled: NDArray[np.float32] = (means / np.maximum(lengths, 1e-12)).astype(np.float32)
        return pooled

    def _mean(self, window: FrameWindow, rows: Mapping[int, NDArray[np.float32]]) -> NDArray[np.float32]:
        frames: NDArray[np.float32] = np.mean([rows[id(frame)] for frame in window.frames], axis=0)
        if not window.views:
            return frames
        views: NDArray[np.float32] = np.mean([rows[id(view)] for view in window.views], axis=0)
        weight = self.config.view_weight / max(float(np.linalg.norm(views)), 1e-12)
        mean: NDArray[np.float32] = frames / max(float(np.linalg.norm(frames)), 1e-12) + weight * views
        return mean


@register_encoder("pooled")
def _create(config: dict[str, Any], folder: Path, modality: str) -> PooledEncoder:
    del folder, modality
    return PooledEncoder(PooledConfig(**config))
