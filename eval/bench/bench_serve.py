"""How much the way over HTTP costs, and how much of the space a map keeps.

    python -m eval.bench.bench_serve                    # 32 clients over HTTP against 32 threads in one process
    python -m eval.bench.bench_serve --map CATALOG      # neighbours that a map of a catalog keeps

Both ways encode with the shipped space through the same batcher, search the same catalog of made-up vectors and run in
turn, several times: the figures are medians of each turn's ratio. The clients run in a process of their own and each
keeps its connection; they speak the least HTTP that there is, as on few cores a client's work is taken from the
server's. The threads call what the route calls, without a server: the encoder's queue, then the searches', which joins
what is asked alike; what they lack is HTTP, JSON and the event loop.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from embedspace.catalog import Catalog
from embedspace.serve.models import SearchRequest, TermRequest
from embedspace.serve.process import prepare_process
from embedspace.serve.processes.map import LANDMARKS, centred_rows, plane
from embedspace.serve.search.finding import finder_key
from embedspace.serve.server import Server, listen
from embedspace.serve.service import Service
from embedspace.serve.settings import Limits, ServeSettings
from embedspace.space import EmbeddingSpace
from eval.bench.bench_search import items
from eval.bench.common import arguments, report

HEAD = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
WORDS = (
    "red blue old small wooden bright dog cat bird rain wind car drum violin cake soup tree river door clock".split()
)
CLIENT = """
import asyncio, json, sys, time
from eval.bench.bench_serve import ask
started = time.perf_counter()
each = asyncio.run(ask(sys.argv[1], *map(int, sys.argv[2:])))
print(json.dumps({"each": each, "all": time.perf_counter() - started}))
"""


def texts(count: int, seed: int) -> list[str]:
    """Return queries of two to six words, no two alike in a run."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(2, 6))) + f" {number}" for number in range(count)]


async def ask(address: str, clients: int, count: int, seed: int) -> list[float]:
    """Search over HTTP with so many clients, `count` times in all; returns seconds of each."""
    waiting, seconds = iter(texts(count, seed)), []

    host, _, port = address.removeprefix("http://").rpartition(":")

    async def one() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for text in waiting:
            body = json.dumps({"terms": [{"text": text}], "k": 12}).encode()
            started = time.perf_counter()
            writer.write(HEAD % len(body) + body)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split()[0]))
            seconds.append(time.perf_counter() - started)
        writer.close()

    await asyncio.gather(*(one() for _ in range(clients)))
    return seconds


def call(service: Service, threads: int, count: int, seed: int) -> list[float]:
    """Do the same in this process with so many threads: the same queues, composition and search, no server."""
    waiting, lock = iter(texts(count, seed)), threading.Lock()

    def one(_: int) -> list[float]:
        seconds: list[float] = []
        while True:
            with lock:
                text = next(waiting, None)
            if text is None:
                return seconds
            started = time.perf_counter()
            asked = SearchRequest(terms=[TermRequest(text=text)], k=12)
            item = service.queries.decode_text(text)
            item.is_query = True
            rows = [segments[0].vector for segments in service.batcher.encode_decoded([item])]
            terms = service.queries.sources(asked.terms, rows)
            assert service.finder.submit(finder_key(asked), (asked, terms)).result().hits
            seconds.append(time.perf_counter() - started)

    with ThreadPoolExecutor(threads) as pool:
        return list(itertools.chain(*pool.map(one, range(threads))))


