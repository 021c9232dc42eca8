"""The encoder of any tower: the tower's rows, if wanted through a projection, a connector and a correction.

    media -> tower -> (N, feature_dim) -> projection, or unit length -> connector -> correction
          -> (N, embed_dim) unit rows

A section of this type names a tower of the space's configuration and files in the space's folder:
`{"type": "tower", "tower": "clap", "projection": "...", "tuned": "...", "connector": "connectors/clap"}`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedspace.config import build
from embedspace.encoders.base import Encoder, to_rows
from embedspace.encoders.carrier import Carrier, load_carrier
from embedspace.encoders.registry import register_encoder
from embedspace.encoders.towers.base import Tower, require_same
from embedspace.encoders.towers.registry import create_tower
from embedspace.encoders.trained import apply_tuned
from embedspace.errors import ConfigError
from embedspace.media.pixels import cropped
from embedspace.modality import Modality

__all__ = ["TowerEncoder", "TowerSection", "Towers"]

_BATCH = 32
_WINDOW_SECONDS = 10.0
"""Of sound, for a tower that takes any length."""


@dataclass(frozen=True, slots=True)
class TowerSection:
    """A section of the type "tower".

    Attributes:
        tower: Name of a tower in the space's configuration.
        projection: File of a projection in the space's folder; none: the tower's rows at unit length.
        tuned: File of the tensors of the tower that training changed, if it did.
        connector: A connector's files without their suffix, such as "connectors/clap"; none: the rows are in the space.
        correction: File of what pairs taught beyond the connector (`embedspace train align` with `start`), if they did.
        window_seconds: Length of a sound segment, at most what the tower takes; by default that.
    """

    tower: str
    projection: str = ""
    tuned: str = ""
    connector: str = ""
    correction: str = ""
    window_seconds: float | None = None


class Towers:
    """The towers of one space by name, each made when it is first asked for and compared with what was stored of it."""

    def __init__(
        self,
        references: Mapping[str, Mapping[str, Any]],
        folder: Path,
        made: dict[str, Tower] | None = None,
        *,
        download: bool = False,
    ) -> None:
        """Take what the configuration stores.

        Args:
            references: Name -> `Tower.reference()`, and in it "options", as the tower was made with, and "folder",
                where relative paths begin if not in the space's.
            folder: Folder of the space: where relative paths begin.
            made: Towers that are there already; those that are made are added.
            download: Whether libraries may fetch what is not on this machine.
        """
        self._references, self._folder, self._download = references, folder, download
        self._made = {} if made is None else made

    def __call__(self, name: str, tuned: str = "") -> Tower:
        """Return a tower.

        Args:
            name: In the configuration.
            tuned: File in the space's folder with the tensors that training changed; the modalities that name the same
                share one tower.

        Raises:
            ConfigError: If the configuration has no such tower, or it names an unknown one.
            WeightsError: If its weights are missing, or not those that the space was made with.
        """
        key = f"{name} {tuned}".rstrip()
        if key in self._made:
            return self._made[key]
        if name not in self._references:
            where = self._folder / "config.json"
            raise ConfigError(f"{where}: no tower {name!r}; it has: {', '.join(self._references) or 'none'}")
        stored = self._references[name]
        if str(stored.get("name", "")).startswith(LIVE):
            raise ConfigError(
                f"{self._folder / 'config.json'}: tower {name!r} was a module in memory, {stored['name']}; no file has "
                "it: give it to EmbeddingSpace.from_towers once more"
            )
        options = stored.get("options", {})
        folder = Path(stored["folder"]) if stored.get("folder") else self._folder
        tower = create_tower(stored["name"], download=self._download, folder=folder, options=options)
        require_same(tower, stored)
        if tuned:
            apply_tuned(tower, self._folder / tuned)
        self._made[key] = tower
        return tower

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Within this context encoders of the type "tower" take their towers from here."""
        token = _IN_USE.set(self)
        try:
            yield
        finally:
            _IN_USE.reset(token)


_IN_USE: ContextVar[Towers | None] = ContextVar("_IN_USE", default=None)
LIVE = "live:"
"""How the names of towers begin that are modules in memory, not references."""


