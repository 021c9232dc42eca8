"""How soon the page shows an answer in Chromium, and what it loads.

    python -m eval.bench.bench_page                     # 10,000 items, the shipped space; needs Chromium

The catalog holds drawn pictures, tones and texts, each with its file. Only their vectors are made up: those of a
subject lie around the vector of its words, so that words which are asked find a screen of good matches. The query goes
through the word tower, the catalog, the thumbnails and waveforms as it does for a person.

A run types words that were not asked before and presses Enter. One clock is read, the page's own: from the key event to
the frame that shows the first cards (`cards_ms`), and to the frame after every picture and waveform on the screen is
there, decoded (`screen_ms`). Nobody saw these thumbnails before, so the server makes them then. `again_ms` is the same
screen for a second visitor, whose browser has nothing while the server has them. `first_ms` is the first search of a
new server. Medians, the fastest and the slowest (of a machine with other work only the fastest tells much); a picture
that does not load ends the bench.
"""

from __future__ import annotations

import argparse
import colorsys
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from embedspace.catalog import Catalog, CatalogItem
from embedspace.segment import Segment
from embedspace.space import EmbeddingSpace
from eval.bench.common import arguments, report, wav

PAGE = Path(__file__).parents[2] / "embedspace" / "serve" / "page"
WORDS = ("red", "small", "loud", "old", "wooden", "bright", "round", "cold")
THINGS = ("bicycle", "violin", "owl", "harbour", "cake", "engine", "garden", "storm", "kitchen", "mountain")
SUBJECTS = [f"a {word} {thing}" for thing in THINGS for word in WORDS]
SPREAD = 0.8
"""Length of what is added to a subject's vector, of length 1."""
ON_SCREEN = ("shown", "pictures", "waveforms")
LIMITS = {"limit_ms": 300, "limit_script_bytes": 60_000, "limit_requests": 12}
WATCH = """() => {
  const painted = () => new Promise((resolve) => requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => resolve(performance.now());
    port2.postMessage(null);
  }));
  const before = document.querySelector(".found .card");
  const isSeen = (node) => {
    const box = node.getBoundingClientRect();
    return box.height > 0 && box.top < innerHeight && box.bottom > 0;
  };
  const seen = (what) => [...document.querySelectorAll(`.found ${what}`)].filter(isSeen);
  window.answered = (async () => {
    const enter = await new Promise((resolve) => addEventListener("keydown", (event) => {
      if (event.key === "Enter") resolve(event.timeStamp);
    }, { capture: true, once: true }));
    const isNew = () => ![before, null].includes(document.querySelector(".found .card"));
    while (!isNew()) await painted();
    const cards = await painted() - enter;
    const isThere = () => seen("img").every((image) => image.complete && image.naturalWidth > 0)
      && seen(".wave").every((wave) => wave.querySelector(".bars"));
    while (!isThere()) {
      if (performance.now() - enter > 60000) throw new Error("the screen was not complete within a minute");
      await painted();
    }
    if (seen(".gone").length) throw new Error("a picture did not load");
    await Promise.all(seen("img").map((image) => image.decode()));
    const screen = await painted() - enter;
    const [pictures, waveforms, shown] = ["img", ".wave", ".card"].map((what) => seen(what).length);
    return { cards, screen, pictures, waveforms, shown };
  })();
}"""


def media(count: int, vectors: np.ndarray, folder: Path) -> Iterator[CatalogItem]:
    """Yield items of one segment each: pictures, tones and texts in turn, each subject as often as the others.

    Args:
        count: Items.
        vectors: Unit vectors of the subjects' words, (len(SUBJECTS), embed_dim).
        folder: Where the files go.
    """
    rng = np.random.default_rng(0)
    for number in range(count):
        kind, subject = ("image", "audio", "text")[number % 3], number // 3 % len(SUBJECTS)
        apart = rng.normal(size=vectors.shape[1])
        vector = vectors[subject] + SPREAD * rng.uniform(0.5, 1.5) * apart / np.linalg.norm(apart)
        segment = Segment(kind, (vector / np.linalg.norm(vector)).astype(np.float32))
        path = folder / f"{SUBJECTS[subject].replace(' ', '-')}-{number}"
        if kind == "image":
            path = path.with_suffix(".jpg")
            drawing(rng).save(path, quality=88)
        elif kind == "audio":
            path = path.with_suffix(".wav")
            path.write_bytes(wav(tone(rng)))
        else:
            path = path.with_suffix(".txt")
            path.write_text(f"{SUBJECTS[subject]}, told for the {number}th time", "utf-8")
            segment = Segment("text", segment.vector, text=path.read_text("utf-8"))
        about = path.stat()
        facts = {"year": 1990 + number % 30}
        yield CatalogItem(str(path), kind, [segment], facts, size=about.st_size, mtime_ns=about.st_mtime_ns)


def drawing(rng: np.random.Generator) -> Image.Image:
    """Return a picture of 640 by 480 with some discs on it."""
    colours = [tuple(int(255 * part) for part in colorsys.hsv_to_rgb(rng.random(), 0.55, 0.9)) for _ in range(7)]
    picture = Image.new("RGB", (640, 480), colours[0])
    for colour in colours[1:]:
        x, y, radius = rng.integers(0, 640), rng.integers(0, 480), rng.integers(30, 160)
        ImageDraw.Draw(picture).ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return picture


