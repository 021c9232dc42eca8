"""Read the parts of a latent generator from its folder, strictly."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from embedspace.encoders.base import load_module
from embedspace.errors import ConfigError, WeightsError
from embedspace.generate.conditioning import Condition
from embedspace.generate.families.base import Family, FamilyConfig, SampleOptions, Shape, network_for_sampling
from embedspace.generate.families.registry import family_of
from embedspace.generate.latents.autoencoder import Autoencoder, AutoencoderConfig
from embedspace.generate.latents.neighbours import Neighbours, load_neighbours
from embedspace.generate.translation.translator import Translator, load_translators
from embedspace.generate.upsampling import Upsampler, load_upsampler
from embedspace.vocabulary import Vocabulary, vocabulary_of

__all__ = ["FamilyNetwork", "LatentOptions", "LatentParts", "autoencoder_config", "load_parts"]

_SHAPE = ("latent_dim", "height", "width", "embed_dim")
"""What sections of earlier versions say beside the settings of their family."""


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
            for generators that can tell (`chooses`).
        candidate_steps: Solver steps of each of several candidates, at most, where they begin at a neighbour.
        nearer: Every second pair of candidates begins by so much of the way nearer at its neighbour; none that begins
            at noise does.
        looks: The neighbours are chosen by what they show for a single candidate, too, as they are for several, where
            the generator knows what its training items look like.
        noise_steps: Solver steps of what is asked to begin at noise where samples usually begin at a neighbour.
        noise_guidance: Weight of its guidance.
        noise_times: Times from and to which that guides.
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
    candidate_steps: int = 5
    nearer: float = 0.25
    looks: bool = False
    noise_steps: int = 8
    noise_guidance: float = 7.0
    noise_times: tuple[float, float] = (0.1, 0.75)
    redraws: int = 4


@dataclass(frozen=True, slots=True, eq=False)
class FamilyNetwork:
    """A trained network of a family.

    Attributes:
        family: The family.
        config: Its settings.
        module: The network.
    """

    family: Family[Any, Any]
    config: FamilyConfig
    module: nn.Module

    def draw(self, condition: Condition, generators: Sequence[torch.Generator], options: SampleOptions) -> Tensor:
        """Return latents (B, C, H, W), as `Family.sample`."""
        return self.family.sample(self.module, condition, generators, options)

    def draw_from(
        self, options: SampleOptions, condition: Condition, generators: Sequence[torch.Generator], start: float
    ) -> Tensor:
        """Return latents (B, C, H, W), drawn as options say but begun at `start`."""
        return self.draw(condition, generators, dataclasses.replace(options, start=start))

    def options(self, general: LatentOptions, start: float | None = None) -> SampleOptions:
        """Return how it samples where nobody says otherwise: as its own section says, else as `general` does.

        Args:
            general: Of the generator.
            start: The time to begin at; None for its own. At noise steps and guidance are those for noise, where its
                own are for a neighbour.
        """
        own, can = self.config, self.family.can
        usual = SampleOptions(
            num_steps=general.num_steps if own.num_steps is None else own.num_steps,
            guidance_scale=_set(own.guidance_scale, general.guidance_scale) if "guidance" in can else 1.0,
            guided_times=own.guided_times,
            start=_set(own.start, general.start) if "start" in can else 0.0,
        )
        if start is None or start == usual.start:
            return usual
        if start:
            return dataclasses.replace(usual, start=start)
        scale = general.noise_guidance if "guidance" in can else 1.0
        return SampleOptions(general.noise_steps, scale, guided_times=general.noise_times)


def _set(own: float | None, general: float) -> float:
    return general if own is None else own


@dataclass(frozen=True, slots=True, eq=False)
class LatentParts:
    """What a latent generator is made of.

    Attributes:
        autoencoder: Its decoder makes the media.
        networks: Name -> network; the first is the default.
        neighbours: Training items.
        sigma: As `Generator.sigma`.
        options: Defaults of sampling.
        vocabulary: What noisy vectors are projected onto; None to take every vector as it is.
        upsampler: Draws pictures at more than the decoder's side; None to interpolate.
        translators: Style -> what draws latents in it.
    """

    autoencoder: Autoencoder
    networks: Mapping[str, FamilyNetwork]
    neighbours: Neighbours
    sigma: Mapping[str, float]
    options: LatentOptions = dataclasses.field(default_factory=LatentOptions)
    vocabulary: Vocabulary | None = None
    upsampler: Upsampler | None = None
    translators: Mapping[str, Translator] = dataclasses.field(default_factory=dict)


def load_parts(config: Mapping[str, Any], folder: Path) -> LatentParts:
    """Make the parts of a latent generator with their weights.

    Args:
        config: Has autoencoder, families and sigma, and may have options and an upsampler.
        folder: Folder of the generator; the vocabulary lies in the folder around it.

    Raises:
        WeightsError: If a file is missing, damaged or of another shape.
        ConfigError: If a family is of an unknown type.
        KeyError: If a section is missing.
        TypeError: If a section has an unknown or missing key.
    """
    autoencoder = load_module(partial(Autoencoder, autoencoder_config(config)), folder / "autoencoder.safetensors")
    neighbours = load_neighbours(folder)
    shape, embed_dim = tuple(neighbours.latents.shape[1:]), neighbours.keys.shape[1]
    networks = {
        name: _network(name, section, folder, (shape[0], shape[1], shape[2]), embed_dim)
        for name, section in config["families"].items()
    }
    return LatentParts(
        autoencoder,
        networks,
        neighbours,
        config["sigma"],
        LatentOptions(**config.get("options", {})),
        vocabulary_of(folder.parent),
        load_upsampler(config, folder),
        load_translators(folder),
    )


def autoencoder_config(config: Mapping[str, Any]) -> AutoencoderConfig:
    """Return the size of the autoencoder of a generator's configuration.

    Raises:
        KeyError: If the section is missing.
        TypeError: If it has an unknown key.
    """
    return AutoencoderConfig(**_tuples(config["autoencoder"]))


def _network(name: str, section: Mapping[str, Any], folder: Path, shape: Shape, embed_dim: int) -> FamilyNetwork:
    """Return the network of a section, which is of the family of its own name where it says no type."""
    settings = _tuples(section)
    try:
        family = family_of(str(settings.pop("type", name)))
    except ConfigError as error:
        raise ConfigError(f"{folder / 'config.json'}: families.{name}: {error}") from None
    if "latent_dim" in settings:
        said = tuple(settings.pop(key) for key in _SHAPE)
        if said != (*shape, embed_dim):
            raise WeightsError(
                f"{folder}: the {name} draws latents of {said[:3]} from vectors of {said[3]}, those of its training "
                f"items are {shape} and {embed_dim}; restore config.json as training wrote it"
            )
        settings = {"neighbours": 0, **settings}
    config = family.Config(**settings)
    module = load_module(
        partial(network_for_sampling, family, config, shape, embed_dim), folder / f"{name}.safetensors"
    )
    return FamilyNetwork(family, config, module)


def _tuples(sizes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in sizes.items()}
