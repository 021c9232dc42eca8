"""The [style] table of a recipe."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["StyleRecipe"]


@dataclass(frozen=True)
class StyleRecipe:
    """A translator of pictures, learnt from two folders without pairs.

    Attributes:
        generator: Folder of the generator of pictures whose latents are translated; empty for the one that ships.
        mirror: Pictures may be mirrored.
        channels: Width of each of the two translators.
        blocks: Residual blocks of each.
        critic_channels: Width of each of the two critics.
        cycle: Weight of coming back: a picture that is translated there and back again should be what it was.
        identity: Weight of leaving alone what is of the wanted kind already.
    """

    generator: str = ""
    mirror: bool = True
    channels: int = 48
    blocks: int = 3
    critic_channels: int = 48
    cycle: float = 10.0
    identity: float = 3.0
    steps: int = 4000
    batch_size: int = 16
    learning_rate: float = 4e-4
    weight_decay: float = 0.0
