"""Recipes of generators: frozen dataclasses own the defaults, a TOML file lists what differs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedspace.config import build, read_toml
from embedspace.errors import ConfigError
from embedspace.generate.families.base import FamilyConfig
from embedspace.generate.families.registry import family_of
from embedspace.train.generators.conversion.recipe import ConversionRecipe, VocoderRecipe
from embedspace.train.generators.faces.recipe import FaceRecipe
from embedspace.train.generators.frames.recipe import FrameRecipe
from embedspace.train.generators.lips.recipe import LipRecipe
from embedspace.train.generators.styles.recipe import StyleRecipe

__all__ = [
    "KINDS",
    "LATENT_KINDS",
    "AudioGeneratorRecipe",
    "CaptionRecipe",
    "FamilyRecipe",
    "GeneratorRecipe",
    "ImageGeneratorRecipe",
    "LatentGeneratorRecipe",
    "load_generator_recipe",
]

KINDS = ("vocabulary", "text", "speech", "image", "audio", "lips", "style", "frames", "vocoder", "conversion", "faces")
LATENT_KINDS = ("image", "audio")
"""Kinds whose generators draw latents, each with one or several families."""
_DEFAULT = ("flow", "vae")
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
class FamilyRecipe:
    """One network that draws latents.

    Attributes:
        type: Its family.
        config: The family's settings.
    """

    type: str
    config: FamilyConfig


@dataclass(frozen=True, kw_only=True)
class LatentGeneratorRecipe:
    """What draws latents, of pictures or of spectrograms.

    Attributes:
        sources: Source -> weight.
        licences: Licences of items that may ship as latents of neighbours; one under another licence only trains.
        options: How to sample, where it differs from `LatentOptions`; chosen on the validation split.
        mirror: Items may be mirrored.
        latents: Folder of a generator whose autoencoder and neighbours are taken as they are; empty to make them.
        families: Name -> network, in a file the settings of its family's `Config`; the first is the generator's
            default. A table may say "type", the name of its family, where its own name is another one.
    """

    sources: dict[str, float] = field(default_factory=dict)
    licences: tuple[str, ...] = ()
    options: dict[str, int | float] = field(default_factory=dict)
    mirror: bool = False
    latents: str = ""
    autoencoder: AutoencoderRecipe = field(default_factory=AutoencoderRecipe)
    families: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ImageGeneratorRecipe(LatentGeneratorRecipe):
    """Pictures: sources, and which of them may ship as latents of neighbours.

    Attributes:
        may_ship: Sources whose licences let small latents ship; of these, pictures under one of `licences`, where there
            are any.
        leave_out: Ids of pictures that nothing is learnt from: broken ones.
        size: Side in pixels.
    """

    may_ship: tuple[str, ...] = field(default=(), metadata={"was": "gallery"})
    leave_out: tuple[str, ...] = ()
    mirror: bool = True
    size: int = 64


@dataclass(frozen=True, kw_only=True)
class AudioGeneratorRecipe(LatentGeneratorRecipe):
    """Sounds: sources, spectrogram, and which clips may ship as latents of neighbours.

    Sources mix licences, so that each clip's own counts.

    Attributes:
        balance: A clip of a concept that has n weighs n to the power of minus this: rare things are heard too.
        views: Times that each clip is there: as it is, then faster or slower, later or from elsewhere in a long one,
            each under another of its names.
    """

    balance: float = 0.5
    views: int = 4
    sample_rate: int = 16_000
    seconds: float = 4.096
    n_mels: int = 64
    n_fft: int = 800
    hop_length: int = 256


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
    lips: LipRecipe = field(default_factory=LipRecipe)
    faces: FaceRecipe = field(default_factory=FaceRecipe)
    vocoder: VocoderRecipe = field(default_factory=VocoderRecipe)
    conversion: ConversionRecipe = field(default_factory=ConversionRecipe)
    style: StyleRecipe = field(default_factory=StyleRecipe)
    frames: FrameRecipe = field(default_factory=FrameRecipe)


def load_generator_recipe(path: str | Path, families: Sequence[str] = ()) -> GeneratorRecipe:
    """Read a recipe of a generator.

    Args:
        path: A TOML file.
        families: Only these of its families; one that it does not name has its own defaults.

    Raises:
        ConfigError: If the file is missing, is no TOML, or has an unknown or wrong key; if a family is unknown.
    """
    table = read_toml(path, what="recipe", hint="the shipped ones are in training/recipes/generators")
    table = {"name": Path(path).stem, **table}
    for kind in (*LATENT_KINDS, "faces"):
        if isinstance(table.get(kind), Mapping):
            table[kind] = _with_families(table[kind], families, f"{path}: {kind}.families")
    recipe = build(GeneratorRecipe, table, str(path))
    recipe = dataclasses.replace(recipe, kind=_EARLIER_KINDS.get(recipe.kind, recipe.kind))
    if recipe.kind not in KINDS:
        raise ConfigError(f"{path}: kind must be one of {', '.join(KINDS)}, got {recipe.kind!r}")
    if families and recipe.kind not in LATENT_KINDS:
        raise ConfigError(f"{path}: a generator of {recipe.kind} has no families to choose from; leave --family out")
    return recipe


def _with_families(table: Mapping[str, Any], only: Sequence[str], where: str) -> dict[str, Any]:
    """Return a generator's table with the settings of its families read, or of only some of them."""
    table = _of_now(table)
    sections = table.get("families") or {name: {} for name in _DEFAULT}
    if not isinstance(sections, Mapping) or not all(isinstance(one, Mapping) for one in sections.values()):
        raise ConfigError(f"{where}: must be tables, one per family")
    wanted = only or list(sections)
    return {**table, "families": {name: _family(name, sections.get(name, {}), where) for name in wanted}}


def _family(name: str, section: Mapping[str, Any], where: str) -> FamilyRecipe:
    settings = dict(section)
    kind = str(settings.pop("type", name))
    try:
        family = family_of(kind)
    except ConfigError as error:
        raise ConfigError(f"{where}.{name}: {error}") from None
    return FamilyRecipe(kind, build(family.Config, settings, f"{where}.{name}"))


def _of_now(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table with what earlier versions called [flow], a flow and a VAE beside it, as tables of families."""
    flow = table.get("flow")
    if not isinstance(flow, Mapping):
        return dict(table)
    now = {"channels" if key == "width" else key: value for key, value in flow.items()}
    steps, mirror = now.pop("steps_vae", 2500), now.pop("mirror", None)
    vae = {key: value for key, value in now.items() if key not in ("multiples", "blocks", "neighbours", "first_time")}
    families = {"flow": {"share": 6.5, **now}, "vae": {**vae, "steps": steps}}
    trained = {name: section for name, section in families.items() if section.get("steps") != 0}
    rest = {key: value for key, value in table.items() if key != "flow"}
    return {**({} if mirror is None else {"mirror": mirror}), **rest, "families": trained}
