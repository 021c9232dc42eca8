"""What counts as never named: by pictures, by the classes of the frozen backbones, by texts of any field."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from embedspace.errors import ConfigError
from embedspace.evaluate import load_suite
from embedspace.evaluate.items import select
from embedspace.evaluate.suite import ItemSet, Novelty

SUITES = Path(__file__).parents[2] / "eval/suites"
ASKED = ("yak", "wombat", "lesser panda", "pressure cooker", "pecan", "red lorry")


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    """Things to ask for; pictures that name a lorry; a recipe that names pecans in its ingredients."""
    rows = {
        "asked": [{"id": name, "path": name, "concept": name} for name in ASKED],
        "pictures": [{"id": "p", "captions": ["a lorry"], "split": "train"}, {"id": "t", "captions": ["a yak"]}],
        "recipes": [{"id": "r", "captions": ["pie"], "split": "train", "extra": {"ingredients": "two pecan, ground"}}],
    }
    for source, own in rows.items():
        (tmp_path / source).mkdir()
        (tmp_path / source / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    return tmp_path


@pytest.mark.parametrize(
    ("novelty", "kept"),
    [
        (Novelty(("pictures",), {"split": "train"}), ["yak", "wombat", "lesser panda", "pressure cooker", "pecan"]),
        (Novelty(("pictures",), {"split": "train"}, words="phrase"), list(ASKED)),
        # "wombat" is a class, "lesser panda" a synonym of one; "cooker" is what a Crock Pot is a kind of
        (Novelty(("pictures",), {"split": "train"}, classes=("imagenet",)), ["yak", "pecan"]),
        (Novelty((), words="phrase", classes=("imagenet",)), ["yak", "pressure cooker", "pecan", "red lorry"]),
        (Novelty(("recipes",), read=("captions", "extra.ingredients")), [n for n in ASKED if n != "pecan"]),
        (Novelty(("recipes",)), list(ASKED)),
    ],
)
def test_what_is_new_depends_on_what_is_read(corpora: Path, novelty: Novelty, kept: list[str]) -> None:
    found = select(ItemSet(("asked",), novel_to=novelty), corpora, {})
    assert [item.id for item in found] == kept


def test_classes_of_no_known_backbone_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(
        'name = "a"\ndescription = "d"\ndirections = [{ query = "x", gallery = "x" }]\n[sets.x]\nmanifests = ["m"]\n'
        '[sets.x.novel_to]\nmanifests = ["m"]\nclasses = ["places365"]\n'
    )
    with pytest.raises(ConfigError, match=r"novel_to\.classes: no names of 'places365'; known: imagenet"):
        load_suite(path)


def test_the_stamps_that_nothing_names_are_new_to_backbones_and_to_texts_too() -> None:
    sets = load_suite(SUITES / "held_out_concepts.toml").sets
    new, unclassed, unpictured = (sets[f"{name}_image"].novel_to for name in ("new", "unclassed", "unpictured"))
    assert new is not None and unclassed is not None and unpictured is not None
    assert set(unpictured.manifests) == set(unclassed.manifests) == set(new.manifests) - {"recipes"}
    assert unclassed.classes == new.classes == ("imagenet",)
    assert {"extra.title", "extra.ingredients", "extra.steps"} <= set(new.read)


def test_every_source_that_trains_pictures_is_read_for_what_they_are_called() -> None:
    from training.align.recipe import load_recipe

    recipe = load_recipe(SUITES.parents[1] / "training/recipes/default.toml")
    novelty = load_suite(SUITES / "held_out_concepts.toml").sets["new_image"].novel_to
    assert novelty is not None
    assert set(recipe.image.sources) | {recipe.text.pairs} <= set(novelty.manifests)