class TowerEncoder(Encoder):
    """A tower, and what brings its rows of one modality into the space."""

    def __init__(
        self, tower: Tower, modality: str, carrier: Carrier | None = None, *, window_seconds: float | None = None
    ) -> None:
        """Put the parts together.

        Args:
            tower: Takes the modality.
            modality: Whose media.
            carrier: What brings the tower's rows into the space; none: they are in it.
            window_seconds: Length of a sound segment; None: what the tower takes.

        Raises:
            ConfigError: If the window is longer than the tower takes.
            UnknownModalityError: If the tower does not take the modality.
        """
        super().__init__()
        tower.require(modality)
        self.modality, self.tower = modality, tower
        self.carrier = carrier or Carrier(tower.feature_dim(modality), modality)
        self.embed_dim = self.carrier.embed_dim
        self.sample_rate = tower.sample_rate or self.sample_rate
        longest = tower.window_seconds
        if longest is not None and window_seconds is not None and window_seconds > longest:
            raise ConfigError(
                f"tower {tower.name!r}: window_seconds {window_seconds:g}, it takes at most {longest:g} s at once"
            )
        self.window_seconds = window_seconds or longest or _WINDOW_SECONDS
        self.min_side = tower.image_size
        if callable(getattr(tower, "encode_and_transcribe", None)) and modality == Modality.SPEECH:
            self.encode_and_transcribe = self._encode_and_transcribe
        if callable(getattr(tower, "speech_probability", None)) and modality == Modality.SPEECH:
            self.speech_probability = self._speech_probability
        if callable(getattr(tower, "encode_and_route", None)) and modality == Modality.AUDIO:
            self.encode_and_route = self._encode_and_route

    def fits(self, text: str) -> bool:
        """Return whether the tower keeps all tokens of a text."""
        return self.tower.max_tokens is None or self.tower.count_tokens(text) <= self.tower.max_tokens

    def unknown(self, text: str) -> list[str]:
        """Return the parts of a text that the tower's vocabulary lacks; none where it cannot say."""
        lacking = getattr(self.tower, "unknown", None)
        return list(lacking(text)) if callable(lacking) else []

    def prepare(self, media: Any) -> Any:  # noqa: ANN401
        """Run the tower's own preprocessing; a picture's transparency becomes white first."""
        return self.tower.prepare(self.modality, cropped(media) if self.modality == Modality.IMAGE else media)

    def encode(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows of what is to be found."""
        return self._encode(prepared, "document")

    def encode_query(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows of what is searched with, where the tower knows a prompt for that."""
        return self._encode(prepared, "query")

    @torch.inference_mode()
    def _encode(self, prepared: Sequence[Any], role: str) -> NDArray[np.float32]:
        parts = [
            self._finished(self.tower.encode(self.modality, prepared[start : start + _BATCH], role=role))
            for start in range(0, len(prepared), _BATCH)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self.embed_dim), np.float32)

    def _finished(self, rows: torch.Tensor) -> NDArray[np.float32]:
        """Bring (N, feature_dim) rows of the tower into the space."""
        return to_rows(self.carrier(rows))

    @torch.inference_mode()
    def _encode_and_transcribe(self, prepared: Sequence[Any]) -> tuple[NDArray[np.float32], list[str]]:
        rows, said = self.tower.encode_and_transcribe(self.modality, prepared)  # type: ignore[operator]
        return self._finished(rows), list(said)

    @torch.inference_mode()
    def _speech_probability(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        return np.asarray(self.tower.speech_probability(self.modality, prepared), np.float32)  # type: ignore[operator]

    @torch.inference_mode()
    def _encode_and_route(self, prepared: Sequence[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        rows, speaks = self.tower.encode_and_route(self.modality, prepared)  # type: ignore[operator]
        return self._finished(rows), np.asarray(speaks, np.float32)


@register_encoder("tower")
def _create(config: dict[str, Any], folder: Path, modality: str) -> TowerEncoder:
    path = folder / "config.json"
    section = build(TowerSection, config, f"{path}: section {modality!r}")
    towers = _IN_USE.get() or Towers(json.loads(path.read_text("utf-8")).get("towers", {}), folder)
    tower = towers(section.tower, section.tuned)
    carrier = load_carrier(
        folder,
        tower.feature_dim(modality),
        modality,
        projection=section.projection,
        connector=section.connector,
        correction=section.correction,
        whose=f"tower {tower.name!r}",
    )
    return TowerEncoder(tower, modality, carrier, window_seconds=section.window_seconds)
