"""Centres of the cells of an IVF index: k-means in the directions that vectors differ in, then in all of them.

Embeddings vary in few directions: with a fraction of the dimensions each of k-means' rounds costs that fraction, and
finds cells as good as with all. Two rounds in all dimensions make centres of them.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["learned_centres"]

_VARIANCE = 0.95
"""What the directions hold of how vectors differ."""
_WORTHWHILE = 0.75
"""Share of the dimensions up to which leaving the others out saves time."""
_ROUNDS, _LAST_ROUNDS, _ROUNDS_OF_ALL = 5, 2, 8
"""Of k-means in some directions, then in all; and where all of it is in all."""
_SAMPLE = 16384
_BLOCK = 16384

Matrix = NDArray[np.float32]


def learned_centres(vectors: Matrix, cells: int) -> Matrix:
    """Return (cells, embed_dim) float32 unit rows around which vectors gather.

    Args:
        vectors: (N, embed_dim) float32 unit rows, at least as many as cells.
        cells: How many are wanted.

    Source: spherical k-means (Dhillon and Modha 2001), begun in the space of the first principal components.
    """
    mean, directions = _directions(vectors[:: max(1, len(vectors) // _SAMPLE)])
    embed_dim, kept = directions.shape
    if kept > _WORTHWHILE * embed_dim:
        return _clustered(vectors, cells, _ROUNDS_OF_ALL, spherical=True)
    shift = mean @ directions
    few = np.empty((len(vectors), kept), np.float32)
    for first in range(0, len(vectors), _BLOCK):
        few[first : first + _BLOCK] = vectors[first : first + _BLOCK] @ directions - shift
    rough = _clustered(few, cells, _ROUNDS, spherical=False)
    centres = _means(vectors, _nearest(few, rough, euclidean=True), _unit(rough @ directions.T + mean))
    for _ in range(_LAST_ROUNDS):
        centres = _means(vectors, _nearest(vectors, centres, euclidean=False), centres)
    return centres


def _directions(vectors: Matrix) -> tuple[Matrix, Matrix]:
    """Return the mean of vectors, and the fewest orthonormal columns that hold most of their variance."""
    mean = vectors.mean(axis=0)
    centred = vectors - mean
    variance, columns = np.linalg.eigh(centred.T @ centred)
    share = np.cumsum(variance[::-1]) / max(float(variance.sum()), 1e-12)
    kept = min(len(mean), 1 + int(np.searchsorted(share, _VARIANCE)))
    return mean, np.ascontiguousarray(columns[:, ::-1][:, :kept])


def _clustered(vectors: Matrix, cells: int, rounds: int, *, spherical: bool) -> Matrix:
    faiss: Any = importlib.import_module("faiss")

    dimensions = vectors.shape[1]
    clustering = faiss.Clustering(dimensions, cells)
    clustering.niter, clustering.spherical = rounds, spherical
    clustering.min_points_per_centroid, clustering.max_points_per_centroid = 1, len(vectors)
    clustering.train(vectors, faiss.IndexFlatIP(dimensions) if spherical else faiss.IndexFlatL2(dimensions))
    found: Matrix = faiss.vector_to_array(clustering.centroids).reshape(cells, dimensions)
    return found


def _nearest(vectors: Matrix, centres: Matrix, *, euclidean: bool) -> NDArray[np.int64]:
    """Return (N,) the centre nearest to each vector."""
    faiss: Any = importlib.import_module("faiss")

    index = faiss.IndexFlatL2(centres.shape[1]) if euclidean else faiss.IndexFlatIP(centres.shape[1])
    index.add(centres)
    blocks = [index.search(vectors[first : first + _BLOCK], 1)[1] for first in range(0, len(vectors), _BLOCK)]
    return np.concatenate(blocks)[:, 0]


def _means(vectors: Matrix, cell: NDArray[np.int64], otherwise: Matrix) -> Matrix:
    """Return the mean direction of the vectors of each cell; of a cell without any what it has `otherwise`."""
    sums = np.zeros_like(otherwise)
    for first in range(0, len(vectors), _BLOCK):
        its = cell[first : first + _BLOCK]
        order = np.argsort(its, kind="stable")
        present, starts = np.unique(its[order], return_index=True)
        sums[present] += np.add.reduceat(vectors[first : first + _BLOCK][order], starts, axis=0)
    empty = ~sums.any(axis=1)
    sums[empty] = otherwise[empty]
    return _unit(sums)


def _unit(rows: Matrix) -> Matrix:
    found: Matrix = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return found
