"""From vectors of the space to media: one generator per target, one way to call them. Torch is loaded when it is used.

targets        what can be made and which options it takes, as the command line needs it: no torch
conditioning   a centred vector, with the known size of the noise in it
base           the contract of a generator: `Request` in, `Sample`s out, and which options it takes
registry       a generator by the type that its configuration names
families       how latents are drawn: one file per family, which says how its network is built, trained and sampled
latents, captions, speech    what the generators that ship are made of
lips, faces    words from the mouths in a film; faces for a voice: what has a source of its own and no vector
soundtrack     sounds for a film: when something strikes, what that means, the file with the film's own pictures
pretrained     published generators by name, which vectors of a composed space drive
api            `Generators` of a space, and `generate`, which `EmbeddingSpace.generate` and the commands stand on
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embedspace.generate.api import Generators, generate, interpolate
    from embedspace.generate.base import Generator, Neighbour, Request, Sample, Sources
    from embedspace.generate.conditioning import Condition
    from embedspace.generate.families.base import Family, FamilyConfig, Phase, SampleOptions
    from embedspace.generate.families.registry import register_family
    from embedspace.generate.pretrained.head import Head
    from embedspace.generate.pretrained.registry import register_head
    from embedspace.generate.registry import create_generator, register_generator
    from embedspace.generate.targets import Option, Target, register_target

_HOMES = {
    "api": ("Generators", "generate", "interpolate"),
    "base": ("Generator", "Neighbour", "Request", "Sample", "Sources"),
    "conditioning": ("Condition",),
    "families.base": ("Family", "FamilyConfig", "Phase", "SampleOptions"),
    "families.registry": ("register_family",),
    "pretrained.head": ("Head",),
    "pretrained.registry": ("register_head",),
    "registry": ("create_generator", "register_generator"),
    "targets": ("Option", "Target", "register_target"),
}

__all__ = [
    "Condition",
    "Family",
    "FamilyConfig",
    "Generator",
    "Generators",
    "Head",
    "Neighbour",
    "Option",
    "Phase",
    "Request",
    "Sample",
    "SampleOptions",
    "Sources",
    "Target",
    "create_generator",
    "generate",
    "interpolate",
    "register_family",
    "register_generator",
    "register_head",
    "register_target",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562: whatever the submodule defines
    """Import a name on first use."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
