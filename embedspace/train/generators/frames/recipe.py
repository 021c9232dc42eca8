"""The [frames] table of a recipe."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FrameRecipe"]


@dataclass(frozen=True)
class FrameRecipe:
    """What draws the next frame.

    Attributes:
        source: Corpus of films, whose training split is learnt from; where `--videos` names a folder, its films are.
        films: At most so many of them, evenly chosen; 0 for all.
        generator: Folder of the generator of pictures whose autoencoder is used; empty for the one that ships.
        per_second: Frames per second.
        most: Frames of each film.
        side: The shorter side of frames in pixels, at most.
        channels: Width of the network.
        blocks: Residual blocks at half of the resolution.
        moving: Cells that change weigh so much more than others that nearly all of the picture is.
    """

    source: str = "rendered"
    films: int = 240
    generator: str = ""
    per_second: float = 10.0
    most: int = 40
    side: int = 120
    channels: int = 48
    blocks: int = 4
    moving: float = 4.0
    steps: int = 1500
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
