"""What a tower is: a pretrained network together with its preprocessing, for one or more modalities.

Everything that the rest of the package asks of a pretrained network is here; which library runs it is known in one file
under `adapters/`.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from embedspace.errors import ConfigError, InputError, UnknownModalityError, WeightsError

__all__ = ["Tower", "TowerRequest", "check_waveform", "require_same"]


@dataclass(frozen=True, slots=True)
class TowerRequest:
    """What `create_tower` was asked for.

    Attributes:
        reference: As given, such as "open_clip:ViT-B-32/laion2b_s34b_b79k".
        place: What follows the first ":"; for a bundled network its name.
        folder: Where relative paths begin; None is the current folder.
        download: Whether the library may fetch what is not on this machine.
        options: What else the configuration says, such as `modalities`, `sample_rate` or `revision`.
    """

    reference: str
    place: str
    folder: Path | None = None
    download: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What it is called in messages."""
        return f"tower {self.reference!r}"

    def path(self) -> Path:
        """Return the place as a path, relative to `folder`."""
        place = Path(self.place).expanduser()
        return place if self.folder is None or place.is_absolute() else self.folder / place

    def only(self, *known: str) -> None:
        """Refuse options that the adapter does not know.

        Raises:
            ConfigError: If there is one.
        """
        unknown = sorted(set(self.options) - set(known))
        if unknown:
            raise ConfigError(f"{self.label}: unknown option {', '.join(unknown)}; known: {', '.join(known) or 'none'}")


class Tower(nn.Module, ABC):
    """A pretrained network and its preprocessing, for one or more modalities.

    `prepare` is pure CPU work and safe in threads. `encode` runs the network; a row does not depend on what is encoded
    beside it (within 1e-5). It has gradients if the caller allows them and unfreezes parameters.

    Attributes:
        name: Reference it was made by.
        modalities: Values of the modalities it takes.
        sample_rate: Sample rate of the waveforms it takes, in Hz; None: no sound.
        image_size: Shortest side in pixels worth decoding; None: no pictures.
        window_seconds: Longest stretch of sound it takes at once; whoever calls cuts, the library never does.
        max_tokens: Text tokens that it keeps, marks included; None: any number, or no text.
    """

    sample_rate: int | None = None
    image_size: int | None = None
    window_seconds: float | None = None
    max_tokens: int | None = None

    def __init__(
        self,
        name: str,
        modalities: Sequence[str],
        *,
        files: Mapping[str, Path] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
        revision: str | None = None,
    ) -> None:
        """Name the tower; a subclass adds its network and ends with `freeze()`.

        Args:
            name: Reference it is made by.
            modalities: Values of the modalities it takes.
            files: Name -> file of everything that decides a vector: weights, tokenizer.
            preprocessing: What is done before the network, resolved to numbers; must be JSON.
            revision: Commit of the hub's repository, where there is one.
        """
        super().__init__()
        self.name = name
        self.modalities = tuple(modalities)
        self.files = dict(files or {})
        self.preprocessing = dict(preprocessing or {})
        self.revision = revision

    @abstractmethod
    def feature_dim(self, modality: str) -> int:
        """Return the width of the rows that `encode` makes of a modality."""

    @abstractmethod
    def prepare(self, modality: str, media: Any) -> Any:  # noqa: ANN401 - each modality has its own decoded form
        """Turn one segment of decoded media into what `encode` takes; no network runs.

        Args:
            modality: One of `modalities`.
            media: A text; a picture as (H, W, 3) uint8 or RGB PIL image; a waveform (T,) float32 in [-1, 1] at
                `sample_rate`.
        """

    @abstractmethod
    def encode(self, modality: str, prepared: Sequence[Any], *, role: str = "document") -> torch.Tensor:
        """Run the network.

        Args:
            modality: One of `modalities`.
            prepared: N results of `prepare`.
            role: "query" or "document", for networks that were trained with a prompt for each.

        Returns:
            (N, feature_dim) float32 on the tower's device, of any length.
        """

    def count_tokens(self, text: str) -> int:
        """Return how many tokens a text takes, marks included, so that passages can be cut to `max_tokens`.

        Raises:
            UnknownModalityError: If the tower takes no text.
        """
        raise UnknownModalityError(f"tower {self.name!r} takes no text; it takes: {', '.join(self.modalities)}")

    def require(self, modality: str) -> None:
        """Refuse a modality that the tower does not take.

        Raises:
            UnknownModalityError: If it does not.
        """
        if modality not in self.modalities:
            raise UnknownModalityError(
                f"tower {self.name!r} takes no {modality}; it takes: {', '.join(self.modalities)}"
            )

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        first = next(self.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    def freeze(self) -> Self:
        """Turn gradients and training behaviour off."""
        self.requires_grad_(False)
        return self.eval()

    @cached_property
    def file_digests(self) -> dict[str, str]:
        """Name -> hex SHA-256 of each file that decides a vector; they are read once."""
        return {name: _sha256(path) for name, path in sorted(self.files.items())}

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 over the weights and the resolved preprocessing; it enters a space's fingerprint.

        Neither the reference nor a path is part of it: the same weights in another folder are the same tower.
        """
        what = {"files": sorted(self.file_digests.values()), "preprocessing": self.preprocessing}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    def reference(self) -> dict[str, Any]:
        """Return what a configuration stores of the tower: enough to make it again and to see that it is the same."""
        return {
            "name": self.name,
            "revision": self.revision,
            "files": self.file_digests,
            "preprocessing": self.preprocessing,
            "digest": self.digest,
        }


def require_same(tower: Tower, stored: Mapping[str, Any]) -> None:
    """Refuse a tower that is not the one a configuration was written with: its vectors fit no catalog.

    Args:
        tower: As made now.
        stored: What its `reference()` was then.

    Raises:
        WeightsError: If weights or preprocessing differ; the message names what.
    """
    if tower.digest == stored.get("digest"):
        return
    then, now = dict(stored.get("files", {})), tower.file_digests
    changed = [name for name in sorted(then.keys() | now.keys()) if then.get(name) != now.get(name)]
    was = dict(stored.get("preprocessing", {}))
    changed += [
        f"preprocessing {key}: {was.get(key)!r} is now {tower.preprocessing.get(key)!r}"
        for key in sorted(was.keys() | tower.preprocessing.keys())
        if was.get(key) != tower.preprocessing.get(key)
    ]
    raise WeightsError(
        f"tower {tower.name!r} is not the one that this space was made with (differs: {'; '.join(changed[:3])}); "
        "restore its files, or compose the space again"
    )


def check_waveform(tower: Tower, waveform: Any) -> None:  # noqa: ANN401 - whatever a caller passes
    """Refuse sound that the tower would silently cut or misread.

    Raises:
        InputError: If it is not (T,) with at least 1 sample, or longer than `window_seconds`.
    """
    shape = tuple(getattr(waveform, "shape", ()))
    if len(shape) != 1 or shape[0] == 0:
        raise InputError(f"sound must be (T,) with at least 1 sample at {tower.sample_rate} Hz, got {shape}")
    rate, window = tower.sample_rate, tower.window_seconds
    if rate and window and shape[0] > round(window * rate):
        raise InputError(
            f"tower {tower.name!r} takes at most {window:g} s at once, got {shape[0] / rate:.2f} s: cut it into windows"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
