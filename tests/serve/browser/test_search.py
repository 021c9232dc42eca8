"""Searching with the page: words, files, the microphone, composing, filters, playing, and what is in the address."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.serve.browser.conftest import DATA, Server, Visit

pytestmark = pytest.mark.browser

Open = Callable[..., Visit]
DROP = """(target, [name, type, content, event]) => {
  const bytes = Uint8Array.from(atob(content), (char) => char.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type }));
  const about = { bubbles: true, cancelable: true };
  const send = (made) => target.dispatchEvent(made);
  if (event === "paste") return send(new ClipboardEvent("paste", { ...about, clipboardData: transfer }));
  for (const step of ["dragenter", "dragover", "drop"]) send(new DragEvent(step, { ...about, dataTransfer: transfer }));
}"""


def give(page: Any, path: Path, media_type: str, event: str) -> None:
    """Drop a file on the page, or paste it."""
    content = base64.b64encode(path.read_bytes()).decode()
    page.locator("body").evaluate(DROP, [path.name, media_type, content, event])


def names(page: Any) -> list[str]:
    """Return the names of the hits, the first first."""
    found: list[str] = page.locator(".found .card .name").all_inner_texts()
    return found


def ask(page: Any, words: str) -> None:
    """Type words and press Enter; returns when the answer is shown."""
    field = page.get_by_role("searchbox", name="Words to search with")
    field.fill(words)
    field.press("Enter")
    page.locator(".found[aria-busy=false]").wait_for()
    page.locator(".found .card, .found .empty").first.wait_for()


def test_words_find_pictures_and_the_address_can_be_shared(server: Server, visit: Open) -> None:
    page = visit(server.url).page
    ask(page, "a red strawberry")
    first = page.locator(".card.image").first
    expect(first).to_contain_text("strawberry.webp")
    expect(first.locator(".chance")).to_have_text(re.compile(r"\d+%"))
    expect(page).to_have_url(re.compile(r"\?text=a\+red\+strawberry$"))
    expect(page).to_have_title("a red strawberry · embedspace")
    assert (
        page.locator(".card img").first.evaluate(
            "(image) => image.complete && image.naturalWidth > 0 || image.decode()"
        )
        is not False
    )
    again = visit(page.url).page
    expect(again.locator(".card.image").first).to_contain_text("strawberry.webp")
    assert again.get_by_role("searchbox", name="Words to search with").input_value() == "a red strawberry"


def test_back_and_forward_bring_back_what_was_asked(server: Server, visit: Open) -> None:
    page = visit(server.url).page
    ask(page, "a violin")
    ask(page, "a birthday cake")
    expect(page.locator(".card.image").first).to_contain_text("cake.webp")
    page.go_back()
    expect(page.locator(".card.image").first).to_contain_text("violin.webp")
    assert page.get_by_role("searchbox", name="Words to search with").input_value() == "a violin"
    page.go_forward()
    expect(page.locator(".card.image").first).to_contain_text("cake.webp")


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_picture_is_searched_with(server: Server, visit: Open, event: str) -> None:
    page = visit(server.url).page
    page.locator(".home").wait_for()
    give(page, DATA / "page" / "cow.webp", "image/webp", event)
    expect(page.locator(".card.image").first).to_contain_text("cow.webp")
    expect(page.locator(".chip .label")).to_have_text("cow.webp")
    expect(page).to_have_url(re.compile(r"\?ref="))


def test_a_picked_recording_is_heard_as_speech_or_sound(server: Server, visit: Open) -> None:
    page = visit(server.url).page
    page.locator("input[type=file]").set_input_files(DATA / "penguin.ogg")
    expect(page.locator(".chip select")).to_have_value("speech")
    page.get_by_role("button", name="Pictures").click()
    expect(page.locator(".card.image").first).to_contain_text("penguin.webp")
    page.get_by_label("Hear penguin.ogg as").select_option("audio")
    expect(page).to_have_url(re.compile(r"\.audio"))
    expect(page.locator(".found[aria-busy=false] .card").first).to_be_visible()


def test_a_sound_without_speech_is_heard_as_speech_where_that_is_wanted(server: Server, visit: Open) -> None:
    page = visit(server.url).page
    page.locator("input[type=file]").set_input_files(DATA / "page" / "dog.ogg")
    expect(page.locator(".chip select")).to_have_value("audio")
    page.locator(".found .card").first.wait_for()
    before = page.url
    with page.expect_request(lambda request: "/api/queries" in request.url) as sent:
        page.get_by_label("Hear dog.ogg as").select_option("speech")
    assert sent.value.url.endswith("&as=speech")
    expect(page.locator(".chip select")).to_have_value("speech")
    expect(page).not_to_have_url(before)
    page.locator(".found[aria-busy=false] .card").first.wait_for()
    page.get_by_label("Hear dog.ogg as").select_option("audio")
    expect(page.locator(".chip select")).to_have_value("audio")
    expect(page.locator(".found[aria-busy=false] .card", has_text="dog.ogg").first).to_be_visible()


def test_a_file_that_cannot_be_read_is_refused_with_a_reason(server: Server, visit: Open, media: Path) -> None:
    visited = visit(server.url)
    visited.expected = ("400", "415", "422")
    visited.page.locator("input[type=file]").set_input_files(media / "broken.png")
    expect(visited.page.locator(".chip.wrong")).to_contain_text("broken.png: ")
    visited.page.get_by_role("button", name="Dismiss").click()
    expect(visited.page.locator(".chip")).to_have_count(0)


def test_the_microphone_is_searched_with_as_speech(server: Server, visit: Open) -> None:
    page = visit(server.url).page
    page.get_by_role("button", name="Search with the microphone").click()
    page.get_by_text("Listening").wait_for()
    page.wait_for_timeout(1600)
    page.get_by_role("button", name="Search with it").click()
    expect(page.locator(".chip select")).to_have_value("speech")
    page.locator(".found .card").first.wait_for()
    page.get_by_role("button", name="Pictures").click()
    expect(page.locator(".card.image").first).to_contain_text("penguin.webp")


def test_without_a_secure_context_a_file_is_offered_instead(server: Server, visit: Open) -> None:
    visited = visit("about:blank")
    page = visited.page
    page.add_init_script("Object.defineProperty(window, 'isSecureContext', { value: false })")
    page.goto(server.url)
    page.get_by_role("button", name="Search with the microphone").click()
    expect(page.get_by_role("alert")).to_contain_text("only to https and to this machine")
    with page.expect_file_chooser():
        page.get_by_role("button", name="Choose a file").click()


def test_terms_are_composed_weighted_and_taken_away(server: Server, visit: Open) -> None:
    page = visit(server.url).page
    ask(page, "2:an animal - a dog")
    expect(page.locator(".chip")).to_have_count(2)
    expect(page).to_have_url(re.compile(r"\?text=2\*an\+animal&text=-1\*a\+dog$"))
    page.get_by_role("button", name="a dog: taken away; change").click()
    expect(page).to_have_url(re.compile(r"text=1\*a\+dog$|text=a\+dog$"))
    page.wait_for_load_state("networkidle")  # an answer draws the chips anew: fill would add to what is there
    page.get_by_label("Weight of a dog").fill("3")
    expect(page).to_have_url(re.compile(r"text=3\*a\+dog$"))
    page.get_by_role("button", name="Remove an animal").click()
    page.get_by_role("button", name="Remove a dog").click()
    expect(page.locator(".home")).to_be_visible()


def test_a_hit_is_searched_like_added_and_taken_away(server: Server, visit: Open) -> None:
    page = visit(server.url).page
    ask(page, "a horse")
    page.get_by_role("button", name="More like horse.webp").click()
    expect(page.locator(".chip .label")).to_have_text("horse.webp")
    expect(page.locator(".card.image").first).to_contain_text("horse.webp")
    page.get_by_role("button", name="Take cow.webp away from the query").click()
    expect(page.locator(".chip.away .label")).to_have_text("cow.webp")
    page.get_by_role("button", name="Add owl.webp to the query").click()
    expect(page.locator(".chip")).to_have_count(3)
    page.reload()
    expect(page.locator(".chip.away .label")).to_have_text("cow.webp")


def test_filters_narrow_by_modality_fields_and_probability(server: Server, visit: Open) -> None:
    page = visit(server.url).page
    ask(page, "an animal")
    page.get_by_role("button", name="Pictures").click()
    expect(page).to_have_url(re.compile("to=image"))
    page.get_by_role("button", name="Filter", exact=True).click()
    page.get_by_label("Field").select_option("folder")
    page.get_by_label("Value of folder").fill("animals")
    page.get_by_role("button", name="Add a condition").click()
    page.get_by_label("Field").last.select_option("year")
    page.get_by_label("Comparison of year").select_option(">=")
    page.get_by_label("Value of year").fill("2007")
    assert page.get_by_label("The filter as it is written").input_value() == "folder = 'animals' and year >= 2007"
    page.get_by_role("button", name="Apply").click()
    expect(page.locator(".card")).to_have_count(2)
    assert sorted(names(page)) == ["cow.webp", "penguin.webp"]
    page.get_by_label("Probability").select_option("0.9")
    expect(page).to_have_url(re.compile("p=0.9"))
    page.reload()
    expect(page.locator(".filters code")).to_have_text("folder = 'animals' and year >= 2007")


def test_a_filter_that_cannot_be_read_says_why(server: Server, visit: Open) -> None:
    visited = visit(f"{server.url}/?text=a+dog&where=colour+%3D+%27red%27")
    visited.expected = ("400",)
    expect(visited.page.get_by_role("alert")).to_contain_text("colour")


def test_results_stand_together_or_by_modality(server: Server, visit: Open) -> None:
    page = visit(server.url).page
    ask(page, "a dog")
    kinds = {page.locator(f".card.{kind}").count() > 0 for kind in ("image", "audio", "text")}
    assert kinds == {True}
    page.get_by_role("button", name="By kind").click()
    for title, first in (("Pictures", "dog.webp"), ("Sounds", "dog.ogg"), ("Texts", "")):
        section = page.get_by_role("region", name=title)
        expect(section.locator(".card", has_text=first).first).to_be_visible()
    expect(page.locator(".cards.text mark").first).to_have_text("dog")


def test_a_sound_plays_from_where_the_hit_is(server: Server, visit: Open) -> None:
    page = visit(f"{server.url}/?text=a+rooster+crowing&to=audio").page
    hit = page.locator(".card", has_text="farm.flac")
    play = hit.get_by_role("button", name=re.compile(r"Play farm.flac from 0:12"))
    expect(hit.locator("svg .bars")).to_be_attached()
    expect(hit.locator("svg .part")).to_be_attached()
    play.click()
    expect(hit.get_by_role("button", name="Pause farm.flac")).to_be_visible()
    expect(hit.locator(".play")).to_have_attribute("data-at", re.compile(r"^1[2-5]\.\d"))
    page.locator(".card", has_text="rooster.ogg").locator(".play").click()
    expect(hit.locator(".wave")).not_to_have_class(re.compile("playing"))
    expect(page.locator(".card", has_text="rooster.ogg").locator(".play")).to_have_attribute(
        "data-at", re.compile(r"^0\.\d*[1-9]|^[1-9]")
    )


def test_no_good_match_folds_the_weak_ones(server: Server, visit: Open) -> None:
    page = visit(server.url).page
    page.get_by_role("button", name="Pictures").click()
    ask(page, "a quarterly tax return")
    expect(page.get_by_role("heading", name="No good match")).to_be_visible()
    expect(page.locator("#live")).to_have_text("No good match")
    expect(page.locator(".card").first).not_to_be_visible()
    page.get_by_text(re.compile("Show the .* nearest all the same")).click()
    expect(page.locator(".card").first).to_be_visible()
