"""Chromium, a small real catalog of the shipped space, and real servers of it.

Debian's chromium is driven (apt-get install chromium). Where it is missing these tests fail in CI, which the variable
CI says, and are skipped elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

DATA = Path(__file__).parents[2] / "data"
PATIENCE = 30_000
"""Milliseconds."""
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FACTS = {
    "dog": ("animals", 2004), "cat": ("animals", 2005), "horse": ("animals", 2006), "owl": ("animals", 2006),
    "penguin": ("animals", 2007), "rooster": ("animals", 2006), "cow": ("animals", 2008), "strawberry": ("food", 2005),
    "cake": ("food", 2004), "violin": ("music", 2007), "bicycle": ("vehicles", 2004),
}  # fmt: skip
"""Picture -> folder and year, what filters ask for."""
TEXTS = ("a small dog barks at the postman", "a violin sonata in the evening", "how to bake a cake with strawberries")


def make_media(folder: Path) -> Path:
    """Write the media of the tests and the manifest that names them; returns the manifest."""
    for path in (DATA / "page").iterdir():
        shutil.copy(path, folder)
    shutil.copy(DATA / "penguin.ogg", folder / "said.ogg")
    dog, rooster = (soundfile.read(folder / f"{name}.ogg", dtype="float32") for name in ("dog", "rooster"))
    assert dog[1] == rooster[1]
    quiet = np.random.default_rng(0).normal(0, 1e-3, 6 * dog[1]).astype(np.float32)
    farm = np.concatenate([np.resize(dog[0], 6 * dog[1]), quiet, np.resize(rooster[0], 6 * dog[1])])
    soundfile.write(folder / "farm.flac", farm, dog[1])
    (folder / "broken.png").write_bytes(b"no picture at all")
    rows: list[dict[str, Any]] = [
        {"path": f"{name}.webp", "modality": "image", "folder": group, "year": year}
        for name, (group, year) in FACTS.items()
    ]
    rows += [{"path": f"{name}.ogg", "modality": "audio", "folder": "sounds"} for name in ("dog", "cat", "rooster")]
    rows += [{"path": "farm.flac", "modality": "audio", "folder": "sounds"}, {"path": "said.ogg", "modality": "speech"}]
    rows += [{"path": "broken.png", "modality": "image"}]
    rows += [{"id": f"text {number}", "modality": "text", "text": text} for number, text in enumerate(TEXTS)]
    manifest = folder / "media.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return manifest


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the media."""
    folder = tmp_path_factory.mktemp("media")
    make_media(folder)
    return folder


@pytest.fixture(scope="session")
def catalog(media: Path) -> Path:
    """The catalog of the media. Not to be changed: servers that index get a copy."""
    folder = media.parent / "page.catalog"
    command = [
        sys.executable,
        "-m",
        "embedspace.cli",
        "index",
        str(media / "media.jsonl"),
        "--catalog",
        str(folder),
        "--quiet",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert folder.is_dir() and "broken.png" in done.stdout + done.stderr, done.stderr
    return folder


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def asked(url: str) -> Any:
    """Return what a server answers."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


@dataclass
class Server:
    """A real `embedspace serve` that can be ended and started again at the same address."""

    catalog: Path
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Server:
        """Start it and wait until it answers searches."""
        command = [
            sys.executable,
            "-m",
            "embedspace.cli",
            "serve",
            str(self.catalog),
            "--port",
            str(self.port),
            *self.options,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 90
        while time.monotonic() < until:
            assert self.process.poll() is None, f"{command} ended with {self.process.returncode}"
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/ready", timeout=5):
                return self
            time.sleep(0.1)
        raise AssertionError(f"{command} was not ready within 90 s")

    def stop(self) -> None:
        """End it and wait."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=30)
            self.process = None


@contextlib.contextmanager
def serving(catalog: Path, *options: str) -> Iterator[Server]:
    """Run a server while the block lasts."""
    server = Server(catalog, options)
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def server(catalog: Path) -> Iterator[Server]:
    """The server that tests share."""
    with serving(catalog) as started:
        asked(f"{started.url}/api/map")  # a process of its own makes it meanwhile
        yield started


def chromium() -> str:
    """Return Chromium's path; without it fail in CI, skip elsewhere."""
    for name in CHROMIUM:
        if found := shutil.which(name):
            return found
    missing = "no Chromium: apt-get install chromium"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture(scope="session")
def browser(media: Path) -> Iterator[Any]:
    """Chromium whose microphone says "A penguin."."""
    program = chromium()
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)  # the first picture or sound loads its encoder
    said, rate = soundfile.read(DATA / "penguin.ogg", dtype="float32")
    spoken = media.parent / "microphone.wav"
    soundfile.write(spoken, np.concatenate([said, np.zeros(rate // 2, np.float32)]), rate)
    flags = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    flags.append(f"--use-file-for-fake-audio-capture={spoken}")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, args=flags)
        yield launched
        launched.close()


@dataclass
class Visit:
    """A tab, and what went wrong in it."""

    page: Any
    errors: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()

    def unexpected(self) -> list[str]:
        """Return the errors that no test asked for."""
        return [error for error in self.errors if not any(part in error for part in self.expected)]


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visit]]:
    """Open a tab: `visit(url, width=1200, **context)`. An error in its console fails the test."""
    opened: list[tuple[Any, Visit]] = []

    def start(url: str, *, width: int = 1200, height: int = 900, **options: Any) -> Visit:
        context = browser.new_context(
            viewport={"width": width, "height": height}, permissions=["microphone"], **options
        )
        context.set_default_timeout(PATIENCE)
        visited = Visit(context.new_page())
        visited.page.on("console", lambda told: told.type == "error" and visited.errors.append(told.text))
        visited.page.on("pageerror", lambda error: visited.errors.append(str(error)))
        opened.append((context, visited))
        visited.page.goto(url)
        return visited

    yield start
    for context, visited in opened:
        context.close()
        assert visited.unexpected() == []


def violations(page: Any) -> list[tuple[str, str, list[str]]]:
    """Return what axe-core finds in light, and what of the colours in dark: nothing else differs."""
    from axe_playwright_python.sync_playwright import Axe

    told = []
    for theme, options in (("light", {}), ("dark", {"runOnly": "color-contrast"})):
        page.emulate_media(color_scheme=theme)
        for one in Axe().run(page, options={"resultTypes": ["violations"], **options}).response["violations"]:
            told.append((theme, one["id"], [node["html"][:120] for node in one["nodes"]][:3]))
    return told
