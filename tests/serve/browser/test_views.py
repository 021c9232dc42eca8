"""The page's other views, and a server that indexes, goes away and comes back."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.serve.browser.conftest import DATA, Server, Visit, serving, violations
from tests.serve.browser.test_search import ask

pytestmark = pytest.mark.browser

Open = Callable[..., Visit]


def test_an_item_shows_its_media_facts_and_neighbours(server: Server, visit: Open) -> None:
    page = visit(f"{server.url}/?text=a+dog").page
    page.get_by_role("link", name="dog.webp").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("dog.webp")
    expect(page).to_have_title("dog.webp · Item · embedspace")
    picture = page.locator(".stage img")
    picture.evaluate("(image) => image.decode()")
    expect(page.locator("dl.facts")).to_contain_text("animals")
    for modality in ("Pictures", "Sounds", "Texts"):
        expect(page.get_by_role("region", name=modality).locator(".card").first).to_be_visible()
    expect(page.locator(".near .card", has_text="dog.webp")).to_have_count(0)
    page.get_by_role("button", name="← Back").click()
    expect(page.get_by_role("searchbox", name="Words to search with")).to_have_value("a dog")
    page.go_forward()
    page.get_by_role("button", name="More like this", exact=True).click()
    expect(page.locator(".chip .label")).to_have_text("dog.webp")


def test_a_sound_shows_its_segments_and_a_text_its_words(server: Server, visit: Open) -> None:
    page = visit(f"{server.url}/?text=a+rooster+crowing&to=audio").page
    page.get_by_role("link", name="farm.flac").click()
    expect(page.locator(".segments li").nth(2)).to_contain_text("0:12–0:18")
    page.get_by_role("button", name="Play farm.flac", exact=True).click()
    expect(page.locator(".stage .play")).to_have_attribute("data-at", re.compile(r"^0\.|^1\."))
    page.goto(f"{server.url}/?text=violin+sonata&to=text")
    page.locator(".card .name").first.click()
    expect(page.locator(".reading")).to_have_text("a violin sonata in the evening")


def test_an_item_that_is_not_there_says_so(server: Server, visit: Open) -> None:
    visited = visit(f"{server.url}/?view=item&item={'0' * 32}")
    visited.expected = ("404",)
    expect(visited.page.get_by_role("alert")).to_contain_text("no such item")


def test_the_map_shows_points_finds_names_and_opens_items(server: Server, visit: Open) -> None:
    page = visit(f"{server.url}/?view=map").page
    expect(page.get_by_role("button", name="Pictures 11")).to_be_visible(timeout=90_000)
    expect(page.locator(".points a")).to_have_count(19)
    painted = "(canvas) => new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size"
    assert page.locator("canvas.space").evaluate(painted) > 20
    page.get_by_role("button", name="Pictures 11").click()
    expect(page.locator(".points a")).to_have_count(8)
    page.get_by_role("button", name="Pictures 11").click()
    page.get_by_label("Find a name on the map").fill("violin.webp")
    expect(page.locator(".points a")).to_have_count(1)
    expect(page).to_have_url(re.compile("find=violin.webp"))
    page.locator(".points a").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("violin.webp")


def test_a_click_on_the_map_opens_the_item_under_it(server: Server, visit: Open) -> None:
    page = visit(f"{server.url}/?view=map").page
    canvas = page.locator("canvas.space")
    page.locator(".points a").first.wait_for(timeout=90_000)
    for _ in range(3):
        page.get_by_role("button", name="Enlarge").click()
    page.get_by_role("button", name="Whole map").click()
    page.get_by_role("button", name=re.compile("^Texts")).click()  # they are labelled with their words, not their names
    box = canvas.bounding_box()
    assert box is not None
    dot = canvas.evaluate(
        """(canvas) => {
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          for (let at = 0; at < data.length; at += 4) {
            const colours = data.slice(at, at + 3);
            const isColoured = Math.max(...colours) - Math.min(...colours) > 60;
            if (data[at + 3] > 150 && isColoured) return [(at / 4) % canvas.width, Math.floor(at / 4 / canvas.width)];
          }
        }"""
    )
    page.mouse.move(box["x"] + dot[0], box["y"] + dot[1] + 3)
    expect(page.locator(".tip")).to_be_visible()
    label = page.locator(".tip").inner_text()
    page.mouse.click(box["x"] + dot[0], box["y"] + dot[1] + 3)
    expect(page.get_by_role("heading", level=1)).to_have_text(label)


def test_a_picture_is_made_with_progress_and_the_same_seed_again(server: Server, visit: Open) -> None:
    page = visit(f"{server.url}/?view=make", reduced_motion="reduce").page
    page.get_by_role("button", name="A picture", exact=True).click()
    page.get_by_label("How many").fill("2")
    page.get_by_label("Seed").fill("7")
    page.get_by_role("searchbox", name="Words to search with").fill("a strawberry")
    page.get_by_role("searchbox", name="Words to search with").press("Enter")
    expect(page.get_by_role("progressbar", name="Progress")).to_be_visible()
    expect(page.locator(".made > li")).to_have_count(2, timeout=90_000)
    first = page.locator(".made > li").first
    first.locator("img").first.evaluate("(image) => image.decode()")
    expect(first).to_contain_text("Seed 7")
    expect(first.locator(".beside li").first).to_be_visible()
    expect(page.get_by_role("progressbar", name="Progress")).to_have_count(0)
    expect(page).to_have_url(re.compile("seed=7.*job=|job=.*seed=7"))
    assert violations(page) == []
    page.reload()
    expect(page.locator(".made > li")).to_have_count(2)


def test_words_are_made_from_a_picture(server: Server, visit: Open) -> None:
    page = visit(f"{server.url}/?view=make&to=text&count=1", reduced_motion="reduce").page
    page.get_by_role("button", name="Words", exact=True).wait_for()
    page.locator("input[type=file]").set_input_files(DATA / "page" / "strawberry.webp")
    expect(page.locator(".made .told").first).to_have_text(re.compile(r"\w+"), timeout=90_000)
    expect(page.get_by_role("progressbar", name="Progress")).to_have_count(0)
    assert violations(page) == []


def test_a_sound_is_made_and_played(server: Server, visit: Open) -> None:
    page = visit(f"{server.url}/?view=make&to=audio&count=1&seed=7", reduced_motion="reduce").page
    page.get_by_role("searchbox", name="Words to search with").fill("a dog")
    page.get_by_role("searchbox", name="Words to search with").press("Enter")
    made = page.locator(".made > li")
    expect(made.locator(".beside li").first).to_be_visible(timeout=90_000)
    expect(page.get_by_role("progressbar", name="Progress")).to_have_count(0)
    assert violations(page) == []
    made.locator(".play").click()
    expect(made.locator(".play")).to_have_attribute("data-at", re.compile(r"^0\.\d*[1-9]|^[1-9]"))


def test_making_is_cancelled(server: Server, visit: Open) -> None:
    page = visit(f"{server.url}/?view=make&to=image&count=16&candidates=64").page
    page.get_by_role("searchbox", name="Words to search with").fill("a house")
    page.get_by_role("searchbox", name="Words to search with").press("Enter")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Cancelled.")).to_be_visible()
    expect(page).not_to_have_url(re.compile("job="))


def test_the_status_lists_what_could_not_be_read(server: Server, visit: Open) -> None:
    page = visit(f"{server.url}/?view=status").page
    expect(page.locator(".counts li").first).to_contain_text("19")
    failures = page.get_by_role("region", name="Failures")
    expect(failures).to_contain_text("broken.png")
    expect(failures.locator("li span")).not_to_be_empty()


def test_a_catalog_being_indexed_is_shown_and_searched(catalog: Path, visit: Open, tmp_path: Path) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    with serving(shutil.copytree(catalog, tmp_path / "own.catalog"), "--watch", str(watched)) as server:
        page = visit(f"{server.url}/?view=status").page
        expect(page.locator(".now")).to_contain_text(re.compile("Watching|Indexing"))
        for name in ("owl", "violin"):
            shutil.copy(DATA / "page" / f"{name}.webp", watched / f"new-{name}.png")
        (watched / "new.txt").write_text("a zeppelin over the harbour", "utf-8")
        expect(page.locator(".counts li").first).to_contain_text("20", timeout=90_000)
        page.get_by_role("link", name="Search", exact=True).click()
        ask(page, "a zeppelin over the harbour")
        expect(page.locator(".card").first).to_contain_text("new.txt")
        page.close()  # before the server that it listens to


def test_nothing_is_lost_while_the_server_is_away(catalog: Path, visit: Open) -> None:
    with serving(catalog) as server:
        visited = visit(server.url)
        visited.expected = ("ERR_CONNECTION", "404", "Failed to load resource", "ERR_EMPTY_RESPONSE", "ERR_INCOMPLETE")
        page = visited.page
        page.locator("input[type=file]").set_input_files(DATA / "page" / "cow.webp")
        expect(page.locator(".card.image").first).to_contain_text("cow.webp")
        server.stop()
        field = page.get_by_role("searchbox", name="Words to search with")
        field.fill("a farm")
        field.press("Enter")
        expect(page.locator("#banner")).to_contain_text("The server does not answer")
        expect(page.locator(".chip")).to_have_count(2)
        server.start()
        expect(page.locator("#banner")).to_be_hidden(timeout=30_000)
        expect(page.locator(".chip")).to_have_count(2)
        expect(page.locator(".found[aria-busy=false] .card").first).to_be_visible(timeout=30_000)
        expect(page.locator(".chip .label").first).to_have_text("cow.webp")
