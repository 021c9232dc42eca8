"""Which pictures a generator learns from."""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from embedspace.train.generators.image import read_pictures, repeated
from embedspace.train.generators.recipe import ImageGeneratorRecipe
from embedspace.train.loop import FitProgress


def _drawn(*shapes: tuple[int, int, int, int], ground: str = "white") -> np.ndarray:
    picture = Image.new("RGB", (48, 48), ground)
    for shape in shapes:
        ImageDraw.Draw(picture).ellipse(shape, fill="navy")
    return np.asarray(picture)


def test_a_picture_that_hardly_differs_from_an_earlier_one_is_a_twin() -> None:
    ring, other, both = _drawn((4, 4, 40, 40)), _drawn((20, 20, 30, 44)), _drawn((4, 4, 20, 20), (30, 8, 40, 40))
    nearly = ring.copy()
    nearly[20, 20] += 6  # one pixel, a little
    assert repeated(np.stack([ring, other, ring, both, nearly, other])) == [2, 4, 5]
    moved = np.roll(ring, 2, axis=1)
    assert repeated(np.stack([ring, moved, other, both])) == []
    assert repeated(ring[None]) == []


def test_twins_and_broken_pictures_are_not_learnt_from(tmp_path: Path) -> None:
    pictures = {"a": (4, 4, 40, 40), "b": (0, 20, 30, 44), "twin": (4, 4, 40, 40), "broken": (20, 2, 30, 44)}
    pictures["gone"] = pictures["broken"]
    rows: list[dict[str, Any]] = []
    (tmp_path / "drawn").mkdir()
    for name, shape in pictures.items():
        Image.fromarray(_drawn(shape, ground="yellow" if name == "a" else "white")).save(tmp_path / f"drawn/{name}.png")
        row = {"id": f"drawn/{name}", "modality": "image", "path": f"drawn/{name}.png", "captions": [name]}
        rows.append({**row, "extra": {"weight": 3.0 if name == "b" else 1.0}})
    rows[2]["path"] = rows[0]["path"]
    told: list[FitProgress] = []
    run: Any = types.SimpleNamespace(
        rows=json.loads(json.dumps(rows)),
        vectors={name: np.ones(4, np.float32) for name in pictures},
        space=types.SimpleNamespace(embed_dim=4),
        tell=told.append,
        recipe=types.SimpleNamespace(
            name="tiny",
            corpora=str(tmp_path),
            features=str(tmp_path / "features"),
            image=ImageGeneratorRecipe(sources={"drawn": 2.0}, leave_out=("drawn/broken", "drawn/gone"), size=32),
        ),
    )
    found = read_pictures(run, "train")
    assert found.items == ["drawn/a", "drawn/b"]
    assert found.captions == ["a", "b"]
    assert found.weights.tolist() == [1.0, 3.0]  # of a source: its weight, shared by those that are left
    assert told[-1].scalars == {"twins left out": 1.0}
