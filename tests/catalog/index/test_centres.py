"""Centres of cells: about as good as those of k-means in all dimensions, whatever the vectors are like."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from embedspace.catalog.index.ann import centres
from embedspace.catalog.index.ann.centres import learned_centres

CELLS = 24


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clustered(count: int, embed_dim: int, directions: int, seed: int = 0) -> NDArray[np.float32]:
    """Return rows around `CELLS` points of a plane of some directions, which does not go through zero."""
    rng = np.random.default_rng(seed)
    plane = np.linalg.qr(rng.normal(size=(embed_dim, directions + 1)))[0].T
    points = np.hstack([rng.normal(size=(CELLS, directions)), np.full((CELLS, 1), 2.0)])
    near = points[rng.integers(0, CELLS, count)] + 0.1 * rng.normal(size=(count, directions + 1))
    return unit(near @ plane + 0.002 * rng.normal(size=(count, embed_dim)))


def closeness(vectors: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Return the mean cosine of vectors with the nearest centre."""
    return float((vectors @ found.T).max(axis=1).mean())


def trained(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what FAISS learns in all dimensions."""
    clustering = faiss.Clustering(vectors.shape[1], CELLS)
    clustering.niter, clustering.spherical, clustering.min_points_per_centroid = 8, True, 1
    clustering.train(vectors, faiss.IndexFlatIP(vectors.shape[1]))
    return faiss.vector_to_array(clustering.centroids).reshape(CELLS, -1)


@pytest.mark.parametrize("directions", [5, 60])
@pytest.mark.parametrize("count", [CELLS, 400, 3000])
def test_centres_are_about_as_near_as_those_of_all_dimensions(count: int, directions: int) -> None:
    apart, theirs = 0.0, 0.0
    for seed in range(5):  # one draw ends in a better or worse optimum by a third
        vectors = clustered(count, 64, directions, seed)
        found = learned_centres(vectors, CELLS)
        assert found.dtype == np.float32 and found.shape == (CELLS, 64)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
        apart += 1 - closeness(vectors, found)
        theirs += 1 - closeness(vectors, trained(vectors))
    assert apart <= 1.25 * theirs + 1e-5


def test_few_directions_are_used_where_vectors_vary_in_few(monkeypatch: pytest.MonkeyPatch) -> None:
    widths = []
    real = centres._clustered

    def seen(vectors: NDArray[np.float32], *given: int, spherical: bool) -> NDArray[np.float32]:
        widths.append((vectors.shape[1], spherical))
        return real(vectors, *given, spherical=spherical)

    monkeypatch.setattr(centres, "_clustered", seen)
    learned_centres(clustered(1000, 64, 5), CELLS)
    learned_centres(unit(np.random.default_rng(0).normal(size=(1000, 64))), CELLS)
    assert widths[0][0] <= 6 and not widths[0][1]
    assert widths[1] == (64, True)


def test_vectors_that_are_all_the_same_have_centres() -> None:
    vectors = np.tile(unit(np.ones((1, 8))), (100, 1))
    found = learned_centres(vectors, 4)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_cells_without_vectors_keep_what_they_had() -> None:
    vectors = np.eye(3, dtype=np.float32)
    otherwise = np.eye(4, 3, dtype=np.float32)
    otherwise[3] = [1, 0, 0]
    found = centres._means(vectors, np.array([0, 0, 1]), otherwise)
    np.testing.assert_allclose(found, [[0.5**0.5, 0.5**0.5, 0], [0, 0, 1], [0, 0, 1], [1, 0, 0]], atol=1e-6)
