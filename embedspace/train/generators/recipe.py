"""Recipes of generators: frozen dataclasses own the defaults, a TOML file lists what differs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from embedspace.config import load
from embedspace.errors import ConfigError

__all__ = [
    "KINDS",
    "AudioGeneratorRecipe",
    "CaptionRecipe",
    "GeneratorRecipe",
    "ImageGeneratorRecipe",
    "load_generator_recipe",
]

KINDS = ("vocabulary", "text", "speech", "image", "audio")
_EARLIER_KINDS = {"memory": "vocabulary"}


@dataclass(frozen=True)
class CaptionRecipe:
    """The caption decoder.

    Attributes:
        weights: Kind of text -> its weight in a batch: "caption" and "keyword" of pictures and sounds, "class" names of
            ImageNet, "word" of dictionaries, "title" of recipes.
        own: Share of a batch whose condition is an item's own vector of another modality.
        max_sigma: Text vectors get noise of a size drawn from 0 to this.
        drop: Share of conditions that are dropped, for guidance.
    """

    weights: dict[str, float] = field(
        default_factory=lambda: {"caption": 1.0, "keyword": 0.4, "class": 0.5, "word": 0.5, "title": 0.1}
    )
    vocabulary: int = 4096
    width: int = 256
    layers: int = 4
    heads: int = 4
    prefix: int = 4
    max_pieces: int = 20
    dropout: float = 0.1
    own: float = 0.25
    max_sigma: float = 1.8
    drop: float = 0.1
    steps: int = 3000
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.05


@dataclass(frozen=True)
class AutoencoderRecipe:
    """A KL autoencoder, of pictures or of spectrograms.

    Attributes:
        channels: Width of its first stage; later ones are multiples.
        latent_dim: Channels of the latents.
        kl: Weight of the divergence from a standard normal.
        perceptual: Weight of the distance between features of a frozen network; 0 for none.
        crop: Side of the random crops that three steps in four are made of; 0 for whole items always. The network is
            convolutional, and crops cost less.
        adversarial: Weight of the discriminator's opinion in the last phase, which trains the decoder alone.
        steps_adversarial: Steps of that phase; 0 for none.
        linear: The principal components of patches instead of a network: nothing to train, and sharper than a network
            that has had but minutes.
    """

    channels: int = 32
    multiples: tuple[int, ...] = (1, 2, 4)
    latent_dim: int = 8
    kl: float = 1e-4
    perceptual: float = 0.5
    crop: int = 0
    adversarial: float = 0.05
    steps_adversarial: int = 0
    linear: bool = False
    steps: int = 2500
    batch_size: int = 32
    learning_rate: float = 8e-4
    weight_decay: float = 0.01


@dataclass(frozen=True)
class FlowRecipe:
    """A rectified flow on latents, or (`steps_vae`) the conditional VAE beside it.

    Attributes:
        neighbours: Training items whose latents are the context.
        drop: Share of conditions dropped, for guidance.
        drop_context: Share of contexts dropped while the vector stays.
        max_sigma: As `CaptionRecipe`.
        ema: Decay of the averaged weights that are kept.
        mirror: Pictures may be mirrored.
        first_time: Times of the flow are drawn from here to 1; for generators whose sampling begins later than at 0.
    """

    width: int = 96
    multiples: tuple[int, ...] = (1, 2)
    blocks: int = 2
    neighbours: int = 3
    drop: float = 0.1
    drop_context: float = 0.15
    max_sigma: float = 1.5
    ema: float = 0.999
    mirror: bool = True
    first_time: float = 0.0
    steps: int = 8000
    steps_vae: int = 2500
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.01


@dataclass(frozen=True)
class ImageGeneratorRecipe:
    """Pictures: sources, and which of them may ship as latents of neighbours.

    Attributes:
        sources: Source -> weight.
        may_ship: Sources whose licences let small latents ship.
        licences: Licences of pictures that may ship; a picture under another one only trains. Empty for all.
        size: Side in pixels.
        options: How to sample, where it differs from `LatentOptions`; chosen on the validation split.
    """

    sources: dict[str, float] = field(default_factory=dict)
    may_ship: tuple[str, ...] = field(default=(), metadata={"was": "gallery"})
    licences: tuple[str, ...] = ()
    options: dict[str, int | float] = field(default_factory=dict)
    size: int = 64
    autoencoder: AutoencoderRecipe = field(default_factory=AutoencoderRecipe)
    flow: FlowRecipe = field(default_factory=FlowRecipe)


@dataclass(frozen=True)
class AudioGeneratorRecipe:
    """Sounds: sources, spectrogram, and which clips may ship as latents of neighbours.

    Attributes:
        sources: Source -> weight of each of its clips.
        licences: Licences of the clips that may ship: sources mix them, so that each clip's own counts.
        balance: A clip of a concept that has n weighs n to the power of minus this: rare things are heard too.
        views: Times that each clip is there: as it is, then faster or slower, later or from elsewhere in a long one,
            each under another of its names.
        options: As for pictures.
    """

    sources: dict[str, float] = field(default_factory=dict)
    licences: tuple[str, ...] = ()
    balance: float = 0.5
    views: int = 4
    options: dict[str, int | float] = field(default_factory=dict)
    sample_rate: int = 16_000
    seconds: float = 4.096
    n_mels: int = 64
    n_fft: int = 800
    hop_length: int = 256
    autoencoder: AutoencoderRecipe = field(default_factory=AutoencoderRecipe)
    flow: FlowRecipe = field(default_factory=FlowRecipe)


@dataclass(frozen=True)
class GeneratorRecipe:
    """A whole run of `embedspace train generator`.

    Attributes:
        kind: One of `KINDS`.
        corpora: Folder of the built corpora.
        features: Folder of cached features; in its "vectors" lie what the space made of texts and items.
        space: Folder of the space; empty for the shipped one.
    """

    name: str
    kind: str
    seed: int = 0
    corpora: str = "build/corpora"
    features: str = "build/features"
    space: str = ""
    text: CaptionRecipe = field(default_factory=CaptionRecipe)
    image: ImageGeneratorRecipe = field(default_factory=ImageGeneratorRecipe)
    audio: AudioGeneratorRecipe = field(default_factory=AudioGeneratorRecipe)


def load_generator_recipe(path: str | Path) -> GeneratorRecipe:
    """Read a recipe of a generator.

    Raises:
        ConfigError: If the file is missing, is no TOML, or has an unknown or wrong key.
    """
    recipe = load(GeneratorRecipe, path, what="recipe", hint="the shipped ones are in training/recipes/generators")
    recipe = dataclasses.replace(recipe, kind=_EARLIER_KINDS.get(recipe.kind, recipe.kind))
    if recipe.kind not in KINDS:
        raise ConfigError(f"{path}: kind must be one of {', '.join(KINDS)}, got {recipe.kind!r}")
    return recipe