class Serving:
    """A server of a catalog of made-up vectors, in a thread of this process."""

    def __init__(self, folder: Path, count: int, limits: Limits) -> None:
        space = EmbeddingSpace.from_pretrained()
        with Catalog.create(
            folder / "media.catalog",
            embed_dim=space.embed_dim,
            fingerprints=space.fingerprints(),
            calibration_json=space.calibration_json(),
        ) as catalog:
            catalog.add(items(count, space.embed_dim))
        settings = ServeSettings(folder / "media.catalog", port=0, limits=limits)
        self.service, listening = Service(settings, space), threading.Event()
        self.server = Server(self.service, announce=lambda _: listening.set())
        self._thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listen(settings)]})
        self._thread.start()
        listening.wait()
        while not self.service.is_ready:
            time.sleep(0.1)

    def clients(self, clients: int, count: int, seed: int) -> tuple[list[float], float]:
        """Search from another process; returns seconds of each search, and of all together."""
        command = [sys.executable, "-c", CLIENT, self.server.address, str(clients), str(count), str(seed)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return found["each"], found["all"]

    def close(self) -> None:
        """End the server."""
        self.server.should_exit = True
        self._thread.join()


def compare(given: argparse.Namespace) -> dict[str, Any]:
    """Measure both ways in turn."""
    over, within = [], []
    with tempfile.TemporaryDirectory() as folder:
        prepare_process()  # as `serve` does
        serving = Serving(Path(folder), given.items, Limits())
        try:
            call(serving.service, 4, 40, 99)
            serving.clients(4, 40, 98)
            for run in range(given.runs):
                started = time.perf_counter()
                each = call(serving.service, given.clients, given.searches, 2 * run)
                within.append(_figures(each, time.perf_counter() - started))
                over.append(_figures(*serving.clients(given.clients, given.searches, 2 * run + 1)))
        finally:
            serving.close()
    ratios = {name: [round(a[name] / b[name], 3) for a, b in zip(over, within, strict=True)] for name in over[0]}
    return {
        "items": given.items,
        "clients": given.clients,
        "searches": given.searches,
        "p95_ratio": statistics.median(ratios["p95_ms"]),
        "throughput_ratio": statistics.median(ratios["per_second"]),
        "ratios": ratios,
        "http": over,
        "threads": within,
    }


def _figures(each: list[float], seconds: float) -> dict[str, float]:
    p50, p95 = np.percentile(np.array(each) * 1000, [50, 95])
    return {"p50_ms": round(float(p50), 1), "p95_ms": round(float(p95), 1), "per_second": round(len(each) / seconds, 1)}


# -- the map -----------------------------------------------------------------------------------------------------------


def kept_neighbours(path: Path, k: int = 10) -> dict[str, Any]:
    """Return which share of each item's k nearest landmarks is among its k nearest on the map."""
    with Catalog.open(path, read_only=True) as catalog:
        about, vectors = catalog.landmarks(LANDMARKS)
        means = dict(catalog.calibration.means)
    rows = centred_rows(vectors, [modality for _, modality, *_ in about], means)
    wanted, found = _nearest(-rows @ rows.T, k), {}
    for method in ("t-SNE", "PCA"):
        started = time.perf_counter()
        points = plane(rows, method)
        near = _nearest(np.linalg.norm(points[:, None] - points[None], axis=2), k)
        shares = [len(set(a) & set(b)) / k for a, b in zip(wanted.tolist(), near.tolist(), strict=True)]
        found[method] = {"kept": round(float(np.mean(shares)), 3), "seconds": round(time.perf_counter() - started, 1)}
    return {"landmarks": len(rows), "k": k, "chance": round(k / max(len(rows) - 1, 1), 4), **found}


def _nearest(distances: np.ndarray, k: int) -> np.ndarray:
    np.fill_diagonal(distances, np.inf)
    return np.argpartition(distances, k, axis=1)[:, :k]


def main() -> None:
    """Measure, and print one JSON line."""
    parser = arguments(__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--searches", type=int, default=600, help="of each run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--map", type=Path, metavar="CATALOG", help="neighbours that the map of a catalog keeps instead"
    )
    given = parser.parse_args()
    if given.map is not None:
        report(given, "serve_map", **kept_neighbours(given.map))
    else:
        report(given, "serve", **compare(given))


if __name__ == "__main__":
    main()
