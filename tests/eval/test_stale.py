"""A report of other weights than those that ship is found out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eval.stale import Shipped, shipped, stale_reports, stale_tables

SUITES = Path(__file__).parents[2] / "eval/suites"
NOW = Shipped(
    {m: f"{m}-now" for m in ("image", "text", "audio", "speech")}, {"image": "picture head", "text": "writer"}
)


def report(**weights: str) -> dict[str, Any]:
    return {"weights": {**NOW.encoders, **weights}}


def test_a_fresh_report_is_not_stale() -> None:
    assert stale_reports({"stamps": report()}, {}, NOW, SUITES) == []


@pytest.mark.parametrize("modality", ["image", "text", "audio", "speech"])
def test_a_report_of_another_encoder_is_stale(modality: str) -> None:
    old = report(**{modality: "0123456789"})
    expected = f"stamps.json: {modality} encoder 01234567 measured, {modality}-now"[:60]
    (line,) = stale_reports({"stamps": old}, {}, NOW, SUITES)
    assert line.startswith(expected[:50]) and line.endswith("ships: measure again")


def test_encoders_that_a_suite_does_not_use_do_not_count() -> None:
    assert stale_reports({"emoji_vendor": report(speech="old", audio="old")}, {}, NOW, SUITES) == []
    assert len(stale_reports({"composed": report(text="old")}, {}, NOW, SUITES)) == 1  # words are added to pictures


def test_a_suite_with_encoders_of_its_own_needs_the_others_as_they_ship() -> None:
    own = {"image": "without stamps"}
    assert stale_reports({"stamps_full": report(**own)}, {}, NOW, SUITES) == []
    assert "text encoder old" in stale_reports({"stamps_full": report(**own, text="old")}, {}, NOW, SUITES)[0]
    (line,) = stale_reports({"stamps_full": report()}, {}, NOW, SUITES)
    assert line == "stamps_full.json: measured with the image encoder that ships; the suite needs its own"
    left_out = {"weights": {"text": "text-now", "audio": "trained anew for each source"}}
    assert stale_reports({"sounds_leave_one_out": left_out}, {}, NOW, SUITES) == []


def test_a_table_of_a_command_of_its_own_names_the_encoders_that_it_measured() -> None:
    assert stale_tables({"recogniser": {"weights": {"speech": "speech-now"}}}, NOW) == []
    (line,) = stale_tables({"recogniser": {"weights": {"speech": "old"}}}, NOW)
    assert line.startswith("recogniser.json: speech encoder old measured")


def test_what_is_made_is_checked_by_encoders_and_heads() -> None:
    made = {**report(), "heads": dict(NOW.heads)}
    assert stale_reports({}, {"generation_images": made}, NOW, SUITES) == []
    old = {**report(speech="old"), "heads": {**NOW.heads, "text": "earlier"}}
    lines = stale_reports({}, {"generation_images": old}, NOW, SUITES)
    assert [line.partition(" measured")[0] for line in lines] == [
        "generation_images.json: speech encoder old",  # a voice speaks what pictures are made from
        "generation_images.json: text head earlier",
    ]
    unnamed = {"heads": {}}
    lines = stale_reports({}, {"generation_images_chosen": unnamed}, NOW, SUITES)
    assert "generation_images_chosen.json: image encoder unnamed measured, image-no ships: measure again" in lines


def test_a_suite_of_generators_that_do_not_ship_needs_only_the_encoders_that_do() -> None:
    other = {**report(), "heads": {"image": "trained for this suite"}}
    assert stale_reports({}, {"families": other}, NOW, SUITES) == []
    assert "text encoder old" in stale_reports({}, {"families": {**other, **report(text="old")}}, NOW, SUITES)[0]


def test_what_ships_has_an_encoder_and_a_head_for_each_modality() -> None:
    found = shipped()
    assert set(found.heads) == {"image", "text", "audio", "speech"}
    assert set(found.encoders) == {*found.heads, "video"}  # which nothing makes
    assert all(len(digest) == 64 for digest in [*found.encoders.values(), *found.heads.values()])
