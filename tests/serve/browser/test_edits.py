"""Editing with the page: a picture or a sound of the user's, what of it may change, and what is drawn where."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image
from playwright.sync_api import expect

from embedspace.catalog import Catalog
from embedspace.space import EmbeddingSpace
from tests.serve.browser.conftest import DATA, Server, Visit, asked, serving, violations

pytestmark = pytest.mark.browser

Open = Callable[..., Visit]
QUICK = "count=1&seed=3&steps=1&candidates=1"
DRAG = """([name, type, content, x, steps]) => {
  const bytes = Uint8Array.from(atob(content), (char) => char.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type }));
  const about = { bubbles: true, cancelable: true, clientX: x * innerWidth, dataTransfer: transfer };
  for (const step of steps) document.body.dispatchEvent(new DragEvent(step, about));
}"""
PASTE = """(target, [name, type, content]) => {
  const bytes = Uint8Array.from(atob(content), (char) => char.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type }));
  target.dispatchEvent(new ClipboardEvent("paste", { bubbles: true, cancelable: true, clipboardData: transfer }));
}"""
WIDER = "[...document.querySelectorAll('main *')].filter((node) => node.getBoundingClientRect().right > 361).length"


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog of nothing: what is made needs none."""
    path, space = tmp_path_factory.mktemp("edits") / "empty.catalog", EmbeddingSpace.from_pretrained()
    about = {"fingerprints": space.fingerprints(), "calibration_json": space.calibration_json()}
    Catalog.create(path, embed_dim=space.embed_dim, **about).close()
    return path


@pytest.fixture(scope="module")
def made_by(empty: Path) -> Iterator[Server]:
    with serving(empty) as started:
        yield started


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A red house on white, 120 x 90."""
    pixels = np.full((90, 120, 3), 255, np.uint8)
    pixels[30:, 30:90] = (180, 40, 40)
    path = tmp_path / "house.png"
    Image.fromarray(pixels).save(path)
    return path


def opened(visit: Open, server: Server, to: str = "image", expected: tuple[str, ...] = ()) -> Any:
    """Open the view; what it asks for is kept in `page.asked`."""
    visited = visit(f"{server.url}/?view=make&to={to}&{QUICK}", reduced_motion="reduce")
    visited.expected = expected
    page = visited.page
    page.asked = []
    page.on("request", lambda sent: sent.url.endswith("/api/generate") and page.asked.append(sent.post_data_json))
    page.locator(".openers button").first.wait_for()
    return page


def choose(page: Any, path: Path, button: str = "Choose a picture") -> None:
    """Choose a file with one of the buttons."""
    with page.expect_file_chooser() as chosen:
        page.get_by_role("button", name=button).click()
    chosen.value.set_files(path)


def edit(page: Any, path: Path, way: str) -> None:
    """Open the panel with a picture and say what of it may change."""
    page.get_by_role("button", name="Edit a picture", exact=True).click()
    choose(page, path)
    page.get_by_role("button", name=way).click()


def stroke(page: Any, *points: tuple[float, float]) -> None:
    """Draw over the surface, in shares of its sides."""
    box = page.locator(".surface .ink").bounding_box()
    x, y = points[0]
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    page.mouse.down()
    for x, y in points[1:]:
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
    page.mouse.up()


def make(page: Any, words: str = "a castle") -> None:
    """Ask for words and wait for what is made."""
    field = page.get_by_role("searchbox", name="Words to search with")
    if words:
        field.fill(words)
    field.press("Enter")
    page.locator(".made > li").first.wait_for(timeout=120_000)
    expect(page.get_by_role("progressbar", name="Progress")).to_have_count(0, timeout=120_000)


def fetched(page: Any) -> bytes:
    """Return the file of what was made."""
    link = page.locator(".made a", has_text="Download").first.get_attribute("href")
    content: bytes = page.request.get(page.url.split("/?")[0] + link).body()
    return content


def picture(page: Any) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the pixels of what was made, and where they come from."""
    image = Image.open(io.BytesIO(fetched(page)))
    return np.asarray(image.convert("RGB")), json.loads(image.text["embedspace"])  # type: ignore[attr-defined]