def tone(rng: np.random.Generator) -> np.ndarray:
    """Return one second of a tone that swells and fades, at 16 kHz."""
    seconds = np.arange(16_000) / 16_000
    return np.sin(2 * np.pi * rng.uniform(200, 900) * seconds) * np.sin(np.pi * seconds * rng.integers(1, 6)) * 0.7


@contextlib.contextmanager
def serving(catalog: Path, port: int) -> Iterator[str]:
    """Serve a catalog; yields where, when it answers searches."""
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "embedspace.cli", "serve", str(catalog), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/ready", timeout=5):
                break
            if server.poll() is not None:
                raise SystemExit(f"the server ended with {server.returncode}")
            time.sleep(0.2)
        yield url
    finally:
        server.terminate()
        server.wait()


def loaded(browser: Any, url: str) -> dict[str, int]:  # noqa: ANN401
    """Return what the first load fetches: requests, and bytes of scripts as they are and as they travel."""
    page, seen = browser.new_page(), list[Any]()
    page.on("requestfinished", lambda request: seen.append(request))
    page.goto(url)
    page.locator(".home").wait_for()
    page.wait_for_load_state("networkidle")
    scripts = [request for request in seen if request.url.endswith(".js")]
    found = {
        "requests": len(seen),
        "script_requests": len(scripts),
        "script_bytes": sum(len(request.response().body()) for request in scripts),
        "script_bytes_sent": sum(request.sizes()["responseBodySize"] for request in scripts),
    }
    page.close()
    return found


def all_scripts(url: str) -> dict[str, int]:
    """Return the bytes of all modules together, as they are and as they travel."""
    modules = sorted(PAGE.rglob("*.js"))
    sent = 0
    for module in modules:
        asked = urllib.request.Request(
            f"{url}/{module.relative_to(PAGE).as_posix()}", headers={"Accept-Encoding": "gzip"}
        )
        with urllib.request.urlopen(asked) as answer:
            sent += len(answer.read())
    raw = sum(module.stat().st_size for module in modules)
    return {"modules": len(modules), "all_script_bytes": raw, "all_script_bytes_sent": sent}


def ask(page: Any, words: str) -> dict[str, float]:  # noqa: ANN401
    """Type words and press Enter; returns the milliseconds of the page and the server, and what is on the screen."""
    field = page.get_by_role("searchbox", name="Words to search with")
    field.fill(words)
    page.evaluate(WATCH)
    with page.expect_response("**/api/search") as answered:
        field.press("Enter")
    told: dict[str, float] = page.evaluate("window.answered")
    return {**told, "server": answered.value.json()["took_ms"]}


def visitor(browser: Any, url: str, to: str = "") -> Any:  # noqa: ANN401
    """Open the page as somebody who was never here."""
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.goto(f"{url}/?to={to}")
    page.locator(".home").wait_for()
    return page


def measure(browser: Any, url: str, given: argparse.Namespace) -> dict[str, Any]:  # noqa: ANN401
    """Ask for everything, pictures alone, sounds alone, each with words of its own, and again as another visitor."""
    asked = iter(SUBJECTS)
    first = ask(visitor(browser, url), next(asked))
    figures: dict[str, Any] = {"first_ms": round(first["screen"])}
    for name, to in (("everything", ""), ("pictures", "image"), ("sounds", "audio")):
        words = [next(asked) for _ in range(given.runs)]
        page, other = visitor(browser, url, to), visitor(browser, url, to)
        new = [ask(page, text) for text in words]
        again = [ask(other, text) for text in words]
        page.context.close()
        other.context.close()
        figures[name] = {
            "on_screen": {what: int(statistics.median(run[what] for run in new)) for what in ON_SCREEN},
            **summary("cards_ms", [run["cards"] for run in new]),
            **summary("screen_ms", [run["screen"] for run in new]),
            **summary("again_ms", [run["screen"] for run in again]),
            **summary("server_ms", [run["server"] for run in new]),
        }  # fmt: skip
    return figures


def summary(name: str, values: list[float]) -> dict[str, int]:
    """Return the median, the least and the most; none may be negative: a clock was misread then."""
    assert min(values) >= 0, values
    return {
        name: round(statistics.median(values)),
        f"fastest_{name}": round(min(values)),
        f"slowest_{name}": round(max(values)),
    }


def main() -> None:
    """Run it."""
    from playwright.sync_api import sync_playwright

    parser = arguments(__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--port", type=int, default=7996)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    given = parser.parse_args()
    space = EmbeddingSpace.from_pretrained(given.weights)
    vectors = space.encode(SUBJECTS)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        path = Path(temporary) / "bench.catalog"
        about = {"fingerprints": space.fingerprints(), "calibration_json": space.calibration_json()}
        with Catalog.create(path, embed_dim=space.embed_dim, **about) as catalog:
            catalog.add(media(given.items, vectors, Path(temporary)))
        browser = playwright.chromium.launch(executable_path=given.chromium, args=["--no-sandbox"])
        with serving(path, given.port) as url:
            costs = {**loaded(browser, url), **all_scripts(url)}
            figures = measure(browser, url, given)
        browser.close()
    report(given, "page", items=given.items, runs=given.runs, **figures, **costs, **LIMITS)


if __name__ == "__main__":
    main()
