"""Assign every picture to one split, by seed, from the manifests and the near-copies on record.

    python -m training.corpora.splits

- Half of the stamps' concepts are test, such that the gallery of unique captions has 281; a concept and its near-copies
  stay together. Letters, digits and coins are train.
- A picture of another source that is a near-copy of a test stamp, or in a group with one, is dropped;
  `extra["near_stamp"]` marks near-copies of any stamp, for training without stamps.
- One emoji vendor is held out as a whole ("test_vendor").
- A picture of a source that came later (`duplicates.FOLLOWERS`) follows what it is the same as: it is val where that
  is, and dropped where that is dropped or of the held-out vendor.
- A twentieth of Open Clip Art and of the emoji concepts is val, groups whole.
- Words that are no pictures follow nothing: they are train.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from training.corpora.duplicates import (
    FOLLOWERS,
    HELD_OUT_VENDOR,
    IMAGE_SOURCES,
    NearCopies,
    components,
    read_near_copies,
)
from training.corpora.manifest import CORPORA, Item, read_manifest, write_manifest
from training.corpora.speech.human import split_of

__all__ = ["GALLERY", "SEED", "apply_splits", "grouped", "split_hash", "split_items", "split_stamps"]

SEED = 1
GALLERY = 281
"""Stamps with a unique caption in the test split: half of 563."""
VALIDATION = 0.05


def _rank(seed: int, name: str) -> float:
    """Return a number in [0, 1) that depends on the seed and the name alone."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:7], "big") / 256**7


def grouped(items: Sequence[Item], found: NearCopies) -> list[Item]:
    """Return the items with `group` set: the same concept among emoji and among stamps, and near-copies.

    A group is named by its first member, or by the emoji in it.
    """
    index = {item.id: k for k, item in enumerate(items)}
    pairs, firsts = [], dict[str, int]()
    for k, item in enumerate(items):
        key = f"emoji:{item.extra['hexcode']}" if "hexcode" in item.extra else ""
        if item.source == "stamps" and not item.extra["symbol"]:
            key = f"stamp:{item.concept}"
        if key:
            pairs.append((firsts.setdefault(key, k), k))
    for group in found.groups:
        known = [index[name] for name in group if name in index]
        pairs += [(known[0], other) for other in known[1:]]
    names = {}
    for members in components(len(items), pairs):
        emoji = sorted(f"emoji:{items[k].extra['hexcode']}" for k in members if "hexcode" in items[k].extra)
        name = emoji[0] if emoji else min(items[k].id for k in members)
        names.update(dict.fromkeys(members, name))
    return [replace(item, group=names.get(k, "")) for k, item in enumerate(items)]


def split_stamps(items: Sequence[Item], seed: int = SEED, gallery: int = GALLERY) -> dict[str, str]:
    """Return stamp id -> "train" or "test".

    Args:
        items: Grouped stamps.
        seed: Another seed gives another half.
        gallery: How many test stamps have a unique caption.
    """
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        if not item.extra["symbol"]:
            groups[item.group or item.id].append(item)
    splits = {item.id: "train" for item in items}
    left = gallery
    for name in sorted(groups, key=lambda name: _rank(seed, name)):
        unique = sum(item.extra["unique"] for item in groups[name])
        # Groups without a unique caption are no part of the gallery: a coin decides.
        chosen = 0 < unique <= left if unique else _rank(seed, f"coin {name}") < 0.5
        if chosen:
            left -= unique
            splits.update((item.id, "test") for item in groups[name])
    return splits


def split_items(items: Sequence[Item], found: NearCopies, seed: int = SEED, gallery: int = GALLERY) -> list[Item]:
    """Return all pictures with `group`, `split` and `extra["near_stamp"]` set."""
    items = grouped(items, found)
    stamps = split_stamps([item for item in items if item.source == "stamps"], seed, gallery)
    members: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        members[item.group or item.id].append(item)
    own = {item.id: _split(item, members, stamps, found, seed) for item in items}
    return [replace(item, split=_followed(item.id, own, found), extra=_marked(item, members, found)) for item in items]