def test_what_is_not_painted_stays_pixel_for_pixel(made_by: Server, visit: Open, house: Path) -> None:
    page = opened(visit, made_by)
    edit(page, house, "What I paint")
    page.get_by_role("slider", name="Brush").fill("0.2")
    stroke(page, (0.1, 0.15), (0.9, 0.15))
    page.get_by_role("slider", name="Strength").fill("0.8")
    assert violations(page) == []
    make(page)
    pixels, about = picture(page)
    before = np.asarray(Image.open(house).convert("RGB"))
    assert pixels.shape == before.shape
    np.testing.assert_array_equal(pixels[30:], before[30:])  # the brush of 24 pixels went along row 13
    assert (pixels[:25] != before[:25]).any()
    assert (about["init"], about["mask"], about["strength"]) == ("house.png", "painted.png", 0.8)
    assert "strength" not in page.url  # a picture is not in the address, so what is done with it is not either
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate(WIDER) == 0


def test_strokes_are_erased_and_taken_back(made_by: Server, visit: Open, house: Path) -> None:
    page = opened(visit, made_by)
    edit(page, house, "What I paint")
    covered = """(canvas) => {
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return data.filter((value, at) => at % 4 === 3 && value > 127).length;
    }"""
    ink = page.locator(".surface .ink")
    stroke(page, (0.1, 0.5), (0.9, 0.5))
    whole = ink.evaluate(covered)
    page.get_by_role("button", name="Erase").click()
    stroke(page, (0.1, 0.5), (0.5, 0.5))
    half = ink.evaluate(covered)
    assert 0 < half < 0.7 * whole
    page.get_by_role("button", name="Undo").click()
    assert ink.evaluate(covered) == whole
    page.get_by_role("button", name="Clear").click()
    assert ink.evaluate(covered) == 0
    make_refused(page, "Paint what may change")


def make_refused(page: Any, reason: str | re.Pattern[str]) -> None:
    """Ask for something, and be told why not."""
    page.get_by_role("searchbox", name="Words to search with").fill("a castle")
    page.get_by_role("button", name="Make", exact=True).click()
    expect(page.locator(".progress [role=alert]")).to_have_text(reason)
    assert page.asked == []


def test_everything_of_an_edit_is_reached_by_keyboard(made_by: Server, visit: Open, house: Path) -> None:
    page = opened(visit, made_by)
    page.get_by_role("button", name="Edit a picture", exact=True).press("Enter")
    expect(page.get_by_role("button", name="Choose a picture")).to_be_focused()
    with page.expect_file_chooser() as chosen:
        page.get_by_role("button", name="Choose a picture").press("Enter")
    chosen.value.set_files(house)
    page.get_by_role("button", name="What I paint").press("Enter")
    ink = page.locator(".surface .ink")
    ink.focus()
    page.keyboard.press("Space")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    red = "(canvas) => canvas.getContext('2d').getImageData(75, 45, 1, 1).data[3]"  # right of the middle
    assert ink.evaluate(red) == 255
    page.keyboard.press("Backspace")
    assert ink.evaluate(red) == 0
    page.get_by_role("button", name="A box").press("Enter")
    for side, value in {"Left": "10", "Top": "0", "Right": "110", "Bottom": "40"}.items():
        page.get_by_role("spinbutton", name=side).fill(value)
    make(page)
    assert page.asked[0]["mask"] == "10,0,110,40" and "strength" not in page.asked[0]
    np.testing.assert_array_equal(picture(page)[0][40:], np.asarray(Image.open(house).convert("RGB"))[40:])
    page.get_by_role("button", name="Edit no picture").press("Enter")
    expect(page.get_by_role("button", name="Edit a picture", exact=True)).to_be_focused()


def test_a_box_is_drawn_and_what_differs_is_found(made_by: Server, visit: Open, house: Path) -> None:
    page = opened(visit, made_by)
    edit(page, house, "A box")
    stroke(page, (0.75, 0.5), (0.25, 0.1))
    values = [
        int(page.get_by_role("spinbutton", name=side).input_value()) for side in ("Left", "Top", "Right", "Bottom")
    ]
    np.testing.assert_allclose(values, [30, 9, 90, 45], atol=1)
    page.get_by_role("button", name="What differs").click()
    make(page)
    assert page.asked[0]["mask"] == "auto"


