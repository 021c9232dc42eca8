"""What is the page's own, with real servers of a space that needs no model: indexing in the header, videos, the token.

That a folder is really indexed while the page is open is tested in `test_views`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from embedspace.catalog import Catalog, CatalogItem
from embedspace.segment import Decoded, Segment
from embedspace.serve.processes.watching import Watcher
from tests.serve.browser.conftest import Visit, violations
from tests.support.cli_media import media_folder
from tests.support.cli_space import vector_of
from tests.support.serving import Running, ServeSpace, filled_catalog, running
from tests.support.videos import write_video

pytestmark = pytest.mark.browser

Open = Callable[..., Visit]
TOKEN = "correct-horse-battery"


class FilmSpace(ServeSpace):
    """A video is "red" for twelve seconds, then "blue"."""

    def decode(self, source: Any, kind: str, *, as_modality: str | None = None) -> Decoded:
        if kind == "video":
            return Decoded(kind, [("image", "red", ""), ("image", "blue", "")], {"duration": 24.0})
        return super().decode(source, kind, as_modality=as_modality)

    def encode_decoded(self, items: list[Decoded]) -> list[list[Segment]]:
        encoded = super().encode_decoded(items)
        return [
            [dataclasses.replace(one, start=12.0 * n, end=12.0 * n + 12) for n, one in enumerate(segments)]
            if item.kind == "video"
            else segments
            for item, segments in zip(items, encoded, strict=True)
        ]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = media_folder(tmp_path_factory.mktemp("watched") / "media")
    write_video(folder / "colours.mp4", seconds=24.0, size=(160, 120))
    return filled_catalog(folder.parent / "media.catalog", folder, FilmSpace())


@pytest.fixture(scope="module")
def watched(catalog: Path) -> Iterator[Running]:
    """A server whose indexing process says what a test has it say."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watcher, "_run", lambda self: None)
        with running(catalog, FilmSpace(), watch=(catalog.parent / "media",)) as served:
            yield served


def tell(served: Running, **state: Any) -> None:
    """Say how far indexing is."""
    idle = {"watching": True, "running": False, "done": 0, "total": None, "failed": 0, "last_error": None}
    served.service.watcher.feed.add("state", {**idle, **state})


def test_the_header_shows_indexing_on_every_view(watched: Running, catalog: Path, visit: Open) -> None:
    page = visit(watched.address, reduced_motion="reduce").page
    header, home = page.locator("#indexing"), page.locator(".home")
    expect(home).to_contain_text("2 texts")
    expect(header).to_be_hidden()
    tell(watched, running=True)
    expect(header).to_have_text("Indexing 0")
    tell(watched, running=True, done=3, total=1200)
    expect(header).to_have_text("Indexing 3 of 1,200")
    assert violations(page) == []
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_role("link", name="Make").click()
    expect(header).to_be_visible()
    header.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Status")
    expect(page.locator(".now")).to_contain_text("Indexing 3 of 1,200")
    expect(page.locator(".now progress")).to_have_js_property("value", 3 / 1200)
    page.get_by_role("link", name="embedspace").click()
    page.get_by_role("searchbox", name="Words to search with").fill("half a qu")
    page.get_by_role("button", name="Texts").focus()
    with Catalog.open(catalog) as written:
        written.add([CatalogItem("late", "text", [Segment("text", vector_of("late"))], {}, content_hash="f" * 32)])
    tell(watched, done=1200, total=1200)
    expect(header).to_be_hidden()
    expect(home).to_contain_text("3 texts")  # counted anew by itself; what was typed stays
    expect(page.get_by_role("searchbox", name="Words to search with")).to_have_value("half a qu")


def test_a_video_shows_the_frame_of_the_hit_and_plays_from_there(watched: Running, visit: Open) -> None:
    visited = visit(f"{watched.address}/?text=blue&to=image", reduced_motion="reduce")
    visited.expected = ("416",)
    page = visited.page
    card = page.locator(".card.video")
    expect(card.locator(".tag")).to_have_text("0:12–0:24")
    colour = card.locator("img").evaluate(
        """async (image) => {
          await image.decode();
          const canvas = new OffscreenCanvas(1, 1).getContext("2d");
          canvas.drawImage(image, 0, 0, 1, 1);
          return [...canvas.getImageData(0, 0, 1, 1).data];
        }"""
    )
    assert colour[2] > 150 > colour[0]  # the blue frame at 12 seconds, not the first, which is red
    assert violations(page) == []
    card.get_by_role("button", name="Play colours.mp4 from 0:12").click()
    video = card.locator("video")
    expect(video).to_be_focused()
    expect(video).to_have_js_property("paused", False)
    assert video.evaluate("(video) => video.currentTime") >= 11.5
    card.get_by_role("link", name="colours.mp4").click()
    expect(page).to_have_url(re.compile(r"at=12"))
    shown = page.locator(".stage video")
    expect(shown).to_have_js_property("readyState", 4)
    assert shown.evaluate("(video) => video.currentTime") >= 11.5
    page.locator(".segments button").first.click()
    expect(shown).to_have_js_property("paused", False)
    assert shown.evaluate("(video) => video.currentTime") < 11


def test_the_page_opens_with_few_requests_and_a_stream_only_where_a_folder_is_watched(
    catalog: Path, watched: Running, visit: Open
) -> None:
    with running(catalog, FilmSpace()) as unwatched:
        for served, streams in ((unwatched, 0), (watched, 1)):
            page = visit("about:blank").page
            asked: list[str] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.goto(served.address)
            page.locator(".home").wait_for()
            page.wait_for_load_state("networkidle")
            page.close()
            assert 0 < len(asked) <= 12, asked
            assert sum("events" in url for url in asked) == streams


def test_a_token_lets_in(catalog: Path, visit: Open) -> None:
    with running(catalog, FilmSpace(), token=TOKEN) as guarded:
        visited = visit(guarded.address, width=360, reduced_motion="reduce")
        visited.expected = ("401",)
        page = visited.page
        page.get_by_role("dialog", name="This server asks for a token").wait_for()
        assert violations(page) == []
        page.get_by_label("The one that it was started with").fill("wrong")
        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_role("alert")).to_contain_text("does not take this token")
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.get_by_label("The one that it was started with").fill(TOKEN)
        page.get_by_role("button", name="Go on").click()
        expect(page.locator(".home")).to_be_visible()
        shared = visit(f"{guarded.address}/#token={TOKEN}").page
        expect(shared.locator(".home")).to_be_visible()
        assert shared.url == f"{guarded.address}/"
