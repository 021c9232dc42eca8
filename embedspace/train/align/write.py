"""The space that training made: projections and tuned tensors, a configuration, what validation pairs calibrate."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedspace.calibration.model import Calibration
from embedspace.encoders.carrier import Carrier
from embedspace.encoders.film.pooled import POOLED_SECTION
from embedspace.encoders.trained import Correction, Projection, save_projection, save_tuned
from embedspace.files import write_text
from embedspace.modality import Modality
from embedspace.space import write_config
from embedspace.train.align.recipe import options_of
from embedspace.train.align.tuning import changed_tensors
from embedspace.train.calibrate import Anchored, calibrate

if TYPE_CHECKING:
    from embedspace.train.align.prepare import Run

__all__ = ["calibration_of", "write_space"]


def write_space(run: Run, folder: Path) -> None:
    """Write the space's folder.

    Args:
        run: A run that is done.
        folder: Where it goes; files of an earlier run are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tuned = {name: f"{name}.tuned.safetensors" for name in set(run.of.values()) if run.recipe.towers[name].tuned}
    for name, file in tuned.items():
        save_tuned(run.towers[name], changed_tensors(run.towers[name], run.recipe.towers[name]), folder / file)
    sections: dict[str, Any] = {}
    references = _references(run)
    if run.start is not None:
        run.start.copy_files(folder)
        sections, references = run.start.sections, run.start.references()
    for modality, name in run.of.items():
        section = sections.setdefault(modality, {"type": "tower", "tower": name})
        kind, trained = _trained_part(run, modality)
        if trained is not None:
            section[kind] = f"{modality}.{kind}.safetensors"
            save_projection(trained, folder / section[kind])
        if name in tuned:
            section["tuned"] = tuned[name]
    if Modality.IMAGE in sections and run.start is None:
        sections.setdefault(Modality.VIDEO.value, dict(POOLED_SECTION))
    write_config(folder, sections, run.embed_dim, references)
    write_text(folder / "recipe.json", json.dumps(dataclasses.asdict(run.recipe), indent=1, default=str) + "\n")
    calibration = calibration_of(run)
    if calibration is None:
        (folder / "calibration.json").unlink(missing_ok=True)
    else:
        write_text(folder / "calibration.json", calibration.to_json() + "\n")


def _trained_part(run: Run, modality: str) -> tuple[str, Projection | Correction | None]:
    """Return the kind of what was trained for a modality besides its tower, and the module; None if nothing was."""
    if modality not in run.model.projections:
        return "projection", None
    part = run.model.projections[modality]
    if isinstance(part, Carrier):
        return "correction", part.correction
    assert isinstance(part, Projection)
    return "projection", part


def _references(run: Run) -> dict[str, Any]:
    """Return name -> what makes the tower again, from wherever the space is opened."""
    folder = str(run.recipe.folder.resolve())
    return {
        name: {**run.towers[name].reference(), "options": options_of(run.recipe.towers[name]), "folder": folder}
        for name in sorted(set(run.of.values()))
    }


def calibration_of(run: Run) -> Calibration | None:
    """Return what hits are worth by the validation pairs; None where there are too few, so that nothing is invented."""
    names: dict[int, str] = {}
    anchored: dict[str, Anchored] = {}
    for items in run.validation:
        firsts = [int(known[0]) for known in items.captions]
        names |= {k: run.texts.captions[k].casefold() for k in firsts}
        concepts = np.array([names[k] for k in firsts], dtype=str)
        anchored[items.modality] = Anchored(run.encode(items).numpy(), concepts)
    if not names:
        return run.start.calibration(None, [m for m in run.of if _changed(run, m)]) if run.start else None
    said = np.array(sorted(names), np.int64)
    texts = Anchored(run.encode_texts(said).numpy(), np.array([names[k] for k in said.tolist()], dtype=str))
    anchored.setdefault("text", texts)
    made = calibrate(anchored, run.recipe.seed)
    if run.start is not None:
        return run.start.calibration(made, [modality for modality in run.of if _changed(run, modality)])
    return made if made.pairs else None


def _changed(run: Run, modality: str) -> bool:
    """Whether training changed a modality's vectors."""
    if run.recipe.towers[run.of[modality]].tuned:
        return True
    part = _trained_part(run, modality)[1]
    return part is not None and any(p.requires_grad for p in part.parameters())
