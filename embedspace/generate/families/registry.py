"""How latents are drawn, by the name of a family: "flow" and "vae" ship, others register themselves.

A generator's configuration lists its families: `"families": {"flow": {...sizes}}`, or under another name with the type
said: `"families": {"small flow": {"type": "flow", ...sizes}}`; weights lie in `<name>.safetensors`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from embedspace.errors import ConfigError
from embedspace.generate.conditioning import Condition
from embedspace.plugins import Registry

__all__ = ["Create", "Family", "Sampler", "family_of", "register_family"]

Create = Callable[[Mapping[str, Any]], nn.Module]
"""Sizes of a network, as the configuration lists them -> the network. A wrong or missing key is a TypeError."""


class Sampler(Protocol):
    """Draws latents with a network of a family."""

    def __call__(
        self,
        network: Any,  # noqa: ANN401 - of the family's own type
        condition: Condition,
        *,
        num_steps: int,
        guidance_scale: float,
        generator: Sequence[torch.Generator],
        start: float = 0.0,
    ) -> Tensor:
        """Return (B, C, H, W) standardised latents for a condition of B items.

        Args:
            network: Has `shape`, the (C, H, W) of one item, and `config` with `embed_dim` and, where the network reads
                neighbours, their number `neighbours`.
            condition: Condition of B items.
            num_steps: Steps of the sampler; a family that has none ignores it.
            guidance_scale: Weight of classifier-free guidance; 1 is none.
            generator: One source of noise per item: a sample depends on no other.
            start: Time in [0, 1) to begin at, from the first neighbour; a family that cannot ignores it.
        """
        ...


@dataclass(frozen=True, slots=True)
class Family:
    """A way to draw latents.

    Attributes:
        create: Makes a network.
        sample: Draws with it.
    """

    create: Create
    sample: Sampler


_FAMILIES: Registry[Family] = Registry(
    "family",
    {"flow": "embedspace.generate.families.flow", "vae": "embedspace.generate.families.vae"},
    replaces=True,
)


def register_family(name: str, sample: Sampler) -> Callable[[Create], Create]:
    """Register the networks of a family and their sampler, in place of one that has the name already.

    Args:
        name: Name of the family in a configuration.
        sample: Draws latents with a network.

    Returns:
        A decorator of the function that makes a network of its sizes.
    """

    def register(create: Create) -> Create:
        _FAMILIES.add(name, Family(create, sample))
        return create

    return register


def family_of(name: str) -> Family:
    """Return a family by its name.

    Raises:
        ConfigError: If none of this name is registered.
    """
    family = _FAMILIES.get(name)
    if family is None:
        known = ", ".join(_FAMILIES.names())
        raise ConfigError(f"unknown family {name!r}; known: {known}; import what registers it first")
    return family
