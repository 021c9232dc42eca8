"""Keep in the sound generator's gallery only the clips whose licence lets a copy of them ship.

    python -m training.clear_gallery                 # rewrites embedspace/weights/heads/audio/gallery.*
    python -m training.clear_gallery --check         # exit 1 if a clip of the gallery should not be there

The licences are those of the recipe (`training/recipes/heads/audio.toml`), each clip's own as its package states it.
`embedspace train head` keeps the same clips; this makes a gallery that was trained before a licence was corrected equal
to what it would write now.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file

from embedspace.errors import EmbedspaceError
from embedspace.train.head_recipe import load_head_recipe
from training.corpora import instruments
from training.corpora.fetch import package
from training.corpora.sound_origins import ORIGINS, PACKAGE
from training.corpora.sounds import id_of

__all__ = ["clear", "clip_licences", "main"]

HEAD = Path("embedspace/weights/heads/audio")
RECIPE = Path("training/recipes/heads/audio.toml")


def clip_licences(items: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return id -> licence and credit of sounds of the corpora, from their packages.

    Raises:
        EmbedspaceError: If a package lacks one of them.
    """
    found: dict[str, tuple[str, str]] = {}
    for source in dict.fromkeys(item.split("/")[0] for item in items):
        if source == "instruments":
            licence = package(instruments.PACKAGES[0]).licence
            found |= {item: (licence, "") for item in items if item.startswith(f"{source}/")}
            continue
        origin = source.removeprefix("sounds-")
        for clip in ORIGINS[origin]():
            found[id_of(origin, clip)] = (clip.licence or package(PACKAGE[origin]).licence, clip.credit)
    missing = [item for item in items if item not in found]
    if missing:
        raise EmbedspaceError(f"{len(missing)} clips are not in their packages, such as {missing[0]}")
    return {item: found[item] for item in items}


def clear(folder: Path, licences: Sequence[str], of: dict[str, tuple[str, str]]) -> list[str]:
    """Take the clips that have none of the licences out of a gallery, rows and names; return their ids.

    Rows stay as they are stored: nothing is packed anew.

    Args:
        folder: Of the head.
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
    """Rewrite the gallery, or check it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--head", type=Path, default=HEAD, help="folder of the head")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if something is to be removed")
    arguments = parser.parse_args(argv)
    licences = load_head_recipe(RECIPE).audio.licences
    items = json.loads((arguments.head / "gallery.json").read_text("utf-8"))["items"]
    of = clip_licences(items)
    if arguments.check:
        removed = [item for item in items if of[item][0] not in licences]
    else:
        removed = clear(arguments.head, licences, of)
    for item in removed:
        print(f"{item}: {of[item][0]}")
    print(f"{len(items) - len(removed)} of {len(items)} clips may ship")
    if arguments.check and removed:
        sys.exit(1)


if __name__ == "__main__":
    main()
