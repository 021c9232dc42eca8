"""The pictures of the page in docs/page: every view, light and dark, of a catalog of real media.

    python -m training.corpora openclipart emoji-fluent sounds instruments     # once; hours less than all corpora
    python -m indexes.screenshots                       # builds a catalog in demo/, serves it, writes docs/page/*.webp
    python -m indexes.screenshots --folder /srv/pictures --views item map

The media are laid out as a person would keep them, in folders and with names, since the pages show both.
The media are those whose licences ask for no more than a name (NOTICE): Open Clip Art's CC0 pictures, Microsoft's
Fluent emoji (MIT), sounds under CC0 and instruments of FluidR3 (MIT), and captions, some said by Piper's voice joe
(CC0). Needs Chromium (Debian: apt-get install chromium fonts-inter) and what `make test` installs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from embedspace.cli import main as embedspace

__all__ = ["media_rows"]

CORPORA = Path("build/corpora")
EDITED = Path("tests/data/page/strawberry.webp")
CLIP_ART = {"animals": 2, "food": 4, "plants": 2, "transportation": 3, "buildings": 2, "recreation": 6}
"""Folder of Open Clip Art -> every how many-th of its pictures is taken."""
EMOJI = {"animals-nature": 2, "food-drink": 2, "travel-places": 3, "activities": 2, "objects": 4}
SAID, LATER = 24, 120
"""Captions that are said, and pictures that are put into the watched folder while the status is photographed."""
VIEWS = {
    "results": "/?text=a+bird&k=24",
    "composed": "/?text=a+horse&text=black+and+white+stripes&to=image",
    "kinds": "/?text=a+musical+instrument&group=1",
    "filters": "/?text=food&where=folder+%3D+%27food-drink%27&to=image",
    "weak": "/?text=an+annual+report&to=speech",
    "item": "/?text=an+owl&to=image",
    "map": "/?view=map",
    "make": "/?view=make&to=image&text=a+violin&seed=7",
    "edit": "/?view=make&to=image&text=a+green+apple&seed=7&count=2",
    "status": "/?view=status",
}
READY = {"map": ".points a", "kinds": "section .card", "weak": "details", "status": ".failures li"}
"""View -> what is there when it is complete; elsewhere a hit."""


def _manifest(source: str) -> Iterator[dict[str, Any]]:
    for line in (CORPORA / source / "manifest.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        if row["licence"] in ("CC0-1.0", "MIT"):
            yield row


def _kept(found: dict[str, Any], media: Path, folder: str, caption: str = "") -> dict[str, Any]:
    """Copy an item into its folder, under a name that says what it is; returns its row."""
    caption = caption or found["captions"][0]
    name = re.sub(r"[^a-z0-9]+", "-", caption.lower()).strip("-")[:40]
    suffix, number = Path(found["path"]).suffix, 1
    (media / folder).mkdir(parents=True, exist_ok=True)
    while (path := media / folder / f"{name}{f'-{number}' if number > 1 else ''}{suffix}").exists():
        number += 1
    shutil.copyfile(CORPORA / found["path"], path)
    facts = {"caption": caption, "licence": found["licence"], "source": found["source"], "folder": folder}
    return {"path": str(path.absolute()), "modality": found["modality"], **facts}


def media_rows(media: Path) -> Iterator[dict[str, Any]]:
    """Lay out pictures, sounds, spoken captions and texts; yields a manifest row for each.

    Args:
        media: Their folder, empty before.
    """
    import soundfile

    from embedspace.generate.speech.voices import SAMPLE_RATE, speak

    counts: dict[str, int] = {}
    captions: list[str] = []

    def is_taken(group: str, step: int) -> bool:
        counts[group] = counts.get(group, -1) + 1
        return step > 0 and counts[group] % step == 0

    for found in _manifest("openclipart"):
        group = found["extra"]["folder"]
        if found["extra"].get("trusted") and is_taken(group, CLIP_ART.get(group, 0)):
            yield _kept(found, media, group)
    for found in _manifest("emoji-fluent"):
        group = found["extra"]["group"]
        if is_taken(group, EMOJI.get(group, 0)):
            captions.append(found["captions"][0])
            yield _kept(found, media, group)
    for source, step in (("sounds", 1), ("instruments", 16)):
        for found in _manifest(source):
            if found["source"] in ("sounds-ovos", "sounds-opensfx", "instruments") and is_taken(source, step):
                yield _kept(found, media, "sounds") | {"duration": round(found["extra"]["seconds"], 2)}
    (media / "said").mkdir()
    for caption in captions[:: max(1, len(captions) // SAID)][:SAID]:
        waveform, _ = speak(f"{caption}.")
        path = media / "said" / f"{caption.replace(' ', '-')}.flac"
        soundfile.write(path, waveform, SAMPLE_RATE)
        facts = {"caption": caption, "licence": "CC0-1.0", "source": "piper-joe", "folder": "said"}
        yield {"path": str(path.absolute()), "modality": "speech", **facts}
    for caption in sorted(set(captions))[::2]:
        yield {"id": caption, "modality": "text", "text": caption, "licence": "MIT", "source": "emoji-fluent"}


def add_later(media: Path) -> None:
    """Put pictures into a folder that is watched, and one that is damaged."""
    given = [found for found in _manifest("emoji-fluent") if found["extra"]["group"] == "smileys-emotion"][:LATER]
    rows = [_kept(found, media, "smileys") for found in given]
    whole = Path(rows[0]["path"]).read_bytes()
    (media / "smileys" / "half-copied.png").write_bytes(whole[: len(whole) // 3])


def build(folder: Path) -> Path:
    """Return the catalog, made or brought up to date."""
    folder.mkdir(parents=True, exist_ok=True)
    media, manifest = folder / "media", folder / "page.jsonl"
    shutil.rmtree(media, ignore_errors=True)
    rows = [json.dumps(row, ensure_ascii=False) + "\n" for row in media_rows(media)]
    manifest.write_text("".join(rows), "utf-8")
    catalog = folder / "page.catalog"
    if embedspace(["index", str(manifest), "--catalog", str(catalog)]):
        raise SystemExit(f"{catalog} could not be built")
    return catalog


@contextlib.contextmanager
def serving(catalog: Path, port: int, *more: str) -> Iterator[str]:
    """Serve a catalog; yields where."""
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "embedspace.cli", "serve", str(catalog), "--port", str(port), *more]
    server = subprocess.Popen(command)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/ready", timeout=5):
                break
            time.sleep(0.2)
        yield url
    finally:
        server.terminate()
        server.wait()


def paint(page: Any) -> None:  # noqa: ANN401
    """Choose a picture to edit, and paint over its lower half."""
    page.get_by_role("button", name="Edit a picture", exact=True).click()
    page.locator(".panel input[type=file]").set_input_files(EDITED)
    page.get_by_role("button", name="What I paint").click()
    page.get_by_role("slider", name="Brush").fill("0.2")
    box = page.locator(".surface .ink").bounding_box()
    for number, (x, y) in enumerate(
        ((0.2, 0.45), (0.8, 0.45), (0.3, 0.6), (0.7, 0.6), (0.4, 0.75), (0.65, 0.75), (0.5, 0.85))
    ):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=5)
        if not number:
            page.mouse.down()
    page.mouse.up()


def settle(page: Any, view: str) -> None:  # noqa: ANN401
    """Wait until a view is complete, as a person who looks at it would."""
    if view == "item":
        page.locator(".card .name").first.click()
        page.locator(".near .card").first.wait_for()
    elif view == "filters":
        page.get_by_role("button", name="Filter ·").click()
        page.locator(".where").wait_for()
    elif view in ("make", "edit"):
        if view == "edit":
            paint(page)
        page.get_by_role("searchbox").press("Enter")
        page.locator(".made > li").nth(1 if view == "edit" else 3).wait_for(timeout=300_000)
        page.locator("progress").wait_for(state="detached", timeout=300_000)
    else:
        page.locator(READY.get(view, ".card")).first.wait_for(timeout=300_000)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(800)


def picture(browser: Any, url: str, view: str, theme: str, width: int) -> bytes:  # noqa: ANN401
    """Return a view as WebP."""
    height = 800 if width > 400 else 740
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
    page = context.new_page()
    page.goto(url + VIEWS[view])
    settle(page, view)
    page.mouse.move(0, 0)
    shot = Image.open(io.BytesIO(page.screenshot(full_page=view == "edit")))  # what is made lies below what is edited
    context.close()
    written = io.BytesIO()
    shot.convert("RGB").save(written, "WEBP", quality=82, method=6)
    return written.getvalue()


def shoot(catalog: Path, out: Path, views: list[str], port: int) -> None:
    """Write the pictures of some views: at 1200 pixels light and dark, and of results at 360."""
    from playwright.sync_api import sync_playwright

    out.mkdir(parents=True, exist_ok=True)
    media = catalog.parent / "media"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])

        def both(url: str, view: str) -> None:
            for theme in ("light", "dark"):
                (out / f"{view}.{theme}.webp").write_bytes(picture(browser, url, view, theme, 1200))

        with serving(catalog, port) as url:
            for view in (view for view in views if view != "status"):
                both(url, view)
            if "results" in views:
                (out / "results.narrow.webp").write_bytes(picture(browser, url, "results", "light", 360))
        if "status" in views:
            add_later(media)
            with serving(catalog, port, "--watch", str(media)) as url:
                both(url, "status")
        browser.close()


def main() -> None:
    """Build the catalog and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="where the catalog goes")
    parser.add_argument("--out", type=Path, default=Path("docs/page"), help="where the pictures go")
    parser.add_argument("--views", nargs="*", choices=list(VIEWS), default=list(VIEWS), help="only these")
    parser.add_argument("--as-it-is", action="store_true", help="take the catalog as it is")
    parser.add_argument("--port", type=int, default=7998)
    given = parser.parse_args()
    catalog = given.folder / "page.catalog" if given.as_it_is else build(given.folder)
    shoot(catalog, given.out, given.views, given.port)


if __name__ == "__main__":
    main()
