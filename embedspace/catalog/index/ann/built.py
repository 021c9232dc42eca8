"""A FAISS index over the rows of one modality: what it is, how it is built, and how newer rows join it."""

from __future__ import annotations

import ctypes
import dataclasses
import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.index.ann.centres import learned_centres
from embedspace.catalog.index.ann.codes import kept_codes
from embedspace.catalog.index.gpu import device_number, lowered, raised
from embedspace.catalog.index.runs import Rows
from embedspace.catalog.index.settings import IndexSettings

__all__ = ["AnnIndex", "block_of", "build_index", "extended", "index_size", "kind_of"]

_ADD = 16384
_PER_CELL = 32
"""Vectors that the centre of a cell is learned from, at least."""
_CODED = 16384
"""Vectors that codes are learned from, where the centres are there."""
_ITERATIONS = 8
"""Of k-means, where all of it is FAISS's: for 4-bit codes, and on a GPU."""
_DEEP = {"pq4": 10}
"""Candidates per wanted hit, where others than the usual ones."""
_USUAL = 8


@dataclass(frozen=True, slots=True)
class AnnIndex:
    """A FAISS index over the rows of one modality.

    Attributes:
        index: The FAISS index, on the device of its settings; its ids are sequence numbers.
        settings: How it was built.
        built_at: Highest sequence number in it.
        size: Vectors in it.
        cells: Of an IVF index.
        kind: How it stores a vector: one of the quantizers of `IndexSettings`, never "auto".
        trained: Vectors that there were when it was trained.
        nprobe: Cells to visit, as measured; 0 where nothing was measured.
        overfetch: Candidates to take per wanted hit.
        recall: Share of the exact ten best that were found, for the least lucky modality of queries; 0 if not measured.
        shell: An IVF index as FAISS writes it, trained and without vectors.
    """

    index: Any
    settings: IndexSettings
    built_at: int
    size: int
    cells: int = 0
    kind: str = "none"
    trained: int = 0
    nprobe: int = 0
    overfetch: int = _USUAL
    recall: float = 0.0
    shell: NDArray[np.uint8] | None = None


def kind_of(settings: IndexSettings, count: int, embed_dim: int) -> str:
    """Return how an index over so many vectors of a length stores each."""
    if settings.quantizer not in ("auto", "pq4") or (settings.quantizer == "pq4" and embed_dim % 2 == 0):
        return settings.quantizer
    cannot = embed_dim % 2 == 1 or device_number(settings.device) is not None or settings.index == "hnsw"
    return "sq8" if cannot or count < settings.compress_above else "pq4"


