"""Read the parts of a latent generator from its folder, strictly."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from embedspace.encoders.base import load_module
from embedspace.errors import ConfigError, WeightsError
from embedspace.generate.families.registry import Family, Sampler, family_of
from embedspace.generate.latents.autoencoder import Autoencoder, AutoencoderConfig
from embedspace.generate.latents.neighbours import Neighbours, load_neighbours
from embedspace.vocabulary import Vocabulary, vocabulary_of

__all__ = ["LatentOptions", "LatentParts", "load_parts"]


@dataclass(frozen=True, slots=True)
class LatentOptions:
    """How latents are drawn; chosen on the validation split.

    Attributes:
        num_steps: Solver steps of the flow.
        guidance_scale: Weight of the guidance of any family.
        start: Time that the flow begins at, from the first neighbour; 0 for pure noise.
        pool: Neighbours are drawn from so many nearest; samples with an even seed take the very nearest.
        spread: How far down the pool others reach: a neighbour's chance goes with exp(cosine / spread).
        projection: Temperature of the projection of noisy vectors onto the vocabulary's (DeCap); 0 for none.
        projected_sigma: Noise assumed in a projected vector; vectors with no more than this are not projected.
        copy_similarity: A sample as much like a training item as this counts as a near copy; one in twenty real items
            of the validation split does.
        candidates: So many are drawn for each sample, and the one is kept whose own vector fits best, near copies last;
            for generators that can tell (`fits`).
        redraws: A near copy is drawn again up to so often, each time from an earlier start; 0 for never.
    """

    num_steps: int = 16
    guidance_scale: float = 2.0
    start: float = 0.0
    pool: int = 8
    spread: float = 0.05
    projection: float = 0.05
    projected_sigma: float = 0.5
    copy_similarity: float = 1.0
    candidates: int = 1
    redraws: int = 4


@dataclass(frozen=True, slots=True, eq=False)
class LatentParts:
    """What a latent generator is made of.

    Attributes:
        autoencoder: Its decoder makes the media.
        networks: Name of a family -> network; the first is the default.
        samplers: The same names -> what draws with each network.
        neighbours: Training items.
        sigma: As `Generator.sigma`.
        options: Defaults of sampling.
        vocabulary: What noisy vectors are projected onto; None to take every vector as it is.
    """

    autoencoder: Autoencoder
    networks: Mapping[str, nn.Module]
    samplers: Mapping[str, Sampler]
    neighbours: Neighbours
    sigma: Mapping[str, float]
    options: LatentOptions = dataclasses.field(default_factory=LatentOptions)
    vocabulary: Vocabulary | None = None


def load_parts(config: Mapping[str, Any], folder: Path) -> LatentParts:
    """Make the parts of a latent generator with their weights.

    Args:
        config: Has autoencoder, families and sigma, and may have options.
        folder: Folder of the generator; the vocabulary lies in the folder around it.

    Raises:
        WeightsError: If a file is missing, damaged or of another shape.
        ConfigError: If a family is of an unknown type.
        KeyError: If a section is missing.
        TypeError: If a section has an unknown or missing key.
    """
    parsed, path = AutoencoderConfig(**_tuples(config["autoencoder"])), folder / "autoencoder.safetensors"
    autoencoder = load_module(lambda: Autoencoder(parsed), path)
    families = {name: _typed(name, sizes, folder) for name, sizes in config["families"].items()}
    neighbours = load_neighbours(folder)
    networks: dict[str, nn.Module] = {}
    for name, (family, sizes) in families.items():
        path = folder / f"{name}.safetensors"
        networks[name] = load_module(partial(family.create, sizes), path)
        shape, expected = getattr(networks[name], "shape", None), tuple(neighbours.latents.shape[1:])
        if shape != expected:
            raise WeightsError(
                f"{folder}: the {name} draws latents of {shape}, those of its training items are {expected}; restore "
                "config.json as training wrote it"
            )
    return LatentParts(
        autoencoder,
        networks,
        {name: family.sample for name, (family, _) in families.items()},
        neighbours,
        config["sigma"],
        LatentOptions(**config.get("options", {})),
        vocabulary_of(folder.parent),
    )


def _typed(name: str, sizes: Mapping[str, Any], folder: Path) -> tuple[Family, dict[str, Any]]:
    """Return the family that a section is of, its own name where it says no type, and the network's sizes."""
    try:
        family = family_of(str(sizes.get("type", name)))
    except ConfigError as error:
        raise ConfigError(f"{folder / 'config.json'}: families.{name}: {error}") from None
    return family, {key: value for key, value in _tuples(sizes).items() if key != "type"}


def _tuples(sizes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in sizes.items()}
