"""A catalog of many items beside the engines that people would take instead, and while it is written to.

    python -m eval.bench.bench_scale --items 100000                       # beside FAISS
    pip install -r eval/bench/peers.txt                                   # the others
    python -m eval.bench.bench_scale --items 1000000 --peers faiss,lancedb,hnswlib,qdrant-edge --folder build/scale

Vectors are synthetic (`indexes.sweep`: clustered, queries shifted as a whole by a modality gap). The catalog holds as
many pictures, and 1% texts drawn as the queries are, but none of the queries. One thread; milliseconds are processor
time, medians; each peer searches the same queries in turn with the catalog and is set to the least effort that reaches
recall@10 .95 on them. The catalog gets no such help: its index was set when it was built. It is searched once more
with a calibration, as catalogs of a space that gives probabilities are. A peer that is not installed is named and left
out. `--folder` keeps the vectors and the catalog for the next run. The first search after opening counts opening the
catalog and all that it reads; modules are loaded before, and what that takes is said beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import embedspace
from embedspace.catalog import Catalog, CatalogItem, ItemTable
from embedspace.segment import Segment
from eval.bench.common import report
from eval.bench.scale_peers import PEERS, Peer, least_effort, missing_peers

Matrix = NDArray[np.float32]
Search = Callable[[Matrix], Any]

EMBED_DIM, QUERIES, K, STARTS = 256, 200, 10, 4
CALIBRATION = Path(embedspace.__file__).parent / "weights" / "default" / "calibration.json"
FIRST = """
import json, sys, time
import faiss, numpy as np
from embedspace.catalog import Catalog

def anonymous():
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith("RssAnon")).split()[1]) / 1e3

def first_search(path):
    started, spent = time.perf_counter(), time.process_time()
    catalog = Catalog.open(path, read_only=True)
    catalog.search(queries[0], query_modality="text", to="image")
    return catalog, (time.perf_counter() - started) * 1e3, (time.process_time() - spent) * 1e3

path, queries, small = sys.argv[1], np.load(sys.argv[2]), sys.argv[3]
loading = first_search(small)[2]
before = anonymous()
catalog, wall, processor = first_search(path)
for query in queries:
    catalog.search(query, query_modality="text", to="image")
times = {"first_search_ms": wall, "first_search_processor_ms": processor, "loading_modules_processor_ms": loading}
print(json.dumps({**times, "anonymous_mb": anonymous(), "anonymous_mb_of_imports": before}))
"""


def vectors(count: int, folder: Path, seed: int = 0) -> tuple[NDArray[np.float16], Matrix, Matrix]:
    """Return (1.15 count, dim) pictures, (count / 100, dim) texts and queries; made once in a folder."""
    from indexes.sweep import Synthetic

    texts = max(count // 100, 200)
    if not (folder / "queries.npy").exists():
        source = Synthetic(count, EMBED_DIM, seed)
        total = count + count * 15 // 100
        corpus = np.lib.format.open_memmap(folder / "corpus.npy", "w+", np.float16, (total, EMBED_DIM))
        for first in range(0, total, 50_000):
            corpus[first : first + 50_000] = source.corpus(min(50_000, total - first))
        corpus.flush()
        np.save(folder / "texts.npy", source.queries(texts))
        np.save(folder / "queries.npy", source.queries(QUERIES))
    return (
        np.load(folder / "corpus.npy", mmap_mode="r"),
        np.load(folder / "texts.npy"),
        np.load(folder / "queries.npy"),
    )


def nearest(corpus: NDArray[np.float16], queries: Matrix) -> NDArray[np.int64]:
    """Return (Q, K) rows of the nearest vectors, by brute force."""
    scores, rows = np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
    for first in range(0, len(corpus), 20_000):
        found = queries @ corpus[first : first + 20_000].astype(np.float32).T
        scores = np.concatenate([scores, found], axis=1)
        rows = np.concatenate([rows, np.tile(np.arange(first, first + found.shape[1]), (len(queries), 1))], axis=1)
        best = np.argsort(-scores, axis=1)[:, :K]
        scores, rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
    return rows


def items(rows: NDArray[Any], modality: str, first: int = 0) -> Iterator[CatalogItem]:
    """Yield items of one segment each; every second one is `half`, every thousandth `rare`."""
    for number, row in enumerate(rows, first):
        facts = {"number": number, "half": number % 2 == 0, "rare": number % 1000 == 0}
        vector = row.astype(np.float32)
        uri = f"/{modality}/{number}"
        yield CatalogItem(uri, modality, [Segment(modality, vector / np.linalg.norm(vector))], facts)


def tables(rows: NDArray[Any], modality: str, first: int = 0) -> Iterator[ItemTable]:
    """Yield the items that `items` does as columns, for `Catalog.add_many`."""
    for start in range(0, len(rows), 20_000):
        part = rows[start : start + 20_000].astype(np.float32)
        number = np.arange(first + start, first + start + len(part))
        facts = {"number": number, "half": number % 2 == 0, "rare": number % 1000 == 0}
        uris = [f"/{modality}/{one}" for one in number.tolist()]
        yield ItemTable(part / np.linalg.norm(part, axis=1, keepdims=True), modality, uris, metadata=facts)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return processor milliseconds of a call, and what it returned."""
    started = time.process_time()
    found = call()
    return (time.process_time() - started) * 1e3, found


