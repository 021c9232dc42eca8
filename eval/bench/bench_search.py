"""How long one search takes: cold from the command line, and warm in Python.

    python -m eval.bench.bench_search                   # 10,000 items of one segment, the shipped space
    python -m eval.bench.bench_search --fake            # the catalog's share alone, without an encoder

Cold: the wall time of `embedspace search CATALOG "a barking dog"` in a new process, against that of
`python -c "import torch, faiss"`, alternating, medians. Warm: `Catalog.search` in a running process.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from embedspace.catalog import Catalog, CatalogItem
from embedspace.segment import Segment
from eval.bench.common import arguments, encoder_of, report

IMPORTS = "import torch, faiss"
FAKE = """
import sys, numpy as np
from embedspace.catalog import Catalog
with Catalog.open(sys.argv[1], read_only=True) as catalog:
    assert len(catalog.search(np.ones(catalog.embed_dim), query_modality="text", k=10)[0]) == 10
"""


def items(count: int, embed_dim: int) -> Iterator[CatalogItem]:
    """Yield items of one segment each, the four modalities in turn."""
    rng = np.random.default_rng(0)
    for number in range(count):
        modality = ("image", "audio", "text", "speech")[number % 4]
        vector = rng.normal(size=embed_dim).astype(np.float32)
        kind = "audio" if modality == "speech" else modality
        facts = {"title": f"number {number}", "duration": number / 7}
        yield CatalogItem(f"/media/{number}", kind, [Segment(modality, vector / np.linalg.norm(vector))], facts)


def wall(command: list[str]) -> float:
    """Return the wall time of a process in seconds."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def warm(catalog: Catalog, runs: int, *, to: str | None = None, where: str | None = None) -> float:
    """Return the median milliseconds of a search, each with another query."""
    rng = np.random.default_rng(1)
    times = []
    for query in rng.normal(size=(runs, catalog.embed_dim)).astype(np.float32):
        started = time.perf_counter()
        catalog.search(query, query_modality="text", k=10, to=to, where=where)
        times.append((time.perf_counter() - started) * 1e3)
    return round(statistics.median(times[1:]), 2)


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=7)
    given = parser.parse_args()
    encoder = encoder_of(given)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "bench.catalog"
        with Catalog.create(
            path, embed_dim=encoder.embed_dim, fingerprints=encoder.fingerprints(),
            calibration_json=encoder.calibration_json(),
        ) as catalog:  # fmt: skip
            catalog.add(items(given.items, encoder.embed_dim))
        search = [sys.executable, "-m", "embedspace.cli", "search", str(path), "a barking dog"]
        if given.weights:
            search += ["--weights", given.weights]
        if given.fake:
            search = [sys.executable, "-c", FAKE, str(path)]
        imports = [sys.executable, "-c", IMPORTS]
        pairs = [(wall(imports), wall(search)) for _ in range(given.runs)][1:]  # the first fills the page cache
        base, cold = (statistics.median(column) for column in zip(*pairs, strict=True))
        with Catalog.open(path, read_only=True) as catalog:
            started = time.perf_counter()
            catalog.search(np.ones(encoder.embed_dim), query_modality="text")
            first = (time.perf_counter() - started) * 1e3
            figures = {
                "warm_ms": warm(catalog, 50),
                "warm_one_modality_ms": warm(catalog, 50, to="image"),
                "warm_filtered_ms": warm(catalog, 50, where="duration < 100 and title like '%1%'"),
            }
    report(
        given, "search", items=given.items, fake=given.fake, cold_seconds=round(cold, 3), import_seconds=round(base, 3),
        cold_over_import=round(cold / base, 2), limit_cold_over_import=2.0, first_in_process_ms=round(first, 2),
        limit_warm_ms=20.0, **json.loads(json.dumps(figures)),
    )  # fmt: skip


if __name__ == "__main__":
    main()
