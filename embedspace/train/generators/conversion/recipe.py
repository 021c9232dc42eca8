"""The [vocoder] and [conversion] tables of a recipe."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ConversionRecipe", "VocoderRecipe"]


@dataclass(frozen=True)
class VocoderRecipe:
    """The [vocoder] table of a recipe.

    Attributes:
        speech: Manifest of speakers, below the corpora folder; only those of the training split are heard.
        sounds: Manifests of sounds.
        sound_share: Share of a batch that are sounds.
        frames: Of a crop.
    """

    speech: str = "speakers/people.jsonl"
    sounds: tuple[str, ...] = ("sounds/manifest.jsonl", "instruments/manifest.jsonl")
    sound_share: float = 0.3
    frames: int = 48
    channels: int = 256
    hidden: int = 512
    blocks: int = 5
    steps: int = 12_000
    batch_size: int = 12
    learning_rate: float = 1e-3
    weight_decay: float = 0.01


@dataclass(frozen=True)
class ConversionRecipe:
    """The [conversion] table of a recipe.

    Attributes:
        speech: Manifest of speakers, below the corpora folder; only those of the training split are heard.
        vocoder: Folder of a trained vocoder, which is written beside the decoder.
    """

    speech: str = "speakers/people.jsonl"
    vocoder: str = "build/runs/generators/vocoder/generator"