def written(call: Callable[[], Any]) -> int:
    """Return how many bytes a call wrote to files."""

    def count() -> int:
        return int(re.search(r"wchar: (\d+)", Path("/proc/self/io").read_text())[1])

    before = count()
    call()
    return count() - before


def build(path: Path, corpus: NDArray[np.float16], texts: Matrix) -> dict[str, float]:
    """Make the catalog."""
    catalog = Catalog.create(path, embed_dim=EMBED_DIM, fingerprints={"image": "synthetic", "text": "synthetic"})
    add, _ = timed(lambda: (catalog.add_many(tables(texts, "text")), catalog.add_many(tables(corpus, "image"))))
    close, _ = timed(catalog.close)
    return {"add_s": add / 1e3, "first_close_s": close / 1e3, "items_per_s": len(corpus) / ((add + close) / 1e3)}


def rows_of(hits: list[Any]) -> set[int]:
    """Return the rows of the vectors that hits are of."""
    return {int(hit.uri.rpartition("/")[2]) for hit in hits}


def recall(found: list[set[int]], truth: NDArray[np.int64]) -> float:
    """Return the share of the true neighbours that were found."""
    return sum(len(one & set(wanted.tolist())) for one, wanted in zip(found, truth, strict=True)) / truth.size


class Asked:
    """The searches of one catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    def __call__(self, query: Matrix, where: str | None = None) -> set[int]:
        """Return the rows of the ten nearest pictures."""
        return rows_of(self.catalog.search(query, query_modality="text", to="image", k=K, where=where)[0])


def beside(catalog: Asked, queries: Matrix, truth: NDArray[np.int64], peers: list[Peer]) -> dict[str, Any]:
    """Search with the catalog and its peers in turn."""
    times: dict[str, list[float]] = {"catalog": [], **{peer.name: [] for peer in peers}}
    found = []
    for query in queries:
        spent, hits = timed(lambda query=query: catalog(query))
        times["catalog"].append(spent)
        found.append(hits)
        for peer in peers:
            times[peer.name].append(timed(lambda peer=peer, query=query: peer.search(query[None]))[0])
    ms = {name: float(np.median(spent)) for name, spent in times.items()}
    facts: dict[str, Any] = {"recall": recall(found, truth), "p50_ms": ms["catalog"]}
    facts["p95_ms"] = float(np.percentile(times["catalog"], 95))
    for peer in peers:
        facts[peer.name] = {"p50_ms": ms[peer.name], "recall": peer.recall, "bytes": peer.bytes_per_vector}
        facts[peer.name]["catalog_over_it"] = ms["catalog"] / ms[peer.name]
    return facts


def calibrated(path: Path, queries: Matrix, truth: NDArray[np.int64], peers: list[Peer]) -> dict[str, Any]:
    """Search as `beside` does, with probabilities: by the calibration of the default space."""
    with Catalog.open(path) as catalog, catalog.store.writing("calibrate it"):
        catalog.store.set_meta("calibration", CALIBRATION.read_text(encoding="utf-8"))
    try:
        with Catalog.open(path, read_only=True) as catalog:
            (hit,) = catalog.search(queries[0], query_modality="text", to="image", k=1)[0]
            assert hit.probability is not None
            return beside(Asked(catalog), queries, truth, peers)
    finally:
        with Catalog.open(path) as catalog, catalog.store.writing("calibrate it no more"):
            catalog.store.set_meta("calibration", "")


def filtered(catalog: Asked, queries: Matrix, corpus: NDArray[np.float16], p50: float) -> dict[str, float]:
    """Measure two filters, new and repeated, and how much of their true neighbours is found."""
    facts: dict[str, float] = {}
    for name, step in (("half", 2), ("rare", 1000)):
        new, _ = timed(lambda name=name: catalog(queries[0], f"{name} = true"))
        spent, found = zip(*(timed(lambda q=q, n=name: catalog(q, f"{n} = true")) for q in queries), strict=True)
        facts[f"{name}_new_ms"], facts[f"{name}_ms"] = new, float(np.median(spent))
        facts[f"{name}_recall"] = recall(list(found), nearest(corpus[::step], queries) * step)
    facts["half_over_none"] = facts["half_ms"] / p50
    return facts


def writes(path: Path, corpus: NDArray[np.float16], count: int, queries: Matrix) -> dict[str, float]:
    """Measure searches after and between writes, and what closing writes."""
    catalog = Catalog.open(path)
    asked = Asked(catalog)
    asked(queries[0])
    catalog.remove(uris=["/image/7"])
    facts = {"search_after_one_delete_ms": timed(lambda: asked(queries[0]))[0]}
    catalog.close()
    catalog = Catalog.open(path)
    asked = Asked(catalog)
    asked(queries[0])
    catalog.add(items(corpus[count : count + 1], "image", count))
    facts["search_after_one_item_ms"] = timed(lambda: asked(queries[0]))[0]
    facts["close_after_one_item_bytes"] = written(catalog.close)
    catalog = Catalog.open(path)
    asked = Asked(catalog)
    asked(queries[0])
    wall, thread = [], []
    for first in range(count + 1, len(corpus), 2_000):  # some 15% more
        catalog.add(items(corpus[first : first + 2_000], "image", first))
        started, spent = time.perf_counter(), time.thread_time()
        asked(queries[first % len(queries)])
        wall.append((time.perf_counter() - started) * 1e3)
        thread.append((time.thread_time() - spent) * 1e3)
    facts["worst_search_while_writing_ms"], facts["p50_search_while_writing_ms"] = max(wall), float(np.median(wall))
    facts["worst_search_while_writing_processor_ms"] = max(thread)
    facts["close_after_15_percent_s"] = timed(catalog.close)[0] / 1e3
    return facts


def after_writes(path: Path, corpus: NDArray[np.float16], queries: Matrix, p50: float) -> dict[str, float]:
    """Search the catalog with its newer rows."""
    with Catalog.open(path, read_only=True) as catalog:
        asked = Asked(catalog)
        spent, found = zip(*(timed(lambda q=q: asked(q)) for q in queries), strict=True)
        ms = float(np.median(spent))
        share = recall(list(found), nearest(corpus, queries))
        return {"newer_p50_ms": ms, "newer_over_none": ms / p50, "newer_recall": share}


def first_search(path: Path, queries: Path) -> dict[str, float]:
    """Open the catalog in new processes that have loaded what they need for another, tiny one; return medians.

    Python compiles modules once, when a package is installed; here the first process does, and is not counted.
    """
    runs = []
    with tempfile.TemporaryDirectory() as temporary:
        small = Path(temporary) / "small.catalog"
        build(small, np.eye(10, EMBED_DIM, dtype=np.float16), np.eye(10, EMBED_DIM, dtype=np.float32))
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment = {**kept, "PYTHONPYCACHEPREFIX": str(Path(temporary) / "compiled")}
        command = [sys.executable, "-c", FIRST, path, queries, small]
        for _ in range(STARTS):
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            runs.append(json.loads(done.stdout))
    return {name: float(np.median([run[name] for run in runs[1:]])) for name in runs[0]}


def measure(folder: Path, count: int, peers: list[str]) -> dict[str, Any]:
    """Build, search and change a catalog of some pictures."""
    corpus, texts, queries = vectors(count, folder)
    path = folder / "whole.catalog"
    facts: dict[str, Any] = {"items": count, "peers_missing": missing_peers(peers)}
    if not path.exists():
        facts |= build(path, corpus[:count], texts)
    truth = nearest(corpus[:count], queries)
    derived = [file for file in path.iterdir() if ".faiss" in file.name]
    facts["index_bytes_per_vector"] = sum(file.stat().st_size for file in derived) / count
    made = [PEERS[name](corpus[:count]) for name in peers if name not in facts["peers_missing"]]
    least_effort(made, queries, truth)
    facts |= first_search(path, folder / "queries.npy")
    with Catalog.open(path, read_only=True) as catalog:
        asked = Asked(catalog)
        asked(queries[0])
        facts |= beside(asked, queries, truth, made)
        facts["calibrated"] = calibrated(path, queries, truth, made)
        facts |= filtered(asked, queries[:50], corpus[:count], facts["p50_ms"])
    made.clear()
    changed = folder / "changed.catalog"
    shutil.rmtree(changed, ignore_errors=True)
    shutil.copytree(path, changed)
    facts |= writes(changed, corpus, count, queries)
    facts |= after_writes(changed, corpus, queries, facts["p50_ms"])
    shutil.rmtree(changed)
    return facts


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--peers", default="faiss", help=f"of {', '.join(PEERS)}; separated by commas")
    parser.add_argument("--folder", type=Path, help="keep vectors and catalog here")
    parser.add_argument("--out", type=Path, help="folder for the figures")
    given = parser.parse_args()
    peers = [name for name in given.peers.split(",") if name]
    if unknown := [name for name in peers if name not in PEERS]:
        parser.error(f"--peers: unknown {', '.join(unknown)}; known: {', '.join(PEERS)}")
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        figures = measure(folder, given.items, peers)
    report(given, "scale", **{name: _rounded(value) for name, value in figures.items()})


def _rounded(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