def _followed(name: str, own: Mapping[str, str], found: NearCopies) -> str:
    """Return an item's split: its own, or that of what it copies."""
    leaders = {own[leader] for leader in found.follows.get(name, ()) if leader in own}
    if leaders & {"drop", "test", "test_vendor"}:
        return "drop"
    return "val" if own[name] == "train" and "val" in leaders else own[name]


def _near(item: Item, members: Mapping[str, list[Item]], found: NearCopies) -> set[str]:
    """Return the stamps that an item is near to, itself or through its group.

    Emoji of one concept are no copies, and what a follower is near to is no matter of others.
    """
    others = [] if "hexcode" in item.extra else members[item.group or item.id]
    group = [item, *(other for other in others if other.source not in FOLLOWERS)]
    return {stamp for other in group for stamp in found.near_stamps.get(other.id, ())}


def _marked(item: Item, members: Mapping[str, list[Item]], found: NearCopies) -> dict[str, object]:
    extra = {key: value for key, value in item.extra.items() if key != "near_stamp"}
    near = item.source != "stamps" and bool(_near(item, members, found))
    return extra | ({"near_stamp": True} if near else {})


def _split(
    item: Item, members: Mapping[str, list[Item]], stamps: Mapping[str, str], found: NearCopies, seed: int
) -> str:
    if item.source == "stamps":
        return stamps[item.id]
    if item.source == HELD_OUT_VENDOR:
        return "test_vendor"
    near = _near(item, members, found)
    if any(stamps[name] == "test" for name in near):
        return "drop"
    group = members[item.group or item.id]
    wanted = any(other.source == "openclipart" or "hexcode" in other.extra for other in group)
    return "val" if wanted and _rank(seed, f"val {item.group or item.id}") < VALIDATION else "train"


def _follow(path: Path, splits: Mapping[str, str]) -> None:
    """Give recordings of stamps the splits of their stamps."""
    if path.exists():
        items = list(read_manifest(path))
        write_manifest(
            path,
            [replace(item, split=split_of(item.language, splits.get(item.extra["stamp"], "train"))) for item in items],
        )


def split_hash(items: Sequence[Item]) -> str:
    """Return the SHA-256 of the sorted lines "id split"."""
    lines = sorted(f"{item.id} {item.split}" for item in items)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def apply_splits(corpora: Path = CORPORA) -> dict[str, object]:
    """Rewrite the manifests of the image sources that are built, and of recordings of stamps; write splits.json.

    Returns:
        What splits.json says: hash, seed, and counts per source and split.
    """
    paths = {name: corpora / name / "manifest.jsonl" for name in IMAGE_SOURCES}
    manifests = {name: list(read_manifest(path)) for name, path in paths.items() if path.exists()}
    pictures = [item for items in manifests.values() for item in items if item.modality == "image"]
    done = {item.id: item for item in split_items(pictures, read_near_copies())}
    counts: dict[str, dict[str, int]] = {name: defaultdict(int) for name in manifests}
    for name, items in manifests.items():
        write_manifest(corpora / name / "manifest.jsonl", [done.get(item.id, item) for item in items])
        for item in items:
            if item.id in done:
                counts[name][done[item.id].split] += 1
    _follow(
        corpora / "human" / "manifest.jsonl",
        {item.extra["stem"]: item.split for item in done.values() if "stem" in item.extra},
    )
    everything = list(done.values())
    summary: dict[str, object] = {
        "hash": split_hash(everything),
        "stamps_hash": split_hash([item for item in everything if item.source == "stamps"]),
        "seed": SEED,
        "gallery": sum(item.split == "test" and item.extra.get("unique", False) for item in everything),
        "near_stamp": sum("near_stamp" in item.extra for item in everything),
        "counts": counts,
    }
    (corpora / "splits.json").write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return summary


if __name__ == "__main__":
    print(json.dumps(apply_splits(), indent=1, sort_keys=True))
