"""Go on from a space: its towers and connectors as they are, and beside each a correction that pairs teach."""

from __future__ import annotations

import copy
import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedspace.calibration.model import Calibration
from embedspace.encoders.carrier import Carrier, load_carrier
from embedspace.encoders.tower import TowerEncoder, Towers
from embedspace.encoders.towers.base import Tower
from embedspace.encoders.trained import Correction, CorrectionConfig
from embedspace.errors import ConfigError
from embedspace.space.config import checksums, compare_files, fingerprint, read_config
from embedspace.train.align.recipe import AlignRecipe, ProjectionRecipe, TowerRecipe

__all__ = ["StartSpace", "read_start"]

_PARTS = ("projection", "connector", "correction")


@dataclass(frozen=True)
class StartSpace:
    """The space that a run goes on from.

    Attributes:
        folder: Where it lies.
        config: Its configuration.
        recipe: The run's recipe, with the space's towers in it.
    """

    folder: Path
    config: dict[str, Any]
    recipe: AlignRecipe

    @property
    def sections(self) -> dict[str, dict[str, Any]]:
        """Modality -> its section in the space's configuration."""
        return copy.deepcopy(dict(self.config["sections"]))

    @property
    def embed_dim(self) -> int:
        """Width of the space."""
        return int(self.config["embed_dim"])

    def towers(self, download: bool) -> dict[str, Tower]:
        """Return name -> tower, as the space has it."""
        made = Towers(self.config["towers"], self.folder, download=download)
        return {name: made(name) for name in self.recipe.towers}

    def references(self) -> dict[str, dict[str, Any]]:
        """Return name -> what makes the tower again from anywhere."""
        return {
            name: {**stored, "folder": str(Path(stored.get("folder") or self.folder).resolve())}
            for name, stored in self.config["towers"].items()
        }

    def digests(self) -> dict[str, str]:
        """Return what a checkpoint of this run depends on besides the towers: the fingerprints of the space."""
        return {f"start {name}": fingerprint(self.config, name, self.folder) for name in self.sections}

    def encoder(self, modality: str, tower: Tower) -> TowerEncoder:
        """Return what cuts a modality's media as the space does, for its tower."""
        return TowerEncoder(tower, modality, window_seconds=self.sections[modality].get("window_seconds"))

    def carrier(self, modality: str, tower: Tower, wanted: ProjectionRecipe, rows: NDArray[Any]) -> Carrier:
        """Return a modality's way into the space, as it is, and a correction that is zero, or the space's own.

        Args:
            modality: One of the space's.
            tower: The one that serves it.
            wanted: "none": no correction, unless the space has one, which then stays as it is.
            rows: (N, feature_dim) of the tower, which the correction is standardised by.

        Raises:
            WeightsError: If files of the space are missing, or others than its configuration says.
        """
        compare_files(self.config, modality, self.folder)
        section, width = self.sections[modality], tower.feature_dim(modality)
        named = {part: str(section.get(part, "")) for part in _PARTS}
        carrier = load_carrier(self.folder, width, modality, **named, whose=f"tower {tower.name!r}")
        if wanted.kind == "none":
            return carrier
        if carrier.correction is None:
            hidden = wanted.hidden_dim if wanted.kind == "mlp" else 0
            sizes = CorrectionConfig(width, self.embed_dim, hidden, wanted.dropout)
            carrier.correction = Correction(sizes)
            carrier.correction.standardise(torch.from_numpy(np.asarray(rows, np.float32)))
        carrier.correction.requires_grad_(True)
        return carrier

    def copy_files(self, target: Path) -> None:
        """Copy what the space's modalities are made of, except the towers.

        Raises:
            ConfigError: If the target is the space itself.
        """
        if target.resolve() == self.folder.resolve():
            raise ConfigError(f"start: {self.folder} is where this run writes; give another out (--out)")
        named = {name for modality in self.sections for name in checksums(self.config, modality, self.folder)}
        named |= {name for name in ("composed.json",) if (self.folder / name).is_file()}
        for name in sorted(named):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.folder / name, target / name)

    def calibration(self, made: Calibration | None, trained: Sequence[str]) -> Calibration | None:
        """Return what validation pairs gave, and beside it what the space knows of modalities that stayed as they are.

        Args:
            made: Of this run's validation pairs.
            trained: Modalities whose vectors changed.
        """
        stored = self.folder / "calibration.json"
        known = Calibration.from_json(stored.read_text("utf-8")) if stored.is_file() else Calibration()
        means = {name: mean for name, mean in known.means.items() if name not in trained}
        pairs = {pair: one for pair, one in known.pairs.items() if not set(pair.split(">")) & set(trained)}
        if made is not None:
            means, pairs = {**means, **made.means}, {**pairs, **made.pairs}
        return dataclasses.replace(known, means=means, pairs=pairs) if pairs else None


def read_start(recipe: AlignRecipe) -> StartSpace | None:
    """Open what a recipe starts from; None where it starts from nothing.

    Raises:
        WeightsError: If no space lies there.
        ConfigError: If it is not made of towers, one of them was tuned, or the recipe says what the space says.
    """
    if not recipe.start:
        return None
    folder = recipe.folder / recipe.start
    config = read_config(folder)
    for modality, section in config["sections"].items():
        kind = section.get("type", f"shipped.{modality}")
        if kind == "pooled":
            continue
        if kind != "tower":
            raise ConfigError(
                f"start: {folder}: its {modality} is of the type {kind!r}; training goes on from spaces of towers, "
                "as `embedspace space build` writes them"
            )
        if section.get("tuned"):
            raise ConfigError(
                f"start: {folder}: its {modality} tower was tuned; go on from a space whose towers are as published"
            )
    if recipe.embed_dim not in (0, config["embed_dim"]):
        raise ConfigError(
            f"embed_dim {recipe.embed_dim}: the space at {folder} has {config['embed_dim']}; leave it out"
        )
    return StartSpace(folder, config, dataclasses.replace(recipe, towers=_towers(recipe, folder, config)))


def _towers(recipe: AlignRecipe, folder: Path, config: dict[str, Any]) -> dict[str, TowerRecipe]:
    """Return the recipe's tables of towers, completed by what the space says of them."""
    served: dict[str, list[str]] = {}
    for modality, section in config["sections"].items():
        if "tower" not in section:  # pooled of another
            continue
        served.setdefault(section["tower"], []).append(modality)
    for name, wanted in recipe.towers.items():
        if name not in served:
            raise ConfigError(f"towers.{name}: the space at {folder} has no such tower; it has: {', '.join(served)}")
        if wanted.model or wanted.modalities or wanted.options:
            raise ConfigError(
                f"towers.{name}: the space at {folder} says its model, modalities and options; leave them away"
            )
    return {
        name: dataclasses.replace(
            recipe.towers.get(name, TowerRecipe()),
            model=config["towers"][name]["name"],
            modalities=tuple(modalities),
        )
        for name, modalities in served.items()
    }