def test_what_is_dropped_goes_where_the_page_says(made_by: Server, visit: Open, house: Path) -> None:
    page = opened(visit, made_by)
    given = ["house.png", "image/png", base64.b64encode(house.read_bytes()).decode()]
    page.evaluate(DRAG, [*given, 0.5, ["dragenter", "dragover"]])
    zones = page.locator("#drop p")
    expect(zones).to_have_text(
        ["Drop it here to make something from it", "Drop it here to edit the picture", "Drop it here as an outline"]
    )
    expect(zones.nth(1)).to_have_class("over")
    page.evaluate(DRAG, [*given, 0.5, ["dragover", "drop"]])
    expect(page.locator("#drop")).to_be_hidden()
    expect(page.get_by_role("region", name="Edit a picture")).to_contain_text("house.png")
    page.evaluate(DRAG, [*given, 0.9, ["dragenter", "dragover", "drop"]])
    expect(page.get_by_role("region", name="Draw where it goes")).to_contain_text("house.png")
    make(page)
    assert {"init", "map"} < page.asked[0].keys() and "mask" not in page.asked[0]
    assert picture(page)[1]["map"] == "house.png"
    page.get_by_role("button", name="Draw nothing").click()
    page.get_by_role("button", name="Edit no picture").click()
    page.get_by_role("button", name="Edit a picture", exact=True).click()
    expect(page.get_by_role("button", name="Choose a picture")).to_be_visible()
    page.locator("body").evaluate(PASTE, given)
    expect(page.get_by_role("region", name="Edit a picture")).to_contain_text("house.png")
    page.locator("body").evaluate(PASTE, given)  # the panel has its picture: this one is a term
    expect(page.locator(".chip .label")).to_have_text(["a castle", "house.png"])


def test_an_outline_is_drawn_and_what_was_made_is_edited(made_by: Server, visit: Open) -> None:
    page = opened(visit, made_by)
    page.get_by_role("button", name="Draw where it goes").click()
    make_refused(page, "Draw an outline, or close its panel")
    stroke(page, (0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8), (0.2, 0.2))
    assert violations(page) == []
    page.get_by_role("combobox", name="Style").select_option("openmoji")
    make(page, "a green apple")
    about = picture(page)[1]
    assert (about["map"], about["style"]) == ("drawn.png", "openmoji")
    page.get_by_role("spinbutton", name="Start").fill("0.5")
    page.get_by_role("spinbutton", name="Start").press("Tab")
    page.get_by_role("combobox", name="Family").select_option("flow")
    expect(page).to_have_url(re.compile(r"start=0\.5&.*with\.family=flow"))
    page.get_by_role("spinbutton", name="Start").fill("")
    page.get_by_role("button", name="Draw nothing").click()
    page.get_by_role("button", name="Edit a green apple, 1").click()
    expect(page.get_by_role("region", name="Edit a picture")).to_contain_text("a green apple, 1")
    page.get_by_role("spinbutton", name="Size").fill("384")
    page.get_by_role("slider", name="Strength").fill("0")
    make(page, "")
    assert picture(page)[0].shape == (384, 384, 3)


def test_a_picture_without_words_is_made_from_itself(made_by: Server, visit: Open, house: Path) -> None:
    page = opened(visit, made_by)
    page.get_by_role("button", name="Edit a picture", exact=True).click()
    page.get_by_role("button", name="Choose a picture").wait_for()  # the panel is loaded when it is first asked for
    page.get_by_role("button", name="Make", exact=True).click()
    expect(page.locator(".progress [role=alert]")).to_contain_text("Say in words")
    choose(page, house)
    page.get_by_role("slider", name="Strength").fill("0.3")
    page.get_by_role("button", name="Make", exact=True).click()
    page.locator(".made > li").first.wait_for(timeout=120_000)
    assert list(page.asked[0]["terms"][0]) == ["ref", "weight", "as"] and page.asked[0]["strength"] == 0.3
    expect(page.locator(".chip .label")).to_have_text("house.png")


def test_what_does_not_fit_is_told_in_one_line(made_by: Server, visit: Open, house: Path, tmp_path: Path) -> None:
    page = opened(visit, made_by, expected=("400",))
    alert = page.locator(".panel [role=alert]")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    Image.new("L", (90, 90), 255).save(tmp_path / "small.png")
    page.get_by_role("button", name="Edit a picture", exact=True).click()
    for name, reason in (
        ("notes.txt", "what is edited is a picture or a sound"),
        ("broken.png", "broken.png: "),
    ):
        choose(page, tmp_path / name)
        expect(alert).to_contain_text(reason)
    choose(page, DATA / "page" / "dog.ogg")
    expect(alert).to_have_text("dog.ogg: this is a sound; choose a picture")
    choose(page, house)
    expect(alert).to_be_hidden()
    page.get_by_role("button", name="What I paint").click()
    choose(page, tmp_path / "small.png", "From a file")
    expect(alert).to_have_text("small.png: 90 x 90 pixels, but the picture has 120 x 90")
    mask = np.zeros((90, 120), np.uint8)
    mask[:45] = 255
    Image.fromarray(mask).save(tmp_path / "sky.png")
    choose(page, tmp_path / "sky.png", "From a file")
    expect(alert).to_be_hidden()
    make(page)
    np.testing.assert_array_equal(picture(page)[0][45:], np.asarray(Image.open(house).convert("RGB"))[45:])
    stroke(page, (0.0, 0.75), (1.0, 0.75))  # from files, too, painting goes on
    page.get_by_role("slider", name="Brush").fill("0.3")
    for height in (0.6, 0.75, 0.9):
        stroke(page, (0.0, height), (1.0, height))
    page.get_by_role("button", name="Make", exact=True).click()
    expect(page.locator(".progress [role=alert]")).to_contain_text("keeps nothing")


