"""The heart of a space: its configuration, its encoders, and what the catalog needs of them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedspace.calibration.model import Calibration
from embedspace.errors import UnknownModalityError, WeightsError
from embedspace.modality import Modality, is_modality, kinds, modality_spec
from embedspace.segment import Decoded, Segment
from embedspace.space.config import compare_files, fingerprint
from embedspace.space.devices import processor_known, require_device

if TYPE_CHECKING:
    from embedspace.encoders.contract import Encoders
    from embedspace.encoders.half import HalfPrecision
    from embedspace.encoders.tower import Towers
    from embedspace.encoders.towers.base import Tower

__all__ = ["SpaceCore"]


class SpaceCore:
    """Encoders by modality, each made when it is first used; a `SegmentEncoder` for the catalog.

    Attributes:
        folder: Where its weights lie.
        config: What config.json holds.
        calibration: Means and probabilities; empty where there were no validation pairs.
        embed_dim: Width of its rows.
        modalities: What it encodes.
        half: What decides on half precision; None where all is computed in full.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], calibration: Calibration, device: str = "cpu") -> None:
        """Take a folder of weights and its parsed config; use `EmbeddingSpace.from_pretrained`."""
        require_device(device)
        self.folder = folder
        self.config = config
        self.calibration = calibration
        self.embed_dim = int(config["embed_dim"])
        members = {member.value: member for member in Modality}
        self.modalities: tuple[str, ...] = tuple(members.get(name, name) for name in config["sections"])
        self._device = device
        self._encoders: dict[str, Any] = {}
        self._backbones: dict[str, Any] = {}  # frozen networks that several encoders use, by name
        self._towers: dict[str, Any] = {}  # those of a composed space, by their names in the configuration
        self._download = False
        self.half: HalfPrecision | None = None
        self._kept: object = None  # holds a temporary folder for as long as the space lives
        self._lock = threading.RLock()

    @property
    def device(self) -> str:
        """Where its networks run."""
        return self._device

    @property
    def may_download(self) -> bool:
        """Whether libraries may fetch what is not on this machine."""
        return self._download

    @property
    def is_composed(self) -> bool:
        """Whether its towers are others than the package's own encoders."""
        return bool(self.config.get("towers"))

    def supports(self, modality: Modality | str) -> bool:
        """Return whether this space encodes a modality."""
        return str(modality) in self.modalities

    def fingerprints(self) -> Mapping[str, str]:
        """Return modality -> hex digest of its weights, configuration and preprocessing."""
        return {name: fingerprint(self.config, name, self.folder) for name in self.modalities}

    def calibration_json(self) -> str:
        """Return the calibration as JSON, for a catalog to keep."""
        return self.calibration.to_json()

    def encoder(self, modality: Modality | str) -> Any:  # noqa: ANN401 - typing it would import torch
        """Return the encoder of a modality, loading its weights the first time.

        Encoders of one space hold the same frozen networks, all on the space's device: do not move one alone.

        Raises:
            UnknownModalityError: If this space has no such encoder.
            WeightsError: If its weights are missing, damaged, or not those that the configuration names.
            ConfigError: If torch cannot compute on this machine.
        """
        wanted = str(modality)
        if wanted not in self.modalities:
            known = ", ".join(self.modalities)
            if not is_modality(wanted):
                raise UnknownModalityError(f"unknown modality {wanted!r}; known: {known}")
            raise UnknownModalityError(f"this space has no {wanted} encoder; it has: {known}")
        with self._lock:
            if wanted not in self._encoders:
                from embedspace.encoders.backbones import shared_backbones
                from embedspace.encoders.registry import create_encoder

                with shared_backbones(self._backbones), self._in_use(), processor_known():
                    made = create_encoder(self.config["sections"][wanted], self.folder, wanted)
                made.join(self._all_encoders())
                if made.embed_dim != self.embed_dim:
                    raise WeightsError(
                        f"{self.folder / 'config.json'}: its {wanted} encoder makes rows {made.embed_dim} wide, the "
                        f"space has {self.embed_dim}; restore the folder as it was written"
                    )
                compare_files(self.config, wanted, self.folder)
                self._encoders[wanted] = made.on_device(self._device)
            return self._encoders[wanted]

    def tower(self, name: str) -> Tower:
        """Return a tower of a composed space by its name in the configuration, loading it the first time.

        Raises:
            ConfigError: If there is none of this name.
            WeightsError: If its weights are missing, or others than the space was made with.
        """
        with self._lock:
            return self._tower_set()(name)

    def _tower_set(self) -> Towers:
        from embedspace.encoders.tower import Towers

        return Towers(self.config.get("towers", {}), self.folder, self._towers, download=self._download)

    def _in_use(self) -> Any:  # noqa: ANN401 - a context manager
        return self._tower_set().in_use() if self.config.get("towers") else nullcontext()

    def _all_encoders(self) -> Encoders:
        from embedspace.encoders.contract import Encoders

        return Encoders(self.modalities, self.encoder, self.half)

    def decode(self, source: Any, kind: str, *, as_modality: str | None = None) -> Decoded:  # noqa: ANN401
        """Decode one item and prepare its segments; no network runs, so threads may share this.

        Args:
            source: A path; for text also a `str`, or a mapping field -> text; for an image also a PIL image or array.
            kind: "image", "audio", "text", "video" or another, as `modality_of` gives it.
            as_modality: Take a recording or video as this modality only; None lets its content decide.

        Raises:
            MediaError: If it cannot be decoded.
            UnknownModalityError: If there is no such kind.
        """
        from embedspace.encoders.contract import content_bytes
        from embedspace.encoders.decode import cuts_of

        spec = modality_spec(kind) if kind in kinds() else None
        decoder = None if spec is None else spec.decode()
        if spec is None or decoder is None:
            raise UnknownModalityError(f"{source}: unknown kind {kind!r}; known: {', '.join(kinds())}")
        decoded: Decoded = decoder(source, self._all_encoders(), as_modality)
        decoded.nbytes = sum(content_bytes(piece.content) for piece in decoded.inputs)
        decoded.cuts = cuts_of(decoded.inputs)
        return decoded

    def encode_decoded(self, items: list[Decoded]) -> list[list[Segment]]:
        """Encode decoded items; result i holds the segments of items[i], whatever the other items are."""
        from embedspace.encoders.batch import encode_items

        return encode_items(items, self._all_encoders())
