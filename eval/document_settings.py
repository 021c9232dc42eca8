"""Choose how many names a picture is read as, and how likely each is, before documents are searched.

    python -m eval.document_settings        # 15 minutes: pictures of dishes and the titles and texts of all recipes

The pictures are dishes as vendors drew them whose emoji training saw, as they are and altered (turned, mirrored, other
colours, blurred), so that their names are as often wrong as those of drawings never seen; and validation pictures of
food. No picture of the held-out vendor and no stamp is among them. For each number of names and temperature the table
says how often a recipe whose title holds the dish's name is found, by its title or its text and by the picture or one
of its readings, whichever makes a match likelier. `embedspace/vocabulary.py` holds the choice.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from embedspace.calibration.centring import centre
from embedspace.evaluate.encode import SuiteEncoder
from embedspace.evaluate.items import EvalItem, Row, field_of, read_rows
from embedspace.evaluate.report import CACHE
from embedspace.evaluate.retrieval.direction import evaluate_pair
from embedspace.evaluate.retrieval.documents import document_search
from embedspace.evaluate.retrieval.run import corpora_folder
from embedspace.media.image import load_image
from embedspace.space import EmbeddingSpace
from embedspace.vocabulary import load_vocabulary
from training.corpora.text.recipes import matches

VENDORS = ("emoji-google", "openmoji")
NUMBERS = (10, 20)
TEMPERATURES = (0.02, 0.03, 0.04, 0.05)
NO_DISHES = frozenset("a air boy desert envelope horse mug paste pig rainbow star tiger".split())
"""Concepts of validation pictures that occur in titles of recipes and are no food there."""


def altered(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a picture turned, mirrored, squeezed, recoloured and blurred at random."""
    rgba = image.convert("RGBA")
    hue, saturation, value = rgba.convert("RGB").convert("HSV").split()
    shift, fade = int(rng.integers(-18, 19)), rng.uniform(0.5, 1.0)
    bands = (hue.point(lambda x: (x + shift) % 256), saturation.point(lambda x: int(x * fade)), value)
    changed = ImageEnhance.Brightness(Image.merge("HSV", bands).convert("RGB")).enhance(rng.uniform(0.75, 1.2))
    changed.putalpha(rgba.getchannel("A"))
    if rng.random() < 0.5:
        changed = ImageOps.mirror(changed)
    width, height = (int(side * rng.uniform(0.75, 1.0)) for side in changed.size)
    canvas = Image.new("RGBA", (width * 3 // 2, height * 3 // 2), (0, 0, 0, 0))
    canvas.paste(changed.resize((width, height)), (width // 4, height // 4))
    turned = canvas.rotate(rng.uniform(-40, 40), resample=Image.Resampling.BICUBIC)
    return turned.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.012) * max(turned.size)))


def answers(corpora: Path) -> dict[str, set[str]]:
    """Return picture id -> ids of the recipes that it may stand for."""
    found: dict[str, set[str]] = defaultdict(set)
    for entry in json.loads((corpora / "recipes/dishes.json").read_text("utf-8")):
        for picture in entry["pictures"]:
            found[picture].update(entry["recipes"])
    return found


def validation(corpora: Path, titles: dict[str, str]) -> tuple[list[Row], dict[str, set[str]]]:
    """Return validation pictures whose concept is the name of a dish, and the recipes that each may stand for."""
    sources = sorted(path.parent.name for path in corpora.glob("*/manifest.jsonl"))
    rows = [
        row
        for name in sources
        for row in read_rows(corpora, name)
        if row.get("modality") == "image" and row.get("split") == "val" and row["concept"] not in NO_DISHES
    ]
    called = {str(row["concept"]): set(matches(str(row["concept"]), titles)) for row in rows}
    found = {str(row["id"]): called[str(row["concept"])] for row in rows}
    return [row for row in rows if found[str(row["id"])]], found


def main() -> None:
    """Print the table."""
    corpora, space = corpora_folder(), EmbeddingSpace.from_pretrained()
    encoder = SuiteEncoder(space, corpora, CACHE)
    recipes = read_rows(corpora, "recipes")
    fields = [
        encoder.encode([EvalItem(str(row["id"]), str(field_of(row, name)), "", row) for row in recipes], "text")
        for name in ("extra.title", "text")
    ]
    gallery = np.stack(fields, axis=1)  # (N, fields, embed_dim)
    known, rng = answers(corpora), np.random.default_rng(0)
    sets = {name: [row for row in read_rows(corpora, name) if known.get(str(row["id"]))] for name in VENDORS}
    sets["validation"], more = validation(corpora, {str(row["id"]): str(row["extra"]["title"]) for row in recipes})
    known.update(more)
    for name, rows in sets.items():
        pictures = encoder.encode([EvalItem(str(row["id"]), row["path"], "", row) for row in rows], "image")
        positives = [[n for n, one in enumerate(recipes) if one["id"] in known[str(row["id"])]] for row in rows]
        _table(name, space, pictures, gallery, positives)
        if name in VENDORS:
            changed = space.encode_image([altered(load_image(corpora / row["path"]), rng) for row in rows])
            _table(f"{name}, altered", space, changed, gallery, positives)


def _table(
    name: str,
    space: EmbeddingSpace,
    pictures: NDArray[np.float32],
    gallery: NDArray[np.float32],
    positives: list[list[int]],
) -> None:
    memory, centred = load_vocabulary(space.generators.folder), centre(pictures, "image", space.calibration.means)
    _report(f"{name}: as they are", pictures, gallery, positives)
    for number, temperature in itertools.product(NUMBERS, TEMPERATURES):
        readings = memory.readings(centred, number, temperature)
        both = document_search(pictures, readings, gallery, space.calibration, "image")
        _report(f"{name}: {number} names, temperature {temperature}", *both, positives)


def _report(name: str, queries: NDArray[np.float32], gallery: NDArray[np.float32], positives: list[list[int]]) -> None:
    metrics = evaluate_pair(queries, gallery, positives, resamples=0).metrics
    recalls = "  ".join(f"R@{k} {100 * metrics[f'recall_at_{k}'].value:5.1f}" for k in (1, 5, 10))
    print(f"{name:45} {recalls}", flush=True)


if __name__ == "__main__":
    main()
