"""Engines that `bench_scale` compares a catalog with: each over the same vectors, in one thread, in memory."""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["PEERS", "Peer", "least_effort", "missing_peers"]

WANTED = 0.95
_BLOCK = 50_000
_POINTS = 2_000


class Peer(Protocol):
    """An engine over some vectors.

    Attributes:
        name: Shown beside its figures.
        efforts: What `effort` may be, ascending.
        effort: How thoroughly it searches.
        recall: What it reaches with that effort.
        bytes_per_vector: What its index takes.
    """

    name: str
    efforts: list[int]
    effort: int
    recall: float
    bytes_per_vector: float

    def search(self, queries: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return (Q, 10) rows of the nearest vectors."""
        ...


class FaissIvf:
    """FAISS IVF with 4 sqrt(N) cells and 8-bit vectors."""

    def __init__(self, corpus: NDArray[np.float16]) -> None:
        faiss: Any = importlib.import_module("faiss")
        faiss.omp_set_num_threads(1)
        cells = round(4 * len(corpus) ** 0.5)
        self.name = f"faiss IVF{cells}-SQ8"
        self.index = faiss.index_factory(corpus.shape[1], f"IVF{cells},SQ8", faiss.METRIC_INNER_PRODUCT)
        chosen = np.sort(np.random.default_rng(0).permutation(len(corpus))[: 40 * cells])
        self.index.train(corpus[chosen].astype(np.float32))
        for first in range(0, len(corpus), _BLOCK):
            self.index.add(corpus[first : first + _BLOCK].astype(np.float32))
        self.efforts = [effort for effort in (8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024) if effort <= cells]
        self.effort, self.recall = self.efforts[0], 0.0
        self.bytes_per_vector = len(faiss.serialize_index(self.index)) / len(corpus)

    def search(self, queries: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the nearest; see `Peer`."""
        self.index.nprobe = self.effort
        found: NDArray[np.int64] = self.index.search(queries, 10)[1]
        return found


class Hnswlib:
    """hnswlib with 16 links per vector."""

    def __init__(self, corpus: NDArray[np.float16]) -> None:
        hnswlib: Any = importlib.import_module("hnswlib")
        self.name = "hnswlib M16"
        self.index = hnswlib.Index("ip", corpus.shape[1])
        self.index.init_index(len(corpus), M=16, ef_construction=100)
        self.index.set_num_threads(1)
        for first in range(0, len(corpus), _BLOCK):
            self.index.add_items(corpus[first : first + _BLOCK].astype(np.float32))
        self.efforts = [10, 20, 40, 80, 120, 160, 240, 320, 480]
        self.effort, self.recall = self.efforts[0], 0.0
        self.bytes_per_vector = self.index.index_file_size() / len(corpus)

    def search(self, queries: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the nearest; see `Peer`."""
        self.index.set_ef(self.effort)
        return self.index.knn_query(queries, 10)[0].astype(np.int64)


class Usearch:
    """usearch with 16 links per vector and 16-bit vectors."""

    def __init__(self, corpus: NDArray[np.float16]) -> None:
        usearch: Any = importlib.import_module("usearch.index")
        self.name = "usearch f16"
        self.index = usearch.Index(ndim=corpus.shape[1], metric="ip", dtype="f16", connectivity=16, expansion_add=100)
        for first in range(0, len(corpus), _BLOCK):
            some = corpus[first : first + _BLOCK]
            self.index.add(np.arange(first, first + len(some)), np.asarray(some), threads=1)
        self.efforts = [10, 20, 40, 80, 120, 160, 240, 320, 480]
        self.effort, self.recall = self.efforts[0], 0.0
        self.bytes_per_vector = self.index.memory_usage / len(corpus)

    def search(self, queries: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the nearest; see `Peer`."""
        self.index.expansion_search = self.effort
        found = [self.index.search(query, 10, threads=1).keys.astype(np.int64) for query in queries]
        return np.stack([np.pad(keys, (0, 10 - len(keys)), constant_values=-1) for keys in found])


class LanceDb:
    """LanceDB's IVF_RQ (1 bit per dimension), scored again with the vectors, in a folder of its own."""

    def __init__(self, corpus: NDArray[np.float16]) -> None:
        lancedb: Any = importlib.import_module("lancedb")
        pyarrow: Any = importlib.import_module("pyarrow")
        self.name = "lancedb IVF_RQ"
        self._folder = tempfile.TemporaryDirectory(prefix="lancedb-")
        vector = pyarrow.list_(pyarrow.float32(), corpus.shape[1])
        schema = pyarrow.schema([("row", pyarrow.int64()), ("vector", vector)])

        def batches() -> Iterator[Any]:
            for first in range(0, len(corpus), _BLOCK):
                some = corpus[first : first + _BLOCK].astype(np.float32)
                vectors = pyarrow.FixedSizeListArray.from_arrays(some.reshape(-1), corpus.shape[1])
                rows = np.arange(first, first + len(some))
                yield pyarrow.record_batch([pyarrow.array(rows), vectors], schema=schema)

        self.table = lancedb.connect(self._folder.name).create_table("corpus", batches(), schema=schema)
        self.table.create_index("dot", num_partitions=max(1, round(len(corpus) ** 0.5)), index_type="IVF_RQ")
        self.efforts = [4, 8, 16, 32, 48, 64, 96, 128, 192, 256]
        self.effort, self.recall = self.efforts[0], 0.0
        files = Path(self._folder.name).rglob("*")
        self.bytes_per_vector = sum(file.stat().st_size for file in files if file.is_file()) / len(corpus)

    def search(self, queries: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the nearest; see `Peer`."""
        found = []
        for query in queries:
            asked = self.table.search(query).distance_type("dot").nprobes(self.effort).refine_factor(20)
            found.append(asked.limit(10).select(["row", "_distance"]).to_arrow()["row"].to_numpy())
        return np.stack(found)


class QdrantEdge:
    """Qdrant's engine in the process, HNSW with 16 links per vector, in a folder of its own."""

    def __init__(self, corpus: NDArray[np.float16]) -> None:
        self._edge: Any = importlib.import_module("qdrant_edge")
        edge = self._edge
        self.name = "qdrant-edge HNSW"
        self._folder = tempfile.TemporaryDirectory(prefix="qdrant-")
        graph = edge.HnswIndexConfig(m=16, ef_construct=100, full_scan_threshold=1000, max_indexing_threads=1)
        vectors = edge.EdgeVectorParams(size=corpus.shape[1], distance=edge.Distance.Dot)
        whole = edge.EdgeOptimizersConfig(default_segment_number=1, indexing_threshold=1000)
        config = edge.EdgeConfig(vectors=vectors, hnsw_config=graph, optimizers=whole, max_search_threads=1)
        self.shard = edge.EdgeShard.create(self._folder.name, config)
        for first in range(0, len(corpus), _POINTS):
            some = corpus[first : first + _POINTS].astype(np.float32).tolist()
            points = [edge.Point(number, row) for number, row in enumerate(some, first)]
            self.shard.update(edge.UpdateOperation.upsert_points(points))
        self.shard.optimize()
        self.efforts = [16, 32, 64, 96, 128, 192, 256, 384, 512]
        self.effort, self.recall = self.efforts[0], 0.0
        files = Path(self._folder.name).rglob("*")
        self.bytes_per_vector = sum(file.stat().st_blocks * 512 for file in files if file.is_file()) / len(corpus)

    def search(self, queries: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the nearest; see `Peer`."""
        params, found = self._edge.SearchParams(hnsw_ef=self.effort), []
        for query in queries:
            asked = self._edge.SearchRequest(self._edge.Query.Nearest(query.tolist()), 10, params=params)
            found.append([point.id for point in self.shard.search(asked)])
        return np.asarray(found, np.int64)


PEERS = {"faiss": FaissIvf, "hnswlib": Hnswlib, "usearch": Usearch, "lancedb": LanceDb, "qdrant-edge": QdrantEdge}
"""Name -> class; what they need beside FAISS is in `eval/bench/peers.txt`."""


def missing_peers(names: list[str]) -> list[str]:
    """Return those whose module is not installed."""
    return [name for name in names if importlib.util.find_spec(name.replace("-", "_")) is None]


def least_effort(peers: list[Any], queries: NDArray[np.float32], truth: NDArray[np.int64]) -> None:
    """Set each peer to the least effort that finds the wanted share of the true neighbours of these queries."""
    for peer in peers:
        for effort in peer.efforts:
            peer.effort = effort
            found = peer.search(queries)
            peer.recall = sum(len(np.intersect1d(*pair)) for pair in zip(found, truth, strict=True)) / truth.size
            if peer.recall >= WANTED:
                break
