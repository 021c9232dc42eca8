"""For everybody: no violation that axe-core finds, keyboards, small screens; and what the first load costs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.serve.browser.conftest import Server, Visit, violations
from tests.serve.browser.test_search import ask

pytestmark = pytest.mark.browser

Open = Callable[..., Visit]
MOST_SCRIPT_BYTES, MOST_REQUESTS = 60_000, 12
TOO_WIDE = """() => [...document.querySelectorAll("main *, header *")].filter((node) => {
  const box = node.getBoundingClientRect();
  const wide = box.width > 1 && box.height > 1 && (box.right > 361 || box.left < -1);
  return wide && getComputedStyle(node).position !== "absolute";
}).map((node) => node.outerHTML.slice(0, 100))"""
VIEWS = {
    "home": ("/", ".home"),
    "results": ("/?text=2*a+dog&text=-1*a+cat", ".card"),
    "groups": ("/?text=a+dog&group=1", "section .card"),
    "filter": ("/?text=an+animal&where=year+%3E+2004", ".card"),
    "nothing": ("/?text=quarterly+tax+return&to=image", ".weak"),
    "map": ("/?view=map", ".points a"),
    "make": ("/?view=make&to=audio&text=a+dog", ".options input"),
    "status": ("/?view=status", ".failures"),
}


def opened(visit: Open, server: Server, name: str, **options: Any) -> Any:
    """Open a view and wait until it is there."""
    address, ready = VIEWS.get(name, ("/?text=a+dog&to=audio", ".card"))
    page = visit(server.url + address, **options).page
    page.locator(ready).first.wait_for(timeout=90_000)  # the first map is being made
    if name == "filter":
        page.get_by_role("button", name="Filter ·").click()
        page.locator(".where").wait_for()
    if name == "nothing":
        page.locator(".weak summary").click()
    if name == "item":
        page.locator(".card .name", has_text="farm.flac").click()
        page.locator(".near .card").first.wait_for()
    return page


@pytest.mark.parametrize("name", [*VIEWS, "item"])
def test_a_view_is_for_everybody(server: Server, visit: Open, name: str) -> None:
    page = opened(visit, server, name, reduced_motion="reduce")
    assert violations(page) == []
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate(TOO_WIDE) == []


def test_everything_is_reached_by_keyboard(server: Server, visit: Open) -> None:
    page = visit(server.url).page
    field = page.get_by_role("searchbox", name="Words to search with")
    expect(field).to_be_focused()
    page.keyboard.type("a dog")
    page.keyboard.press("Enter")
    page.locator(".card").first.wait_for()

    def tab_to(name: str | re.Pattern[str], presses: int = 60) -> None:
        for _ in range(presses):
            page.keyboard.press("Tab")
            label = page.evaluate(
                "document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText ?? ''"
            )
            if re.search(name, label):
                return
        raise AssertionError(f"{name} was not reached")

    tab_to("Add dog.webp to the query")
    page.keyboard.press("Enter")
    expect(page.locator(".chip")).to_have_count(2)
    page.keyboard.press("/")
    expect(field).to_be_focused()
    tab_to("^dog.webp$")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("dog.webp")
    assert page.evaluate("document.activeElement.id") == "main"
    page.go_back()
    page.locator(".found .card").first.wait_for()
    page.keyboard.press("/")
    tab_to("Play dog.ogg")
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Pause dog.ogg")).to_be_visible()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_colours_follow_the_system_until_they_are_chosen(server: Server, visit: Open) -> None:
    page = visit(server.url, color_scheme="dark").page
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_role("button", name="Colours: as the system").click()
    light = page.evaluate(ground)
    assert light != dark
    page.reload()
    assert page.evaluate(ground) == light
    expect(page.get_by_role("button", name="Colours: light")).to_be_visible()


def test_a_first_load_is_small(server: Server, visit: Open) -> None:
    visited = visit("about:blank")
    page, seen = visited.page, list[Any]()
    page.on("response", lambda answer: seen.append(answer))
    page.goto(server.url)
    page.locator(".home").wait_for()
    page.wait_for_load_state("networkidle")
    scripts = [answer for answer in seen if answer.url.endswith(".js")]
    assert len(scripts) >= 5
    assert sum(len(answer.body()) for answer in scripts) <= MOST_SCRIPT_BYTES
    assert sum(answer.request.sizes()["responseBodySize"] for answer in scripts) <= MOST_SCRIPT_BYTES / 3
    assert len(seen) <= MOST_REQUESTS, [answer.url for answer in seen]
    assert {answer.url.split("/")[2] for answer in seen} == {server.url.split("/")[2]}


def test_a_hit_found_by_a_name_of_markup_stays_text(server: Server, visit: Open) -> None:
    page = visit(server.url).page
    ask(page, "<img src=x onerror=alert(1)> - <b>dog</b>")
    expect(page.locator(".chip .label").first).to_have_text("<img src=x onerror=alert(1)>")
    assert page.locator("main b, main img[src=x]").count() == 0
