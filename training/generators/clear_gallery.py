"""Keep in the galleries of the generators only items whose licence lets a copy of them ship.

    python -m training.generators.clear_gallery          # rewrites embedspace/weights/heads/{audio,image}/gallery.*
    python -m training.generators.clear_gallery --check  # exit 1 if something is in a gallery that should not be there

The licences are those of the recipes (`training/recipes/generators`), each item's own as its package states it.
`embedspace train generator` keeps the same items; this makes a gallery that was trained before a licence was corrected
equal to what it would write now.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file

from embedspace.errors import EmbedspaceError
from embedspace.train.generators.recipe import load_generator_recipe
from training.corpora.fetch import package, unpacked
from training.corpora.pictures import openclipart
from training.corpora.pictures.emoji import FLUENT, GOOGLE
from training.corpora.sounds import instruments
from training.corpora.sounds.effects import id_of
from training.corpora.sounds.sound_origins import ORIGINS, PACKAGE

__all__ = ["clear", "item_licences", "main", "shippable"]

HEADS = Path("embedspace/weights/heads")
RECIPES = Path("training/recipes/generators")
_EMOJI = {"emoji-fluent": FLUENT, "emoji-google": GOOGLE}


def item_licences(items: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return id -> licence and credit of items of the corpora, from their packages.

    Raises:
        EmbedspaceError: If a package lacks one of them.
    """
    found: dict[str, tuple[str, str]] = {}
    for source in dict.fromkeys(item.split("/")[0] for item in items):
        own = [item for item in items if item.startswith(f"{source}/")]
        if source == openclipart.SOURCE:
            found |= {item: (_clip_art(item), "") for item in own}
        elif source in _EMOJI:
            vendor = _EMOJI[source]
            found |= {item: (vendor.licence or package(vendor.package).licence, "") for item in own}
        elif source == instruments.SOURCE:
            found |= {item: (package(instruments.PACKAGES[0]).licence, "") for item in own}
        else:
            origin = source.removeprefix("sounds-")
            for clip in ORIGINS[origin]():
                found[id_of(origin, clip)] = (clip.licence or package(PACKAGE[origin]).licence, clip.credit)
    missing = [item for item in items if item not in found]
    if missing:
        raise EmbedspaceError(f"{len(missing)} items are not in their packages, such as {missing[0]}")
    return {item: found[item] for item in items}


def _clip_art(item: str) -> str:
    path = unpacked("openclipart-svg") / f"usr/share/openclipart/svg/{item.split('/', 1)[1]}.svg"
    return openclipart.licence_of(path.read_bytes() if path.exists() else b"")


def shippable(kind: str) -> tuple[str, ...]:
    """Return the licences that the recipe of a head lets ship."""
    recipe = load_generator_recipe(RECIPES / f"{kind}.toml")
    return {"audio": recipe.audio.licences, "image": recipe.image.licences}[kind]


def clear(folder: Path, licences: Sequence[str], of: dict[str, tuple[str, str]]) -> list[str]:
    """Take the items that have none of the licences out of a gallery, rows and names; return their ids.

    Rows stay as they are stored: nothing is packed anew.

    Args:
        folder: The generator's folder.
        licences: Those that let a copy ship.
        of: Id -> licence and credit.
    """
    about = json.loads((folder / "gallery.json").read_text("utf-8"))
    keep = [row for row, item in enumerate(about["items"]) if of[item][0] in licences]
    removed = [item for item in about["items"] if of[item][0] not in licences]
    if removed:
        tensors = load_file(folder / "gallery.safetensors")
        save_file({name: tensor[keep].contiguous() for name, tensor in tensors.items()}, folder / "gallery.safetensors")
        for key in ("items", "captions"):
            about[key] = [about[key][row] for row in keep]
        (folder / "gallery.json").write_text(json.dumps(about, ensure_ascii=False) + "\n", "utf-8")
    return removed


def main(argv: Sequence[str] | None = None) -> None:
    """Rewrite the galleries, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if something is to be removed")
    arguments = parser.parse_args(argv)
    failed = False
    for kind in ("audio", "image"):
        licences = shippable(kind)
        items = json.loads((HEADS / kind / "gallery.json").read_text("utf-8"))["items"]
        of = item_licences(items)
        removed = [item for item in items if of[item][0] not in licences]
        if not arguments.check:
            clear(HEADS / kind, licences, of)
        for item in removed:
            print(f"{item}: {of[item][0]}")
        print(f"{kind}: {len(items) - len(removed)} of {len(items)} items may ship")
        failed = failed or (arguments.check and bool(removed))
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
