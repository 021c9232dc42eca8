"""Write NOTICE out of embedspace/weights/licences.json, which says where every shipped file comes from.

    python -m training.notice                  # rewrites NOTICE
    python -m training.notice --check          # exit 1 if NOTICE is not what this would write
    python -m training.notice --recordings     # names the recordings of the galleries and of the memory of sounds anew

`licences.json` is kept by hand, but for its section "recordings", which needs the packages and the corpus of sounds.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from training.align.recipe import load_recipe
from training.align.stages.audio import training_rows
from training.generators.clear_gallery import HEADS, item_licences

__all__ = ["CREDITED", "LICENCES", "NOTICE", "main", "recordings", "render"]

LICENCES = Path("embedspace/weights/licences.json")
NOTICE = Path("NOTICE")
SOUNDS = Path("training/recipes/sounds.toml")
CREDITED = ("CC-BY-",)
"""Licences, by how their names begin, that ask to name the authors of a copy; NOTICE lists these clips one by one."""

_WIDTH = 120
_KINDS = {
    "converted": "Converted from others' models",
    "trained": "Trained by this project",
    "features": "Trained by this project, with features of single recordings or pictures inside",
    "copies": "Copies, small and compressed, of training items",
    "names": "Names and words",
    "settings": "Settings, this project's own",
}
_USES = {
    "model": "Models",
    "pictures": "Pictures",
    "words": "Names, words and recipes",
    "sounds": "Sounds",
    "speech": "Speech",
    "judged": "Used to test and to judge; no shipped file derives from them",
}
_HEADER = """embedspace
Copyright 2026 the embedspace authors
Licensed under the Apache License, Version 2.0 (see LICENSE).

This file names everything that the shipped weights (embedspace/weights) derive from. It is written by
`python -m training.notice` from embedspace/weights/licences.json, which says the same for programs, file by file.
Licences are as the packages state them, in their own copyright files; training/corpora/packages.toml pins every package
with its checksum. No corpus is part of this distribution.

Some of the corpora are under share-alike or GNU licences. What is trained on them is published under Apache-2.0 in the
belief that a few million averaged coefficients, and the 512 numbers per recording that the memory of sounds holds, are
not an adaptation of any of the works. Whoever judges otherwise can make the weights without a source: leave it out of
the recipes in training/recipes. Copies of training items ship only where their licence asks for no more than the
author's name or the licence's own text beside them; both are below.
"""


def render(about: Mapping[str, Any]) -> str:
    """Return the text of NOTICE."""
    parts = [_HEADER, *_files(about), *_sources(about), *_credits(about), *_texts(about)]
    return "\n".join(parts).rstrip() + "\n"


def _filled(text: str, indent: int, first: int | None = None) -> str:
    before = " " * (indent if first is None else first)
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=before,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _files(about: Mapping[str, Any]) -> Iterator[str]:
    yield "\n1. THE FILES\n"
    for kind, title in _KINDS.items():
        yield f"{title}\n"
        own = [(path, file) for path, file in about["files"].items() if file["kind"] == kind]
        for said, group in groupby(own, key=lambda pair: (pair[1]["changes"], pair[1]["from"])):
            for path, _ in group:
                yield f"    {path}"
            yield _filled(said[0], 8)
            if said[1]:
                yield _filled(f"from: {', '.join(said[1])}", 8)
        yield ""


def _sources(about: Mapping[str, Any]) -> Iterator[str]:
    yield "\n2. WHAT THEY DERIVE FROM\n"
    for use, title in _USES.items():
        yield f"{title}\n"
        for name, source in about["sources"].items():
            if source["use"] != use:
                continue
            yield _filled(f"{name}: {source['title']}", 8, 4)
            yield _filled(f"{_plain(source['licence'])}; {source['authors']}", 8)
            if source["packages"]:
                yield _filled(f"packages: {', '.join(source['packages'])}", 8)
            if "note" in source:
                yield _filled(source["note"], 8)
        yield ""


def _plain(expression: str) -> str:
    """Return an SPDX expression for people: "AND" is "and", and our own names lose their prefix."""
    return expression.replace(" AND ", " and ").replace("LicenseRef-", "").replace("file-by-file", "file by file")


def _credits(about: Mapping[str, Any]) -> Iterator[str]:
    yield "\n3. RECORDINGS\n"
    for path, items in about["recordings"].items():
        counts = Counter(entry["licence"] for entry in items.values())
        listed = ", ".join(f"{count} under {licence}" for licence, count in sorted(counts.items()))
        yield _filled(f"{path}: {len(items)} recordings, each named in licences.json: {listed}.", 0)
        credited = [(i, e) for i, e in items.items() if e.get("credit") and e["licence"].startswith(CREDITED)]
        if credited:
            yield "\n    Of these, whose licence asks for the author's name:\n"
            for item, entry in credited:
                yield _filled(f"{item}: {entry['credit']} {entry['licence']}.", 8, 4)
        yield ""


def _texts(about: Mapping[str, Any]) -> Iterator[str]:
    yield "\n4. LICENCES\n"
    for spdx, licence in about["licences"].items():
        yield f"{licence['name']} ({_plain(spdx)}): {licence['url']}"
    yield "The Apache License 2.0 is in the file LICENSE.\n"
    for spdx, licence in about["licences"].items():
        if "text" not in licence:
            continue
        yield f"\n{licence['name']}\n"
        for line in _holders(about, spdx):
            yield _filled(line, 8, 4)
        yield ""
        yield "\n\n".join(_filled(part, 4) for part in licence["text"].split("\n\n"))
        yield ""


def _holders(about: Mapping[str, Any], spdx: str) -> list[str]:
    """Return the copyright lines of the sources that are under a licence whose text they ask to keep."""
    return [
        f"{name}: {line}"
        for name, source in about["sources"].items()
        if spdx in source["licence"].split(" AND ")
        for line in source.get("copyright", ())
    ]


def recordings() -> dict[str, dict[str, dict[str, str]]]:
    """Return file -> id -> licence and credit of the recordings that the sound gallery and the memory of sounds hold.

    Raises:
        EmbedspaceError: If a package or the corpus of sounds is missing.
    """
    gallery = json.loads((HEADS / "audio/gallery.json").read_text("utf-8"))["items"]
    recipe = load_recipe(SOUNDS)
    remembered = [row["id"] for name in recipe.audio.sources for row in training_rows(recipe, name)]
    of = item_licences(list(dict.fromkeys([*gallery, *remembered])))
    named = {item: {"licence": of[item][0]} | ({"credit": of[item][1]} if of[item][1] else {}) for item in of}
    return {
        "heads/audio/gallery.safetensors": {item: named[item] for item in gallery},
        "default/audio.safetensors": {item: {"licence": of[item][0]} for item in remembered},
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Write NOTICE, or check it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if NOTICE is not up to date")
    parser.add_argument("--recordings", action="store_true", help="name the recordings anew, from their packages")
    arguments = parser.parse_args(argv)
    about = json.loads(LICENCES.read_text("utf-8"))
    if arguments.recordings:
        about["recordings"] = recordings()
        LICENCES.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", "utf-8")
    text = render(about)
    if arguments.check:
        if NOTICE.read_text("utf-8") != text:
            sys.exit(f"{NOTICE} is not what {LICENCES} says; run python -m training.notice")
    else:
        NOTICE.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
