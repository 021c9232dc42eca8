"""Write the pairs of the composed suite: picture of a base + words -> picture whose name is the base's plus the words.

    python -m eval.composed_pairs        # a second; rewrites composed_pairs.jsonl and composed_pairs_fresh.jsonl

Pairs follow from the names alone, before anything is measured: the base's name is the beginning or the end of the
target's ("cat" and "cat with tears of joy"; "construction worker" and "woman construction worker"), both stand in the
same group of Unicode's, and what is left of the name is the words. Left out: symbols, names with ":" or "," (families,
direction variants). A base has at most 40 targets, drawn by a hash, since "man" and "woman" would be half of all pairs.

The fresh pairs are all that the first list leaves out: beyond the 40 targets, across groups ("cat" is an animal, "cat
with tears of joy" a smiley), symbols, and names with ":" ("man: beard"). The first list was looked at while it was
decided how words and pictures are composed; these were not.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from pathlib import Path

from embedspace.evaluate.items import Row, field_of, read_rows
from embedspace.evaluate.retrieval.run import corpora_folder

VENDOR = "emoji-twitter"
OUT = Path(__file__).parent / "suites/composed_pairs.jsonl"
FRESH = OUT.with_name("composed_pairs_fresh.jsonl")
MAX_TARGETS = 40
SKIPPED_GROUPS = ("symbols", "flags", "component")
STOP = frozenset("a an the of and or in on at to with for from by".split())


def rest_of(name: str, base: str) -> str:
    """Return what is left of a name when the base's is taken from its beginning or end; "" if nothing of weight is."""
    if name.startswith(f"{base} "):
        rest = name.removeprefix(f"{base} ")
    elif name.endswith(f" {base}"):
        rest = name.removesuffix(f" {base}")
    else:
        return ""
    return rest if any(word not in STOP for word in rest.split()) else ""


def pairs_of(rows: list[Row]) -> list[dict[str, str]]:
    """Return the pairs among the emoji of one vendor, in the order of their targets."""
    named = [
        row for row in rows if field_of(row, "extra.group") not in SKIPPED_GROUPS and not set(":,") & set(name(row))
    ]
    by_base: dict[str, list[dict[str, str]]] = defaultdict(list)
    for target in named:
        for base in named:
            same_group = field_of(base, "extra.group") == field_of(target, "extra.group")
            if same_group and (words := rest_of(name(target), name(base))):
                pair = {"base": str(base["concept"]), "words": words, "target": str(target["concept"])}
                pair["name"] = name(target)
                by_base[pair["base"]].append(pair)
    kept = [pair for pairs in by_base.values() for pair in sorted(pairs, key=_draw)[:MAX_TARGETS]]
    order = {str(row["concept"]): position for position, row in enumerate(rows)}
    return sorted(kept, key=lambda pair: (order[pair["target"]], order[pair["base"]]))


def fresh_pairs_of(rows: list[Row]) -> list[dict[str, str]]:
    """Return the pairs that `pairs_of` leaves out, in the order of their targets."""
    known = {(pair["base"], pair["target"]) for pair in pairs_of(rows)}
    named = [row for row in rows if "," not in name(row)]
    pairs = []
    for target in named:
        for base in named:
            words = rest_of(name(target).replace(":", ""), name(base))
            if words and (str(base["concept"]), str(target["concept"])) not in known:
                pair = {"base": str(base["concept"]), "words": words, "target": str(target["concept"])}
                pairs.append(pair | {"name": name(target)})
    return pairs


def name(row: Row) -> str:
    """Return an emoji's name in lower case."""
    return str(field_of(row, "caption")).casefold()


def _draw(pair: dict[str, str]) -> bytes:
    return hashlib.sha256(f"{pair['base']}\0{pair['target']}".encode()).digest()


def main() -> None:
    """Write the files and say what is in them."""
    rows = read_rows(corpora_folder(), VENDOR)
    for path, pairs in ((OUT, pairs_of(rows)), (FRESH, fresh_pairs_of(rows))):
        path.write_text("".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs), encoding="utf-8")
        bases = {pair["base"] for pair in pairs}
        print(f"{len(pairs)} pairs of {len(bases)} bases -> {path.relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
