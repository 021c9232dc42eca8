"""The [vocoder] and [conversion] tables of a recipe."""

from __future__ import annotations

from dataclasses import dataclass, field

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
        seconds: Beginning of speakers' names -> seconds of each of them, at most; others are left out.
        weights: Beginning of speakers' names -> share of the crops that are theirs, among those that are there.
        content: Numbers of a frame's content.
        frames: Of a crop.
        about: What the weights were learnt from, in a sentence; it goes into their configuration.
    """

    speech: str = "speakers/people.jsonl"
    vocoder: str = "build/runs/generators/vocoder/generator"
    seconds: dict[str, float] = field(
        default_factory=lambda: {
            "human": 100.0,
            "espeak": 12.0,
            "flite": 40.0,
            "piper": 40.0,
            "kokoro": 60.0,
            "pico": 20.0,
        }
    )
    weights: dict[str, float] = field(
        default_factory=lambda: {"human": 0.55, "espeak": 0.15, "flite": 0.12, "piper": 0.06, "kokoro": 0.12}
    )
    content: int = 40
    frames: int = 96
    channels: int = 192
    hidden: int = 448
    blocks: int = 5
    about: str = ""
    steps: int = 4000
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
