"""Compare index settings: recall against exact search, latency, build time, size.

    python -m indexes.sweep                                            # 100,000 x 256 synthetic vectors
    python -m indexes.sweep --vectors 20000 --queries 50               # in a few seconds
    python -m indexes.sweep --catalog media.catalog --modality image   # the vectors of a real catalog

Writes `indexes/results/NAME.json` and `NAME.md`. Recall is ANN against exact search over the same vectors (how many of
the exact ten best are found), not retrieval quality. Latency is of one query at a time in one thread, through the code
that a catalog runs: candidates from FAISS, scored again with the float16 vectors.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from embedspace.catalog import Catalog, IndexSettings
from embedspace.catalog.index.ann.built import build_index
from embedspace.catalog.index.ann.files import index_path, save_index
from embedspace.catalog.index.ann.search import search_index
from embedspace.catalog.index.exact import Best
from embedspace.catalog.index.runs import Rows
from embedspace.catalog.index.scan import scan_items
from embedspace.catalog.store.vectors import SegmentRows

SETTINGS = Path(__file__).parent / "settings"
RESULTS = Path(__file__).parent / "results"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one kind of index settings gave."""

    settings: str
    recall_at_10: float
    latency_ms_median: float
    latency_ms_p95: float
    build_seconds: float
    index_megabytes: float


