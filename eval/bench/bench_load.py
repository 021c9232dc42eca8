"""What a server does when too much is asked of it for long: its answers by status, and its memory minute by minute.

    python -m eval.bench.bench_load --minutes 30 --out eval/results/bench

The server is the command `embedspace serve` in a process of its own, with the limits that it has by default. Its
catalog holds small files of every kind, indexed by the shipped space, beside made-up vectors. Twice as many clients as
the encoder's queue takes ask in turn, as fast as they are answered, for all that a page and programs ask for: searches
with filters and groups, embeddings, files to search with, items with their pictures, sounds and originals, the page
itself. Some send nonsense, some leave before the answer, and one has something generated again and again.

Memory is what is the process' own (anonymous, resident), read every five seconds; per minute the median is kept. The
slope is a line by least squares through the last two thirds of the time.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from embedspace.catalog import Catalog
from embedspace.serve.settings import Limits
from eval.bench.bench_search import items
from eval.bench.bench_serve import WORDS
from eval.bench.common import arguments, make_media, report, wav

EVERY = 5.0
"""Seconds between two readings of memory."""
MOST_SLOPE = 0.5
"""Megabytes per minute: more is no flat line."""
PRESS = """
import asyncio, json, sys
from eval.bench.bench_load import press
print(json.dumps(asyncio.run(press(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4].split(",")))))
"""

PARTS = {"image": ("/thumbnail", "/preview"), "audio": ("/waveform", "/preview"), "text": ()}
"""Kind of an item -> what is made of its file."""

Asked = tuple[str, str, bytes, str]
"""Method, path, body, its type."""


class Client:
    """One that keeps its connection, and speaks the least HTTP that there is."""

    def __init__(self, address: str) -> None:
        host, _, port = address.removeprefix("http://").rpartition(":")
        self._place = host, int(port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, asked: Asked) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of an answer."""
        method, path, body, kind = asked
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._place)
        reader, writer = self._streams
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}Content-Type: {kind}\r\n\r\n".encode() + body)
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().strip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        if "content-length" in headers:
            content = await reader.readexactly(int(headers["content-length"]))
        else:
            content = b"".join([part async for part in _chunks(reader)])
        if headers.get("connection") == "close":
            self.leave()
        return int(first.split()[1]), headers, content

    def leave(self) -> None:
        """Go, whatever is still to come."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


async def _chunks(reader: asyncio.StreamReader) -> Any:  # noqa: ANN401 - an iterator of bytes
    while size := int(await reader.readline(), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)


async def press(address: str, minutes: float, clients: int, ids: list[str]) -> dict[str, int]:
    """Ask in many ways at once until the time is over; returns how often each status came."""
    ends, found, files = time.monotonic() + 60 * minutes, Counter[str](), _files()

    async def one(number: int) -> None:
        draw, client = random.Random(number), Client(address)
        while time.monotonic() < ends:
            try:
                found[await (_generate(client, draw) if number == 0 else _something(client, draw, ids, files))] += 1
            except (OSError, asyncio.IncompleteReadError) as error:
                found[type(error).__name__] += 1
                client.leave()
        client.leave()

    await asyncio.gather(*(one(number) for number in range(clients)))
    return found


async def _something(client: Client, draw: random.Random, ids: list[str], files: list[tuple[bytes, str]]) -> str:
    """Do one thing of a page or a program; a 429 is waited for as it says."""
    share = draw.random()
    if share < 0.02:  # leaves before the answer
        try:
            async with asyncio.timeout(0.01):
                await client.ask(_search(draw))
        except TimeoutError:
            client.leave()
        return "left"
    status, headers, _ = await client.ask(_asked(share, draw, ids, files))
    if status == 429:
        await asyncio.sleep(draw.random() * float(headers["retry-after"]))
    return str(status)


def _asked(share: float, draw: random.Random, ids: list[str], files: list[tuple[bytes, str]]) -> Asked:
    if share < 0.5:
        return _search(draw)
    if share < 0.72:
        return _json("/v1/embeddings", {"input": [_text(draw) for _ in range(draw.randint(1, 8))]})
    if share < 0.78:
        return "POST", "/api/queries", *draw.choice(files)
    if share < 0.93:
        kind, _, item = draw.choice(ids).partition("-")
        of = f"/api/items/{item}"
        return "GET", of + draw.choice(("", "/media", *PARTS[kind])), b"", "text/html"
    if share < 0.97:
        return "GET", draw.choice(("/", "/api/catalog", "/metrics", "/health", "/openapi.json")), b"", "text/html"
    return "POST", "/api/search", b"{broken", "application/json"


def _search(draw: random.Random) -> Asked:
    asked: dict[str, Any] = {"terms": [{"text": _text(draw)}], "grouped": draw.random() < 0.3}
    if draw.random() < 0.2:
        asked["where"] = f"duration < {draw.randint(1, 2000)} and title like '%{draw.randint(1, 99)}%'"
    return _json("/api/search", asked)


def _json(path: str, body: dict[str, Any]) -> Asked:
    return "POST", path, json.dumps(body).encode(), "application/json"


def _text(draw: random.Random) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randint(1, 8)))


async def _generate(client: Client, draw: random.Random) -> str:
    """Have a picture made, and wait for it."""
    asked = {"terms": [{"text": _text(draw)}], "to": "image", "count": 1}
    status, _, body = await client.ask(_json("/api/generate", asked))
    if status == 202:
        status, _, body = await client.ask(("GET", f"/api/jobs/{json.loads(body)['job']}/events", b"", "text/html"))
        await asyncio.sleep(5)
        return "generated" if b"event: done" in body else f"generation {body[-200:]!r}"
    await asyncio.sleep(5)
    return str(status)


def _files() -> list[tuple[bytes, str]]:
    rng, pictures = np.random.default_rng(0), []
    for side in (96, 400, 1200):
        written = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(written, "JPEG")
        pictures.append((written.getvalue(), "image/jpeg"))
    return [*pictures, (wav(rng.normal(size=5 * 16_000) * 0.1), "audio/wav")]


# -- the server --------------------------------------------------------------------------------------------------------


def fill(folder: Path, files: int, count: int) -> tuple[Path, list[str]]:
    """Make a catalog of small files and of made-up vectors; returns it, and "<kind>-<id>" of each file."""
    path = folder / "media.catalog"
    make_media(folder / "media", files, side=64, seconds=1.0)
    command = [sys.executable, "-m", "embedspace", "index", str(folder / "media"), "--catalog", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with Catalog.open(path) as catalog:
        ids = [f"{item.kind}-{item.id}" for item in catalog.items()]
        catalog.add(items(count, catalog.embed_dim))
    return path, ids


class Serving:
    """`embedspace serve` in a process of its own, and readings of its memory."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-m", "embedspace", "serve", str(path), "--port", "0"]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        said = iter(self._process.stderr.readline, "")
        self.address = next(line for line in said if " at http" in line).split(" at ")[1].split(";")[0]
        self.said: list[str] = []
        threading.Thread(target=lambda: self.said.extend(said), daemon=True).start()

    def memory(self) -> float:
        """Return the anonymous resident memory in megabytes."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("RssAnon:")).split()[1]) / 1024

    def files(self) -> int:
        """Return how many files and connections are open."""
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))

    def close(self) -> int:
        """End it; returns the exit code."""
        self._process.terminate()
        return self._process.wait(60)


def load(given: argparse.Namespace) -> dict[str, Any]:
    """Press for some minutes."""
    clients = 2 * Limits().queue
    with tempfile.TemporaryDirectory() as folder:
        path, ids = fill(Path(folder), given.files, given.items)
        serving = Serving(path)
        memory: list[float] = []
        command = [sys.executable, "-c", PRESS, serving.address, str(given.minutes), str(clients), ",".join(ids)]
        try:
            pressing = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            while pressing.poll() is None:
                memory.append(serving.memory())
                time.sleep(EVERY)
            answers = json.loads(pressing.communicate()[0])
            time.sleep(EVERY)
            after, files = serving.memory(), serving.files()
        finally:
            code = serving.close()
    errors = sum(n for status, n in answers.items() if not status.startswith(("2", "4", "left", "generated")))
    slope = slope_of(memory)
    return {
        "minutes": given.minutes,
        "clients": clients,
        "items": given.files + given.items,
        "answers": dict(sorted(answers.items())),
        "server_errors": errors,
        "exit_code": code,
        "said": [line.replace(f"{Path.cwd()}/", "") for line in serving.said[-20:]],
        "memory_mb_by_minute": by_minute(memory),
        "memory_mb_when_all_left": round(after, 1),
        "open_files_when_all_left": files,
        "slope_mb_per_minute": slope,
        "most_slope_mb_per_minute": MOST_SLOPE,
        "is_flat": slope <= MOST_SLOPE,
    }


def by_minute(memory: list[float]) -> list[float]:
    """Return the median of each minute's readings."""
    each = round(60 / EVERY)
    return [round(float(np.median(memory[at : at + each])), 1) for at in range(0, len(memory), each)]


def slope_of(memory: list[float]) -> float:
    """Return the slope through the last two thirds of readings, in megabytes per minute."""
    late = np.asarray(memory[len(memory) // 3 :])
    return round(float(np.polyfit(np.arange(len(late)) * EVERY / 60, late, 1)[0]), 3)


def main() -> None:
    """Measure, and print one JSON line."""
    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--files", type=int, default=240, help="small files that are indexed")
    parser.add_argument("--items", type=int, default=10_000, help="made-up vectors beside them")
    given = parser.parse_args()
    report(given, "serve_load", **load(given))


if __name__ == "__main__":
    main()
