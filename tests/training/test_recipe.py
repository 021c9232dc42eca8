from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from embedspace.errors import ConfigError
from training.align.recipe import ImageRecipe, load_recipe

ROOT = Path(__file__).resolve().parents[2]


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, "utf-8")
    return path


RECIPES = [
    path
    for path in sorted((ROOT / "training" / "recipes").glob("*.toml"))
    if path.stem != "suris" and "kind" not in tomllib.loads(path.read_text("utf-8"))
]
"""All but what two towers learn from YouTube-8M, which has a reader of its own, and those of generators."""


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.name)
def test_shipped_recipes_parse(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    mixes = recipe.start and (recipe.speech.decoder or recipe.image.networks)
    assert recipe.stages or mixes  # something is to be done
    assert recipe.image.sources or recipe.start or "image" not in recipe.stages


def test_the_default_recipe_is_shipped() -> None:
    assert (ROOT / "training" / "recipes" / "default.toml").is_file()


def test_an_empty_recipe_is_all_defaults(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, ""))
    assert recipe.name == "mine"
    assert recipe.image == ImageRecipe()
    assert recipe.stages == ("image", "audio", "speech")


def test_a_recipe_lists_only_what_differs(tmp_path: Path) -> None:
    text = """
seed = 7
stages = ["audio"]
[image]
learning_rate = 1
[image.sources]
icons = 2
[audio]
backbones = ["a", "b"]
"""
    recipe = load_recipe(write(tmp_path, text))
    assert (recipe.seed, recipe.stages) == (7, ("audio",))
    assert recipe.image.sources == {"icons": 2}
    assert recipe.image.learning_rate == 1
    assert recipe.audio.backbones == ("a", "b")
    assert recipe.audio.steps == 600


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sede = 1", "mine.toml: unknown key 'sede'; known: name, seed"),
        ("[image]\nstep = 5", "mine.toml: image: unknown key 'step'; known: .*steps"),
        ("[video]\nsteps = 5", "unknown key 'video'"),
        ('seed = "one"', "seed: must be a whole number, got 'one'"),
        ("seed = 1.5", "seed: must be a whole number, got 1.5"),
        ("seed = true", "seed: must be a whole number, got True"),
        ("[image]\nlearning_rate = false", "image.learning_rate: must be a number, got False"),
        ('[image]\nlearning_rate = "fast"', "image.learning_rate: must be a number"),
        ('[image]\nsources = ["icons"]', "image.sources: must be a table"),
        ('[image.sources]\nicons = "many"', "image.sources.icons: must be a number, got 'many'"),
        ("[audio]\nlabel_sets = [78, 79]", "mine.toml: audio: unknown key 'label_sets'"),
        ('[audio]\nbackbones = ["yamnet"]', "audio.backbones: must be a list of 2"),
        ('[speech]\nbfloat16 = "yes"', "speech.bfloat16: must be true or false, got 'yes'"),
        ("stages = [1]", "stages: must be a list of texts"),
        ("image = 3", "image: must be a table, got 3"),
        ('[image]\nloss = "siglipp"', r"mine.toml \[image\]: loss must be one of infonce, siglip, got 'siglipp'"),
        ("seed = ", "mine.toml: not a TOML file"),
    ],
)
def test_a_wrong_recipe_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe(write(tmp_path, text))


def test_a_missing_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.toml: no such recipe; the shipped ones are in training/recipes"):
        load_recipe(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot read the recipe"):
        load_recipe(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'name = "caf\xe9"')
    with pytest.raises(ConfigError, match="not a TOML file"):
        load_recipe(tmp_path / "latin.toml")


def test_digest_covers_what_determines_a_stage(tmp_path: Path) -> None:
    digests = {
        change: load_recipe(write(tmp_path, change)).digest("audio")
        for change in ("", "seed = 1", "[text]\ndropout = 0.2", "[audio]\nsteps = 5", "[audio.sources]\nx = 1.0")
    }
    assert len(set(digests.values())) == len(digests)
    for change in ('corpora = "elsewhere"', "[image]\nsteps = 5", '[speech]\ndecoder = "x"'):
        assert load_recipe(write(tmp_path, change)).digest("audio") == digests[""]
    decoded = load_recipe(write(tmp_path, '[speech]\ndecoder = "x"\ngo_on_share = 0.5'))
    assert decoded.digest("speech") == load_recipe(write(tmp_path, "")).digest("speech")
