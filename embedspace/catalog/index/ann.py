"""Approximate search with FAISS: derived from the catalog's rows, rebuilt when missing, stale or damaged.

An index knows sequence numbers only. It proposes candidates; `exact` scores them again with the catalog's own vectors,
searches newer rows beside it, and never sees a deleted one, because only rows that the catalog still has are scored.
FAISS is imported here and nowhere else in the catalog, and only when a modality is large enough for an index.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.index.exact import Best, best_items
from embedspace.catalog.index.gpu import MOST_CANDIDATES, device_number, lowered, raised
from embedspace.catalog.index.runs import Chosen, Rows
from embedspace.catalog.index.scan import scan_items
from embedspace.catalog.index.settings import IndexSettings
from embedspace.files import replacing

__all__ = ["AnnIndex", "build_index", "index_path", "index_size", "load_index", "save_index", "search_index"]

_MAX_CANDIDATES = 1 << 14
_ADD = 16384


@dataclass(frozen=True, slots=True)
class AnnIndex:
    """A FAISS index over the rows of one modality.

    Attributes:
        index: The FAISS index, on the device of its settings; its ids are sequence numbers.
        settings: How it was built.
        built_at: Highest sequence number in it.
        size: Vectors in it.
        cells: Of an IVF index.
    """

    index: Any
    settings: IndexSettings
    built_at: int
    size: int
    cells: int = 0


def index_path(folder: Path, modality: str) -> Path:
    """Return where the index of a modality lies."""
    return folder / f"{modality}.faiss"


def _signature(settings: IndexSettings, catalog_id: str, embed_dim: int) -> str:
    """Return what must agree for a stored index to be used; how it is searched may change without a rebuild."""
    built = [
        settings.index,
        settings.quantizer,
        settings.nlist,
        settings.hnsw_m,
        settings.ef_construction,
        settings.seed,
    ]
    return hashlib.blake2b(json.dumps([catalog_id, embed_dim, *built]).encode(), digest_size=16).hexdigest()


def build_index(rows: Rows, settings: IndexSettings) -> AnnIndex:
    """Build the index that settings describe over the living rows of one modality.

    Args:
        rows: All rows.
        settings: Its `index` is "hnsw" or "ivf".
    """
    faiss: Any = importlib.import_module("faiss")

    alive = rows.positions(rows.living_seq())
    index = faiss.index_factory(rows.embed_dim, _factory(settings, len(alive)), faiss.METRIC_INNER_PRODUCT)
    if settings.index == "hnsw":
        faiss.downcast_index(index).hnsw.efConstruction = settings.ef_construction
        index = faiss.IndexIDMap2(index)
    cells = int(getattr(index, "nlist", 0))
    index = raised(index, settings.device)
    if not index.is_trained:
        chosen = np.random.default_rng(settings.seed).permutation(len(alive))[: max(settings.train_vectors, 1)]
        index.train(rows.take(np.sort(alive[chosen])))
    for first in range(0, len(alive), _ADD):
        some = alive[first : first + _ADD]
        index.add_with_ids(rows.take(some), rows.seq_of(some))
    return AnnIndex(index, settings, rows.last_seq, len(alive), cells)


def index_size(rows: Rows, settings: IndexSettings) -> int:
    """Return about how many bytes the index that settings describe over these rows takes."""
    width: int = {"none": 4, "fp16": 2, "sq8": 1}[settings.quantizer] * rows.embed_dim + 8
    return len(rows) * (width + (8 * settings.hnsw_m if settings.index == "hnsw" else 0))


def _factory(settings: IndexSettings, count: int) -> str:
    quantizer = {"none": "Flat", "fp16": "SQfp16", "sq8": "SQ8"}[settings.quantizer]
    if settings.index == "hnsw":
        return f"HNSW{settings.hnsw_m},{quantizer}"
    return f"IVF{_nlist(settings, count)},{quantizer}"


def _nlist(settings: IndexSettings, count: int) -> int:
    wanted = settings.nlist or round(4 * count**0.5)
    return max(1, min(wanted, min(count, settings.train_vectors) // 39 or 1))  # FAISS wants 39 vectors per cell


def save_index(ann: AnnIndex, path: Path, catalog_id: str, embed_dim: int) -> bool:
    """Write an index and, beside it, what it was built from; returns whether that was possible."""
    faiss: Any = importlib.import_module("faiss")

    facts = {
        "signature": _signature(ann.settings, catalog_id, embed_dim),
        "built_at": ann.built_at,
        "size": ann.size,
    }
    try:
        with replacing(path) as partial:
            faiss.write_index(lowered(ann.index, ann.settings.device), str(partial))
            facts["bytes"] = partial.stat().st_size
            facts["crc"] = _file_digest(partial)
            facts_path(path).unlink(missing_ok=True)  # between the two renames there is no index, not a wrong one
        with replacing(facts_path(path)) as partial:
            partial.write_text(json.dumps(facts), encoding="utf-8")
    except (OSError, RuntimeError):  # derived: a search does without it
        return False
    return True


def facts_path(path: Path) -> Path:
    """Return the file beside an index that says what it was built from."""
    return path.with_suffix(".json")


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def load_index(path: Path, settings: IndexSettings, catalog_id: str, embed_dim: int) -> AnnIndex | None:
    """Return a stored index, or `None` where it is missing, damaged, or of other settings or another catalog."""
    try:
        facts = json.loads(facts_path(path).read_text(encoding="utf-8"))
        if facts["signature"] != _signature(settings, catalog_id, embed_dim):
            return None
        if path.stat().st_size != facts["bytes"] or _file_digest(path) != facts["crc"]:
            return None  # FAISS trusts the sizes it reads: a damaged file could take all memory, or the process
        faiss: Any = importlib.import_module("faiss")

        index = faiss.read_index(str(path))
        if index.d != embed_dim or index.ntotal != facts["size"]:
            return None
        cells = int(getattr(index, "nlist", 0))
        return AnnIndex(raised(index, settings.device), settings, int(facts["built_at"]), int(facts["size"]), cells)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        return None


def _parameters(ann: AnnIndex, candidates: int, rows: Rows, chosen: Chosen | None) -> Any:  # noqa: ANN401
    faiss: Any = importlib.import_module("faiss")

    on_gpu = device_number(ann.settings.device) is not None  # there a filter is no part of the search
    among = {} if chosen is None or on_gpu else {"sel": faiss.IDSelectorBitmap(_bits(rows, chosen, ann.built_at))}
    if ann.settings.index == "hnsw":
        return faiss.SearchParametersHNSW(efSearch=max(ann.settings.ef_search, candidates), **among)
    probed = min(ann.cells, ann.settings.nprobe or max(8, ann.cells // 8))
    return faiss.SearchParametersIVF(nprobe=min(probed, _most(ann)), **among)


def _most(ann: AnnIndex) -> int:
    """Return how many cells, or candidates, the index can be asked for at once."""
    return _MAX_CANDIDATES if device_number(ann.settings.device) is None else MOST_CANDIDATES


def _bits(rows: Rows, chosen: Chosen, last_seq: int) -> NDArray[np.uint8]:
    """Return a bitmap over sequence numbers; a choice remembers it."""
    if last_seq not in chosen.bits:
        marks = np.zeros(last_seq + 1, np.bool_)
        for run, mask in zip(rows.runs, chosen.masks, strict=True):
            seq = run.rows.seq[mask]
            marks[seq[seq <= last_seq]] = True
        chosen.bits[last_seq] = np.packbits(marks, bitorder="little")
    return chosen.bits[last_seq]


def search_index(
    ann: AnnIndex, rows: Rows, queries: NDArray[np.float32], k: int, chosen: Chosen | None = None
) -> list[Best]:
    """Return the k best items per query: candidates of the index and of the newer rows, all scored exactly.

    Args:
        ann: An index over the older of the rows.
        rows: All rows.
        queries: (Q, embed_dim) float32 unit rows.
        k: Items wanted.
        chosen: Which rows may be found; all living ones where `None`.
    """
    fresh = rows.after(ann.built_at)
    newer = scan_items(fresh, queries, k, None if chosen is None else chosen.last(fresh))
    wanted = np.arange(len(queries))
    found: dict[int, Best] = {}
    most = min(ann.size, _most(ann))
    candidates = min(max(k * ann.settings.overfetch, 16), most)
    while len(wanted):
        parameters = _parameters(ann, candidates, rows, chosen)
        _, ids = ann.index.search(queries[wanted], candidates, params=parameters)
        for query, proposed in zip(wanted.tolist(), ids, strict=True):
            older = rows.positions(np.unique(proposed[proposed >= 0]))
            older = rows.living_among(older) if chosen is None else chosen.among(rows, older)
            subset = np.concatenate([older, np.sort(newer[query].rows) + len(rows) - len(fresh)])
            found[query] = best_items(rows, queries[query : query + 1], k, subset)[0]
        if candidates >= most:
            break
        # Many segments of few items can leave fewer than k items: ask for more.
        wanted = np.asarray([query for query in wanted if len(found[int(query)].rows) < k], np.int64)
        candidates = min(candidates * 4, most)
    return [found[query] for query in range(len(queries))]