def test_a_photograph_is_turned_and_made_smaller(made_by: Server, visit: Open, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side: shown 2000 wide, 3000 high
    picture_of = Image.new("RGB", (3000, 2000), (200, 200, 200))
    picture_of.paste((180, 40, 40), (0, 0, 1500, 2000))  # upright it is the upper half
    picture_of.save(tmp_path / "photo.jpg", exif=exif)
    page = opened(visit, made_by)
    edit(page, tmp_path / "photo.jpg", "A box")
    ground = page.locator(".surface .ground")
    assert ground.evaluate("(canvas) => [canvas.width, canvas.height]") == [1365, 2048]
    assert ground.evaluate("(canvas) => canvas.getContext('2d').getImageData(10, 900, 1, 1).data[1]") < 60
    assert ground.evaluate("(canvas) => canvas.getContext('2d').getImageData(10, 1200, 1, 1).data[1]") > 180


def test_a_part_of_a_sound_is_made_anew(made_by: Server, visit: Open, tmp_path: Path) -> None:
    tone = 0.3 * np.sin(np.arange(32_000) / 8)
    soundfile.write(tmp_path / "tone.wav", tone, 16_000)
    page = opened(visit, made_by, "audio")
    page.get_by_role("button", name="Edit a sound", exact=True).click()
    choose(page, tmp_path / "tone.wav", "Choose a sound")
    page.get_by_role("button", name="A part").click()
    box = page.locator(".strip").bounding_box()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 20, steps=3)
    page.mouse.up()
    assert float(page.get_by_role("spinbutton", name="From second").input_value()) == pytest.approx(0.5, abs=0.02)
    page.get_by_role("spinbutton", name="To second").fill("1")
    page.get_by_role("spinbutton", name="From second").fill("0.5")
    assert violations(page) == []
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate(WIDER) == 0
    make(page, "a dog")
    assert page.asked[0]["mask"] == "0.5-1"
    waveform, _ = soundfile.read(io.BytesIO(fetched(page)))
    np.testing.assert_allclose(waveform[17_000:31_000], tone[17_000:31_000], atol=1e-3)
    assert np.abs(waveform[9_000:15_000] - tone[9_000:15_000]).max() > 0.05
    page.get_by_role("button", name="A picture").click()
    expect(page.locator(".panel")).to_have_count(0)  # a sound is no picture


def test_what_the_server_forgot_is_sent_again(empty: Path, visit: Open, house: Path) -> None:
    with serving(empty) as server:
        page = opened(visit, server, expected=("404", "ERR_CONNECTION", "ERR_EMPTY_RESPONSE"))
        edit(page, house, "What I paint")
        stroke(page, (0.1, 0.2), (0.9, 0.2))
        make(page)
        first = page.asked[0]
        server.stop()
        server.start()
        page.get_by_role("button", name="Make", exact=True).click()
        expect(page.locator(".made > li")).to_have_count(1, timeout=120_000)
        expect(page.get_by_role("progressbar", name="Progress")).to_have_count(0, timeout=120_000)
        assert len(page.asked) == 3 and page.asked[1] == first  # refused, since the server knows no such ref
        assert {page.asked[2][key] for key in ("init", "mask")}.isdisjoint({first["init"], first["mask"]})
        page.close()


def test_the_server_says_what_its_generators_know(made_by: Server) -> None:
    targets = {one["name"]: one["options"] for one in asked(f"{made_by.url}/api/catalog")["targets"]}
    known = {option["key"]: option["choices"] for option in targets["image"]}
    assert known["family"][0] == "flow" and {"openmoji", "emoji-google"} <= set(known["style"])
    assert known["size"] == [] and len(set(known["style"])) == len(known["style"])
    assert all(option["choices"] == [] for option in targets["text"])