def build_index(rows: Rows, settings: IndexSettings) -> AnnIndex:
    """Build the index that settings describe over the living rows of one modality.

    Args:
        rows: All rows.
        settings: Its `index` is "hnsw" or "ivf".
    """
    faiss: Any = importlib.import_module("faiss")

    alive = rows.positions(rows.living_seq())
    kind = kind_of(settings, len(alive), rows.embed_dim)
    index = faiss.index_factory(
        rows.embed_dim, _factory(settings, kind, len(alive), rows.embed_dim), faiss.METRIC_INNER_PRODUCT
    )
    if settings.index == "hnsw":
        faiss.downcast_index(index).hnsw.efConstruction = settings.ef_construction
        index = faiss.IndexIDMap2(index)
    else:
        index.cp.niter, index.cp.min_points_per_centroid = _ITERATIONS, 1
        if kind == "pq4":
            index.pq.cp.min_points_per_centroid = 1
    cells = int(getattr(index, "nlist", 0))
    # millions of codes are scanned at every search: their cells are worth all of k-means
    quick = cells and kind != "pq4" and device_number(settings.device) is None
    index = raised(index, settings.device)
    if not index.is_trained:
        wanted = max(settings.train_vectors, _PER_CELL * cells, 1)
        chosen = np.random.default_rng(settings.seed).permutation(len(alive))[:wanted]
        sample = rows.take(np.sort(alive[chosen]))
        if quick:
            index.quantizer.add(learned_centres(sample, cells))
            sample = sample[:: max(1, len(sample) // _CODED)]
        index.train(sample)
    shell = faiss.serialize_index(lowered(index, settings.device)) if cells else None
    for first in range(0, len(alive), _ADD):
        some = alive[first : first + _ADD]
        index.add_with_ids(rows.take(some), rows.seq_of(some))
    overfetch = settings.overfetch or _DEEP.get(kind, _USUAL)
    return AnnIndex(index, settings, rows.last_seq, len(alive), cells, kind, len(alive), 0, overfetch, 0.0, shell)


def index_size(rows: Rows, settings: IndexSettings) -> int:
    """Return about how many bytes the index that settings describe over these rows takes."""
    width = {"none": 4.0, "fp16": 2.0, "sq8": 1.0, "pq4": 0.25}[
        kind_of(settings, len(rows), rows.embed_dim)
    ] * rows.embed_dim + 8
    return round(len(rows) * (width + (8 * settings.hnsw_m if settings.index == "hnsw" else 0)))


def _factory(settings: IndexSettings, kind: str, count: int, embed_dim: int) -> str:
    quantizer = {"none": "Flat", "fp16": "SQfp16", "sq8": "SQ8", "pq4": f"PQ{embed_dim // 2}x4fsr"}[kind]
    if settings.index == "hnsw":
        return f"HNSW{settings.hnsw_m},{quantizer}"
    return f"IVF{max(1, min(settings.nlist or round(4 * count**0.5), count))},{quantizer}"


def extended(ann: AnnIndex, rows: Rows) -> AnnIndex:
    """Return an index with the same cells that has the newer rows, too; many deleted ones are left out.

    Args:
        ann: An IVF index with its shell, on the CPU; it stays as it is.
        rows: All rows.
    """
    seq = rows.living_seq()
    older = seq[seq <= ann.built_at]
    dead = ann.size - len(older)
    alive = None
    if dead > ann.settings.rebuild_fraction * ann.size / 2:
        alive = np.zeros(ann.built_at + 1, np.bool_)
        alive[older] = True
    index = _copied(ann, alive)
    newer = rows.positions(seq[len(older) :])
    for first in range(0, len(newer), _ADD):
        some = newer[first : first + _ADD]
        index.add_with_ids(rows.take(some), rows.seq_of(some))
    return dataclasses.replace(ann, index=index, built_at=rows.last_seq, size=int(index.ntotal))


def _copied(ann: AnnIndex, alive: NDArray[np.bool_] | None) -> Any:  # noqa: ANN401
    """Return the index with lists of its own in memory: of all its vectors, or of those that live."""
    faiss: Any = importlib.import_module("faiss")

    index = faiss.deserialize_index(ann.shell)
    lists, source = faiss.downcast_InvertedLists(index.invlists), ann.index.invlists
    width, block = ann.index.code_size, block_of(ann.index)
    for number in range(ann.cells):
        size = source.list_size(number)
        if not size:
            continue
        padded = -(-size // block) * block
        seq = faiss.rev_swig_ptr(source.get_ids(number), size)
        codes = faiss.rev_swig_ptr(source.get_codes(number), padded * width).reshape(padded, width)
        if alive is not None and not (keep := alive[seq]).all():
            seq, codes = seq[keep], kept_codes(codes, keep, block)
        if len(seq):
            lists.resize(number, len(seq))
            ctypes.memmove(int(lists.get_codes(number)), codes.ctypes.data, codes.nbytes)
            ctypes.memmove(int(lists.get_ids(number)), seq.ctypes.data, seq.nbytes)
            index.ntotal += len(seq)
    return index


def block_of(index: Any) -> int:  # noqa: ANN401
    """Return how many vectors of a list are stored as one block."""
    return int(getattr(index, "bbs", 1))