class Synthetic:
    """Clustered unit vectors, and queries of another modality.

    Concepts of uneven size overlap on a manifold of lower dimension whose directions have uneven variance, as those of
    embeddings do. Queries are draws of their own, not copies of corpus vectors, and are shifted as a whole: the
    modality gap. Uniformly random vectors would be harder than any real collection, well separated clusters easier.
    """

    def __init__(self, count: int, embed_dim: int, seed: int) -> None:
        """Prepare to draw about `count` vectors around count / 50 centres."""
        self._rng = rng = np.random.default_rng(seed)
        self._spread = 1.0 / np.sqrt(np.arange(1, 129))
        self._basis = rng.normal(size=(128, embed_dim)) / np.sqrt(128)
        self._centres = rng.normal(size=(max(count // 50, 1), 128)) * self._spread
        weights = 1.0 / np.arange(1, len(self._centres) + 1) ** 0.5
        self._weights = weights / weights.sum()
        self._gap = 0.5 * np.linalg.norm(self._draw(1)) * _unit(rng.normal(size=(1, embed_dim)))

    def _draw(self, number: int) -> NDArray[np.float64]:
        chosen = self._rng.choice(len(self._centres), size=number, p=self._weights)
        points: NDArray[np.float64] = self._centres[chosen] + self._rng.normal(size=(number, 128)) * self._spread
        return points @ self._basis

    def corpus(self, number: int) -> NDArray[np.float32]:
        """Draw (number, embed_dim) vectors to search in."""
        return _unit(self._draw(number))

    def queries(self, number: int) -> NDArray[np.float32]:
        """Draw (number, embed_dim) vectors to search for."""
        return _unit(self._draw(number) + self._gap)


def synthetic(count: int, embed_dim: int, queries: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (count, embed_dim) vectors and (queries, embed_dim) queries, see `Synthetic`."""
    source = Synthetic(count, embed_dim, seed)
    return source.corpus(count), source.queries(queries)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def from_catalog(path: Path, modality: str, queries: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the vectors of a catalog, and some of them, disturbed, as queries."""
    with Catalog.open(path, read_only=True) as catalog:
        _, corpus = catalog.vectors(modality)
    rng = np.random.default_rng(seed)
    chosen = corpus[rng.choice(len(corpus), min(queries, len(corpus)), replace=False)]
    return corpus, _unit(chosen + 0.5 / np.sqrt(corpus.shape[1]) * rng.normal(size=chosen.shape))


def as_rows(vectors: NDArray[np.float32]) -> Rows:
    """Return vectors as a catalog would hold them, one item each."""
    number = np.arange(1, len(vectors) + 1, dtype=np.int64)
    key = np.stack([np.zeros(len(vectors), np.uint64), number.astype(np.uint64)], axis=1)
    return Rows.of(SegmentRows(number, number, key, vectors.astype(np.float16)))


def measure(rows: Rows, queries: NDArray[np.float32], settings: IndexSettings, truth: list[Best]) -> Outcome:
    """Build, save and search one index."""
    started = time.perf_counter()
    ann = None if settings.index == "exact" else build_index(rows, settings)
    built = time.perf_counter() - started
    size = 0.0
    if ann is not None:
        with tempfile.TemporaryDirectory() as folder:
            path = index_path(Path(folder), "sweep")
            save_index(ann, path, "sweep", queries.shape[1])
            size = path.stat().st_size / 1e6
    times, found = [], 0
    for number, query in enumerate(queries):
        started = time.perf_counter()
        one = query[None]
        best = scan_items(rows, one, 10)[0] if ann is None else search_index(ann, rows, one, 10)[0]
        times.append((time.perf_counter() - started) * 1e3)
        found += len(np.intersect1d(best.rows, truth[number].rows))
    recall = found / (10 * len(queries))
    median, p95 = np.percentile(times, [50, 95]).round(3).tolist()
    return Outcome(settings.name, round(recall, 4), median, p95, round(built, 2), round(size, 1))


def table(facts: dict[str, Any], outcomes: list[Outcome]) -> str:
    """Return the Markdown table."""
    lines = [
        f"# {facts['name']}",
        "",
        f"{facts['vectors']:,} vectors of {facts['embed_dim']} ({facts['origin']}), {facts['queries']} queries, "
        f"{facts['search_threads']} thread, FAISS {facts['faiss']}, numpy {facts['numpy']}. The float16 vectors that "
        f"all settings have beside their index take {facts['packed_megabytes']} MB. Made by `{facts['command']}`.",
        "",
        "| settings | recall@10 against exact | median ms | p95 ms | build s | index MB |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.settings} | {one.recall_at_10:.3f} | {one.latency_ms_median:.2f} | {one.latency_ms_p95:.2f} "
        f"| {one.build_seconds:.1f} | {one.index_megabytes:.0f} |"
        for one in outcomes
    ]
    return "\n".join(lines) + "\n"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--embed-dim", type=int, default=256)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--catalog", type=Path, help="use the vectors of this catalog")
    parser.add_argument("--modality", default="image")
    parser.add_argument("--settings", "--recipes", type=Path, nargs="*", default=sorted(SETTINGS.glob("*.toml")))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", help="of the result files")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


def main() -> None:
    """Run the sweep."""
    given = arguments()
    if given.catalog:
        corpus, queries = from_catalog(given.catalog, given.modality, given.queries, given.seed)
        origin, command = f"{given.modality} of {given.catalog.name}", f"--catalog {given.catalog.name}"
    else:
        corpus, queries = synthetic(given.vectors, given.embed_dim, given.queries, given.seed)
        origin, command = f"synthetic, clustered, seed {given.seed}", f"--vectors {given.vectors}"
    faiss.omp_set_num_threads(1)
    rows = as_rows(corpus)
    truth = scan_items(rows, queries, 10)
    facts = {
        "name": given.name or f"sweep-{len(corpus)}x{corpus.shape[1]}",
        "origin": origin,
        "command": f"python -m indexes.sweep {command}",
        "vectors": len(corpus),
        "embed_dim": corpus.shape[1],
        "queries": len(queries),
        "seed": given.seed,
        "search_threads": 1,
        "cpus": os.cpu_count(),
        "faiss": faiss.__version__,
        "numpy": np.__version__,
        "packed_megabytes": round(corpus.nbytes / 2e6),
    }
    outcomes = []
    for path in given.settings:
        outcomes.append(measure(rows, queries, IndexSettings.from_toml(path), truth))
        print(json.dumps(dataclasses.asdict(outcomes[-1])), flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    result = facts | {"outcomes": [dataclasses.asdict(one) for one in outcomes]}
    (given.out / f"{facts['name']}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (given.out / f"{facts['name']}.md").write_text(table(facts, outcomes), encoding="utf-8")


if __name__ == "__main__":
    main()
