"""The [lips] table of a recipe."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LipRecipe"]


@dataclass(frozen=True)
class LipRecipe:
    """What reads lips, or signs.

    Attributes:
        clips: Folder of prepared clips (`embedspace.train.generators.lips.clips`); they are learnt from where no videos
            are named, and beside videos where `with_clips` is set.
        layout: What `videos` is: "folder" of films, labelled by the recogniser; "grid" or "lrs", the folder of such a
            corpus with its own texts; "how2sign", points of people who sign, with `points = 49`.
        start: Folder of weights to begin with; "shipped" for those that ship, empty for none.
        with_clips: Learn from `clips` too when videos are given.
        points: Points of a body a picture, for keypoint files; 0 for crops of mouths.
        shape_weight: Weight of the loss on mouth shapes, of clips that know them.
        val_share: Share of the videos' clips that are kept for validation, by the name of their film.
        about: What the weights were learnt from, in a sentence; it goes into their configuration.
    """

    clips: str = "build/corpora/talking/clips"
    layout: str = "folder"
    start: str = ""
    with_clips: bool = False
    points: int = 0
    channels: int = 12
    width: int = 160
    hidden: int = 128
    layers: int = 2
    dropout: float = 0.2
    shape_weight: float = 0.5
    val_share: float = 0.1
    about: str = ""
    steps: int = 3600
    batch_size: int = 32
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.01
