"""Choose how far a picture is drawn towards its names before documents are searched.

    python -m eval.document_settings        # minutes: pictures of dishes and the titles and texts of all recipes

The pictures are dishes as vendors drew them whose emoji training saw; no picture of the held-out vendor and no stamp is
among them. For each temperature and share the table says how often a recipe whose title holds the dish's name is found,
by its title or its text and by the picture or what is drawn of it, whichever is better.
`embedspace/generate/api.py` holds the choice.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedspace.evaluate.encode import SuiteEncoder
from embedspace.evaluate.items import EvalItem, field_of, read_rows
from embedspace.evaluate.report import CACHE
from embedspace.evaluate.retrieval.direction import evaluate_pair
from embedspace.evaluate.retrieval.documents import document_search
from embedspace.evaluate.retrieval.run import corpora_folder
from embedspace.generate.api import heads_folder
from embedspace.generate.captions.vocabulary import load_memory
from embedspace.generate.conditioning import centre
from embedspace.space import EmbeddingSpace

VENDORS = ("emoji-google", "openmoji", "emoji-fluent")
TEMPERATURES = (0.01, 0.02, 0.05)
SHARES = (0.3, 0.5, 0.7, 1.0)


def answers(corpora: Path) -> dict[str, set[str]]:
    """Return picture id -> ids of the recipes that it may stand for."""
    found: dict[str, set[str]] = defaultdict(set)
    for entry in json.loads((corpora / "recipes/dishes.json").read_text("utf-8")):
        for picture in entry["pictures"]:
            found[picture].update(entry["recipes"])
    return found


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
    known, memory = answers(corpora), load_memory(heads_folder(space))
    for vendor in VENDORS:
        rows = [row for row in read_rows(corpora, vendor) if known.get(str(row["id"]))]
        pictures = encoder.encode([EvalItem(str(row["id"]), row["path"], "", row) for row in rows], "image")
        centred = centre(pictures, "image", space.calibration.means)
        positives = [[n for n, one in enumerate(recipes) if one["id"] in known[str(row["id"])]] for row in rows]
        _report(f"{vendor}: as they are", pictures, gallery, positives)
        for temperature, share in itertools.product(TEMPERATURES, SHARES):
            drawn = (1 - share) * centred + share * memory.project(centred, temperature)
            drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
            both = document_search(pictures, drawn.astype(np.float32), gallery)
            _report(f"{vendor}: temperature {temperature}, share {share}", *both, positives)


def _report(name: str, queries: NDArray[np.float32], gallery: NDArray[np.float32], positives: list[list[int]]) -> None:
    metrics = evaluate_pair(queries, gallery, positives, resamples=0).metrics
    recalls = "  ".join(f"R@{k} {100 * metrics[f'recall_at_{k}'].value:5.1f}" for k in (1, 5, 10))
    print(f"{name:45} {recalls}", flush=True)


if __name__ == "__main__":
    main()
