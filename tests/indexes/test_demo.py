from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

import indexes.demo as demo
from embedspace.errors import EmbedspaceError
from tests.support.cli_media import picture, sound
from tests.support.generators import SpaceWithGenerators, write_latent_generator, write_text_generator

NAMES = (
    "animals/birds/penguin",
    "animals/birds/owl",
    "animals/birds/rooster",
    "animals/mammals/elephant",
    "animals/mammals/dogs/dog",
    "animals/mammals/equines/horse",
    "food/fruit/strawberry",
    "symbols/one",
)


def write_reports(folder: Path, metrics: dict[str, list[float]]) -> None:
    """Write a report of every suite that the demo quotes, with these metrics for each of its directions."""
    folder.mkdir(exist_ok=True)
    asked = [search.measured for search in demo.searches(Path(), "m", "r")]
    for suite in {one.suite for one in asked}:
        results = [
            {"query": one.query, "gallery": one.gallery, "label": one.label, "metrics": metrics, "gallery_size": 70}
            | {"groups": {one.group: {"metrics": metrics, "gallery_size": 70}}}
            for one in asked
            if one.suite == suite
        ]
        (folder / f"{suite}.json").write_text(json.dumps({"results": results}))


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two tiny packages, unpacked, in place of the real ones; the working folder is beside them."""
    stamps = tmp_path / demo.STAMPS / "usr/share/tuxpaint/stamps"
    for number, name in enumerate(NAMES):
        path = stamps / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(path.with_suffix(".png"), number)
        path.with_suffix(".txt").write_text(f"A {path.name}.\nfr.utf8=Un {path.name}.\n")
    sound(stamps / "animals/mammals/dogs/dog.ogg")
    sound(stamps / "animals/birds/rooster.ogg", frequency=700)
    for name in ("animals/birds/owl_desc.ogg", "animals/mammals/elephant_desc_fr.ogg"):
        sound(stamps / name, frequency=300 + len(name))
        (stamps / name).with_suffix(".words").write_text("An owl.")
    recipe = {"title": "Pizza", "category": "Pizza recipes", "ingredients": ["dough"], "steps": ["bake"]}
    book = tmp_path / demo.RECIPES / "x/recipes_en-us.json"
    book.parent.mkdir(parents=True)
    book.write_text(json.dumps({"Cookbook:Pizza": recipe, "Cookbook:Air": {**recipe, "title": "Air", "steps": []}}))
    monkeypatch.setattr(demo, "RESULTS", tmp_path / "results")
    write_reports(tmp_path / "results", {"recall_at_5": [0.6, 0.5, 0.7]})
    monkeypatch.setattr(demo, "unpacked", lambda name: tmp_path / name)
    heads = tmp_path / "space" / "heads"
    write_text_generator(heads)
    for modality in ("image", "audio"):
        write_latent_generator(heads, modality)
    monkeypatch.setattr("embedspace.cli.shared.space.load_space", lambda *_: SpaceWithGenerators(tmp_path / "space"))
    monkeypatch.setattr("embedspace.generate.speech.voices.available", list)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_demo_builds_and_searches_and_is_quick_to_repeat(packages: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main([]) == 0
    first = capsys.readouterr().out
    assert "18 added" in first  # 7 pictures, 2 sounds, 2 recordings of speech, 7 captions
    assert "1 added" in first  # the recipe
    assert first.count("$ embedspace index") == 2
    assert first.count("$ embedspace search") == 10
    assert first.count(" (60 of 100 such queries do so within 5 hits, among 70 items)") == 10
    assert first.count("$ embedspace generate") == 5  # no voice is installed, so nothing is said
    made = {path.name for path in (packages / "demo").iterdir() if path.suffix in (".png", ".wav")}
    assert made == {
        *(f"a-violin.image-{k}.png" for k in range(1, 8)),
        *(f"rooster.image-{k}.png" for k in (1, 2)),
        "owl_desc.image.png",
        "horse.audio.wav",
        "violin.sheet.png",
    }
    assert demo.main([]) == 0
    again = capsys.readouterr().out
    assert "0 added, 0 updated, 18 unchanged" in again
    assert demo.main(["--only-search"]) == 0
    assert "embedspace index" not in capsys.readouterr().out


def test_demo_takes_no_symbols_and_only_whole_recipes(packages: Path) -> None:
    rows = list(demo.media_rows(packages / demo.STAMPS / "usr/share/tuxpaint/stamps"))
    assert Counter(row["modality"] for row in rows) == {"image": 7, "audio": 2, "speech": 2, "text": 7}
    assert not any(row.get("path", "").endswith("one.png") for row in rows)
    recipes = list(demo.recipe_rows(packages / demo.RECIPES / "x/recipes_en-us.json"))
    assert [row["title"] for row in recipes] == ["Pizza"]


def test_demo_says_what_is_missing(
    packages: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unpacked(name: str) -> Path:
        raise EmbedspaceError("apt-get is not installed; it fetches stamps.deb: install it")

    monkeypatch.setattr(demo, "unpacked", unpacked)
    assert demo.main([]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("demo: apt-get is not installed")


def test_demo_shows_what_succeeds_often_enough(packages: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tux = packages / "results/sounds_tux.json"
    report = json.loads(tux.read_text())
    report["results"][0]["metrics"]["recall_at_5"] = [0.39, 0.3, 0.5]
    tux.write_text(json.dumps(report))
    (packages / "results/recipes.json").unlink()
    assert demo.main([]) == 0
    out = capsys.readouterr().out
    assert "# Words find pictures (60 of 100" in out
    assert "Words find sounds" not in out
    assert "# A picture of a dish finds its recipe (not measured yet)" in out


def test_demo_quotes_figures_that_are_there() -> None:
    """Every figure that the demo prints is in a committed report, but for those that no report has yet."""
    found = {search.title: demo.success(search.measured) for search in demo.searches(Path(), "m", "r")}
    missing = {title for title, figure in found.items() if figure is None}
    assert missing <= {"A picture of a dish finds its recipe"}
    assert all(0.0 <= figure[0] <= 1.0 and figure[1] > 1 for figure in found.values() if figure)
