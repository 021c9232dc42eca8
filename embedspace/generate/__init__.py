"""From vectors of the space to media: one generator per target modality, one way to call them.

conditioning   a centred vector, with the known size of the noise in it
base           the contract of a generator: `Request` in, `Sample`s out, and which options it takes
registry       a generator by the type that its configuration names
families       how a network is sampled: flow, VAE, autoregressive; a family by its name
latents, captions, speech    what the generators that ship are made of
api            `Generators` of a space, and `generate`, which `EmbeddingSpace.generate` and the commands stand on
"""

from __future__ import annotations

from embedspace.generate.api import Generators, generate, interpolate
from embedspace.generate.base import Generator, Neighbour, Request, Sample
from embedspace.generate.conditioning import Condition
from embedspace.generate.families.registry import Family, register_family
from embedspace.generate.registry import create_generator, register_generator

__all__ = [
    "Condition",
    "Family",
    "Generator",
    "Generators",
    "Neighbour",
    "Request",
    "Sample",
    "create_generator",
    "generate",
    "interpolate",
    "register_family",
    "register_generator",
]
