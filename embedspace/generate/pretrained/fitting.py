"""Which of a space's towers makes the vectors that a head takes, proved on probes where the head has the same tower.

Widths tell little: CLIP ViT-B/32 and CLAP are both 512 wide. So pictures or texts are encoded by both towers, and their
cosines say whether the two are one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from embedspace.encoders.connectors import Connector, load_connector, reversed_connector
from embedspace.errors import ConfigError
from embedspace.generate.pretrained.base import HeadSpace, Wanted

__all__ = ["Way", "probes", "way_to"]

_SAME = 0.9
"""Mean cosine from which two towers are one: preprocessing and half precision take some hundredths off."""
_TEXTS = ("a dog that barks", "rain on a roof", "a red flower on a table", "two people in a street")


@dataclass(frozen=True, slots=True)
class Way:
    """How rows of the space become rows of a head's tower.

    Attributes:
        tower: Which of the space's towers it is, for people.
        connector: Carries rows of the space into the tower's own space; None: they lie in it.
        agreement: Mean cosine of the tower with the head's on probes; None where the head has none.
    """

    tower: str
    connector: Connector | None = None
    agreement: float | None = None

    def rows(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (N, width) unit rows of the tower's space."""
        return vectors if self.connector is None else self.connector.connect(vectors)


def probes(kind: str) -> list[Any]:
    """Return a few texts, or (64, 64, 3) pictures of coloured shapes on coloured grounds."""
    if kind == "text":
        return list(_TEXTS)
    rng = np.random.default_rng(0)
    down, across = np.mgrid[0:64, 0:64]
    pictures = []
    for number in range(len(_TEXTS)):
        ground, shape = rng.integers(0, 256, (2, 3))
        inside = (
            (down - 32) ** 2 + (across - 32) ** 2 < 400,
            (abs(down - 32) < 18) & (abs(across - 32) < 18),
            down > across,
            (down // 8 + across // 8) % 2 == 0,
        )[number]
        pictures.append(np.where(inside[..., None], shape, ground).astype(np.uint8))
    return pictures


def way_to(space: HeadSpace, wanted: Wanted, label: str) -> Way:
    """Find how rows of a space become the vectors that a head takes.

    Args:
        space: The space.
        wanted: What the head takes.
        label: The head, for messages.

    Raises:
        ConfigError: If no tower of the space is the one that the head was trained on.
    """
    expected = None
    if wanted.encode is not None:
        with torch.inference_mode():
            expected = F.normalize(wanted.encode(probes(wanted.probe)).float().cpu(), dim=-1)
    found = list(_ways(space, wanted, expected))
    fitting = [way for way in found if way.agreement is None or way.agreement >= _SAME]
    if fitting:
        return fitting[0]
    towers = ", ".join(dict.fromkeys(_name(stored, name) for name, stored in _towers(space).items())) or "its own"
    if found:
        best = max(found, key=lambda way: way.agreement or 0.0)
        had = f"cosine {best.agreement:.2f} on probes, where the same tower has 1"
    else:
        had = f"its vectors are {space.embed_dim} wide"
    raise ConfigError(
        f"{label}: takes vectors {wanted.width} wide of {wanted.tower}; this space is of {towers} ({had}): compose a "
        "space with that tower (embedspace space list shows presets)"
    )


def _ways(space: HeadSpace, wanted: Wanted, expected: Tensor | None) -> Iterator[Way]:
    """Yield the space itself and its connected towers, as far as their width is the wanted one."""
    if space.embed_dim == wanted.width and space.supports(wanted.probe):
        encode = space.encode_image if wanted.probe == "image" else space.encode_text
        rows = None if expected is None else torch.from_numpy(encode(probes(wanted.probe)))
        yield Way(_anchor(space), None, _agreement(rows, expected))
    for name, stem in _connected(space).items():
        place = space.folder / stem
        forth = load_connector(place.parent, place.name)
        back = reversed_connector(forth, wanted.modality) if forth.config.in_dim == wanted.width else None
        tower = None if back is None else space.tower(name)  # a tower of another width need not be loaded
        if back is None or tower is None or wanted.probe not in tower.modalities:
            continue
        rows = None
        if expected is not None:
            with torch.inference_mode():
                made = tower.encode(wanted.probe, [tower.prepare(wanted.probe, one) for one in probes(wanted.probe)])
            rows = F.normalize(made.float().cpu(), dim=-1)
        yield Way(_name(_towers(space)[name], name), back, _agreement(rows, expected))


def _agreement(rows: Tensor | None, expected: Tensor | None) -> float | None:
    if rows is None or expected is None:
        return None
    return float((rows * expected).sum(dim=1).mean())


def _towers(space: HeadSpace) -> Mapping[str, Mapping[str, Any]]:
    found: Mapping[str, Mapping[str, Any]] = space.config.get("towers", {})
    return found


def _name(stored: Mapping[str, Any], name: str) -> str:
    """Return how a tower is named for people: folders of this machine by their last part."""
    reference = str(stored.get("name", name))
    return re.sub(r"(?<=:)/.*/", "", reference)


def _anchor(space: HeadSpace) -> str:
    """Return the tower whose vectors are those of the space, for people."""
    sections: Mapping[str, Mapping[str, Any]] = space.config.get("sections", {})
    for section in sections.values():
        if section.get("tower") and not section.get("connector"):
            return _name(_towers(space).get(section["tower"], {}), section["tower"])
    return "the space"


def _connected(space: HeadSpace) -> dict[str, str]:
    """Return name -> connector of the towers whose rows reach the space by it alone."""
    sections: Mapping[str, Mapping[str, Any]] = space.config.get("sections", {})
    altered: Sequence[str] = ("projection", "tuned", "correction")
    return {
        str(section["tower"]): str(section["connector"])
        for section in sections.values()
        if section.get("connector") and not any(section.get(key) for key in altered)
    }
