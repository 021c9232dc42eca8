"""The program that draws the map of a catalog: items on a plane, near each other where their vectors are.

It writes one JSON line and ends.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration.centring import centre
from embedspace.catalog import Catalog
from embedspace.catalog.places import name_of

__all__ = ["LANDMARKS", "draw", "main", "plane"]

LANDMARKS = 3000
_LABEL = 60
_FEW = 5


def plane(vectors: NDArray[np.float32], method: str = "t-SNE") -> NDArray[np.float64]:
    """Lay rows out on a plane.

    Args:
        vectors: (N, embed_dim) rows.
        method: "t-SNE", or "PCA".

    Returns:
        (N, 2) within [-1, 1].

    Source: van der Maaten and Hinton 2008, "Visualizing data using t-SNE"; Barnes-Hut by scikit-learn.
    """
    rows = vectors.astype(np.float64)
    centred = rows - rows.mean(axis=0, keepdims=True) if len(rows) else rows
    if len(rows) < _FEW or method == "PCA":
        _, _, axes = np.linalg.svd(centred, full_matrices=False)
        points = centred @ axes[:2].T
        points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    else:
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(rows) - 1) / 3)
        points = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(centred)
    span = float(np.abs(points).max(initial=0.0))
    laid_out: NDArray[np.float64] = points / span if span > 0 else points
    return laid_out


def centred_rows(
    vectors: NDArray[np.float32], modalities: Sequence[str], means: dict[str, NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Take the means of modalities out, or each would be an island of its own."""
    return centre(vectors, modalities, means)


def draw(path: Path) -> dict[str, Any]:
    """Return the map of a catalog, as `/api/map` answers it."""
    with Catalog.open(path, read_only=True) as catalog:
        revision, of = catalog.revision, len(catalog)
        about, vectors = catalog.landmarks(LANDMARKS)
        means = catalog.calibration.means
    modalities = [modality for _, modality, _, _ in about]
    points = plane(centred_rows(vectors, modalities, dict(means)) if len(vectors) else vectors)
    return {
        "state": "ready",
        "method": "t-SNE" if len(vectors) >= _FEW else "PCA",
        "revision": revision,
        "of": of,
        "points": [
            {
                "id": content_id,
                "x": round(float(x), 4),
                "y": round(float(y), 4),
                "modality": modality,
                "label": (text if modality == "text" and text else name_of(uri))[:_LABEL],
            }
            for (content_id, modality, text, uri), (x, y) in zip(about, points, strict=True)
        ],
    }


def main() -> None:
    """Draw the map of the catalog that the command line names."""
    os.nice(10)
    out = sys.stdout
    sys.stdout = sys.stderr
    json.dump(draw(Path(sys.argv[1])), out)


if __name__ == "__main__":
    main()
