"""What a composed space is made of: a TOML file, or the same as a mapping.

anchor = "clip"                                  # its text tower gives texts, and the width of the space
[towers.clip]
model = "open_clip:hf-hub:timm/ViT-B-16-SigLIP2"
modalities = ["text", "image"]
[towers.clap]
model = "sentence-transformers:laion/clap-htsat-unfused"
modalities = ["text", "audio"]
window_seconds = 10.0
[connect.clap]
method = "blend"                                 # procrustes | ridge | anchors | sparse | mlp | identity
texts = ["captions.txt"]                         # absent: the words that come with the package
centre = "unlabelled/audio/**"
[calibration]
pairs = "validation.jsonl"                       # absent: no probabilities
[generators.image]
head = "diffusers:stable-diffusion-2-1-unclip"   # absent: the space makes nothing by itself
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedspace.config import build, read_toml
from embedspace.errors import ConfigError
from embedspace.generate.targets import target_names
from embedspace.modality import is_modality, modality_names

__all__ = [
    "CalibrationPairs",
    "ComposeRecipe",
    "ConnectRecipe",
    "HeadEntry",
    "TowerEntry",
    "read_recipe",
    "with_centres",
]


@dataclass(frozen=True)
class TowerEntry:
    """A tower.

    Attributes:
        model: Reference, as `embedspace.encoders.towers.create_tower` takes it.
        modalities: What it is used for; all that it takes where empty. A tower that is not the anchor needs "text" as
            well, to be connected by.
        window_seconds: Length of a sound segment; by default what the tower takes.
        options: Further options of its kind, such as `revision`.
    """

    model: str
    modalities: tuple[str, ...] = ()
    window_seconds: float | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ConnectRecipe:
    """How a tower that is not the anchor is connected to it.

    Attributes:
        method: See `embedspace.train.connect`.
        texts: Text files, one text per line, that both encode; the words that come with the package where empty.
        centre: Folder, or pattern, of unlabelled media of the tower's modalities, whose mean is subtracted; none:
            centred like texts, which costs much where media and texts lie apart.
        fitted: Files of a connector that is fitted already, without their suffix; nothing is fitted then.
        settings: Further fields of `embedspace.train.connect.ConnectSettings`.
    """

    method: str = "blend"
    texts: tuple[str, ...] = ()
    centre: str = ""
    fitted: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CalibrationPairs:
    """Where probabilities come from.

    Attributes:
        pairs: JSON Lines file: each line is one thing, as modality -> file or text, such as
            {"text": "a dog", "image": "dog.png"}; lines with an equal "concept" show the same thing.
    """

    pairs: str


@dataclass(frozen=True)
class HeadEntry:
    """A published generator that the space is to have.

    Attributes:
        head: Reference, as `embedspace generate --head` takes it.
        options: What its adapter takes besides, such as `prior`.
    """

    head: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ComposeRecipe:
    """A composed space.

    Attributes:
        anchor: Name of the tower whose space this is: its vectors stay as they are.
        towers: Name -> tower.
        connect: Name of a tower that is not the anchor -> how it is connected.
        calibration: Validation pairs; none: searches show cosines and no probabilities.
        generators: What is made ("image", "audio", "text") -> by which published generator.
        about: For people: title, licence, size, what to expect.
        seed: Seed of all that is drawn.
        folder: Where relative paths begin.
    """

    anchor: str
    towers: dict[str, TowerEntry]
    connect: dict[str, ConnectRecipe] = field(default_factory=dict)
    calibration: CalibrationPairs | None = None
    generators: dict[str, HeadEntry] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    folder: Path = field(default_factory=Path.cwd)

    def plain(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {key: value for key, value in dataclasses.asdict(self).items() if key != "folder"}


def with_centres(recipe: ComposeRecipe, centres: Mapping[str, str]) -> ComposeRecipe:
    """Return a recipe whose connectors subtract the mean of media.

    Args:
        recipe: What is composed.
        centres: Name of a connected tower -> folder or pattern of unlabelled media, see `ConnectRecipe.centre`.

    Raises:
        ConfigError: If a name is no connected tower.
    """
    for name in centres:
        if name not in recipe.connect:
            raise ConfigError(f"centre {name}: no connected tower; it has: {', '.join(recipe.connect) or 'none'}")
    connect = {
        name: dataclasses.replace(how, centre=centres.get(name, how.centre)) for name, how in recipe.connect.items()
    }
    return dataclasses.replace(recipe, connect=connect)


def read_recipe(source: ComposeRecipe | Mapping[str, Any] | str | Path) -> ComposeRecipe:
    """Read and check what a space is composed of.

    Args:
        source: A TOML file, or what one holds; what was read already stays as it is.

    Raises:
        ConfigError: If the file is missing or no TOML, a key is unknown or missing, a value has the wrong type, or a
            name refers to no tower.
    """
    if isinstance(source, ComposeRecipe):
        return source
    if isinstance(source, Mapping):
        recipe, where = build(ComposeRecipe, source, "compose"), "compose"
    else:
        path, where = Path(source), str(source)
        table = read_toml(path, what="composed space")
        recipe = build(ComposeRecipe, table, where, folder=path.resolve().parent)
    known = ", ".join(recipe.towers) or "none"
    if recipe.anchor not in recipe.towers:
        raise ConfigError(f"{where}: anchor {recipe.anchor!r} is no tower; it has: {known}")
    for name in recipe.connect:
        if name not in recipe.towers or name == recipe.anchor:
            raise ConfigError(f"{where}: connect.{name}: name a tower other than the anchor; it has: {known}")
    for target in recipe.generators:
        if target not in target_names():
            raise ConfigError(f"{where}: generators.{target}: unknown target; known: {', '.join(target_names())}")
    for name, tower in recipe.towers.items():
        for modality in tower.modalities:
            if not is_modality(modality):
                raise ConfigError(
                    f"{where}: towers.{name}.modalities: unknown modality {modality!r}; known: "
                    f"{', '.join(modality_names())}"
                )
    return recipe
