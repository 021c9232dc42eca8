"""Find near-copies of pictures across the image sources.

    python -m training.align.features image --views 1
    python -m training.corpora.duplicates        # rewrites near_copies.json beside this file

Two pictures are near-copies if their thumbnails agree, or if the cosine of their EfficientNet-Lite0 features is high.
What is found is kept under version control, so that the splits need neither pictures nor features, and are the same
everywhere. A source without features is compared by its thumbnails only, which misses redrawn and rescaled copies.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedspace.media.image import open_image
from training.corpora.manifest import CORPORA, Item, read_manifest

__all__ = [
    "FOLLOWERS",
    "HELD_OUT_VENDOR",
    "IMAGE_SOURCES",
    "NEAR_COPIES",
    "NearCopies",
    "components",
    "find_near_copies",
    "near_pairs",
    "read_near_copies",
    "thumbnail",
]

IMAGE_SOURCES = (
    "stamps",
    "openclipart",
    "openmoji",
    "emoji-google",
    "emoji-twitter",
    "emoji-fluent",
    "art4apps",
    "gcompris",
    "emoji-emojione",
    "emoji-emojione-1",
    "emoji-firefox",
    "emoji-blob",
    "emoji-fluent-flat",
    "emoji-streamline",
)
FOLLOWERS = IMAGE_SOURCES[-6:]
"""Sources that came later: they follow the splits of what they copy, and never change the splits of others."""
HELD_OUT_VENDOR = "emoji-twitter"
"""The emoji vendor that is never trained on."""
NEAR_COPIES = Path(__file__).with_name("near_copies.json")

_SIDE = 16
_AGREEMENT = 0.97
_DIFFERENCE = 0.05
# Cosines: at 0.88 all that resembles a stamp too much is found, and some signs that do not.
_NEAR = 0.88
_TOGETHER = 0.9
_SAME = 0.95
_FEATURE_DIM = 1280

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class NearCopies:
    """What was found.

    Attributes:
        groups: Lists of ids that show the same picture: one side of every split. Stamps are in groups of their own, so
            that their splits depend on no other source.
        near_stamps: Item of another source -> stamps it is a near-copy of.
        follows: Item of one of `FOLLOWERS` -> pictures of other sources that it is the same as.
        rule: The thresholds, for the record.
    """

    groups: list[list[str]] = field(default_factory=list)
    near_stamps: dict[str, list[str]] = field(default_factory=dict)
    follows: dict[str, list[str]] = field(default_factory=dict)
    rule: dict[str, float] = field(default_factory=dict)


def read_near_copies(path: Path = NEAR_COPIES) -> NearCopies:
    """Read what was found the last time."""
    return NearCopies(**json.loads(path.read_text(encoding="utf-8")))


def thumbnail(image: Image.Image) -> Matrix:
    """Return a small colour picture of what is drawn: on white, cropped to the content, stretched to a square.

    Args:
        image: RGBA or any other mode.

    Returns:
        (768,) values in [0, 1].
    """
    rgba = image.convert("RGBA")
    box = rgba.getchannel("A").point(lambda alpha: 255 * (alpha > 8)).getbbox()
    canvas = Image.new("RGBA", rgba.size, "white")
    canvas.alpha_composite(rgba)
    small = canvas.crop(box).convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32).reshape(-1) / np.float32(255)


def _thumbnail_of(path: str) -> Matrix:
    with open_image(CORPORA / path) as image:
        return thumbnail(image)


def _unit(rows: Matrix) -> Matrix:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, 1e-6), dtype=np.float32)


def near_pairs(rows: Matrix, threshold: float, block: int = 512) -> Iterator[tuple[int, int, float]]:
    """Yield (i, j, cosine) of all pairs i < j whose cosine is at least a threshold.

    Args:
        rows: (N, D) vectors of any norm.
        threshold: Least cosine.
        block: Rows compared at a time.
    """
    unit = _unit(rows)
    for start in range(0, len(unit), block):
        scores = unit[start : start + block] @ unit[start:].T
        for i, j in np.argwhere(scores >= threshold):
            if j > i:
                yield start + int(i), start + int(j), float(scores[i, j])


def components(count: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Return the connected components that have at least two members, in ascending order."""
    parent = list(range(count))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for a, b in pairs:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    found: dict[int, list[int]] = {}
    for index in range(count):
        found.setdefault(root(index), []).append(index)
    return [members for members in found.values() if len(members) > 1]


def _same_thumbnails(thumbnails: Matrix) -> Iterator[tuple[int, int]]:
    """Yield pairs whose thumbnails agree in shape and in colour."""
    centred = thumbnails - thumbnails.mean(axis=1, keepdims=True)
    for i, j, _ in near_pairs(centred, _AGREEMENT):
        if np.abs(thumbnails[i] - thumbnails[j]).mean() <= _DIFFERENCE:
            yield i, j


def _is_emoji(item: Item) -> bool:
    return "hexcode" in item.extra


def _matters(leader: Item) -> bool:
    """Say whether a follower's split depends on a picture: a concept decides for emoji, but the held-out vendor's."""
    return not _is_emoji(leader) or leader.source == HELD_OUT_VENDOR


def find_near_copies(items: Sequence[Item], thumbnails: Matrix, features: Matrix) -> NearCopies:
    """Compare all pictures with all.

    Two emoji are never put into one group here: smileys resemble each other, but are different concepts. Nor is a
    follower: it is only recorded what it is the same as.

    Args:
        items: N pictures.
        thumbnails: (N, 768) from `thumbnail`.
        features: (N, 1280) pooled features; zeros where there are none.
    """
    same, near, stamps = set(_same_thumbnails(thumbnails)), set[tuple[int, int]](), set[tuple[int, int]]()
    for i, j, cosine in near_pairs(features, _NEAR):
        (same if cosine >= _SAME else near).add((i, j))
        if cosine >= _TOGETHER:
            stamps.add((i, j))
    found: dict[str, set[str]] = {}
    follows: dict[str, set[str]] = {}
    together = set()
    either = same | stamps
    for i, j in same | near:
        a, b = sorted((items[i], items[j]), key=lambda item: item.source != "stamps")
        if a.source == "stamps" and b.source != "stamps":
            found.setdefault(b.id, set()).add(a.id)
        elif a.source in FOLLOWERS or b.source in FOLLOWERS:
            leader, follower = sorted((a, b), key=lambda item: item.source in FOLLOWERS)
            if (i, j) in same and leader.source not in FOLLOWERS and _matters(leader):
                follows.setdefault(follower.id, set()).add(leader.id)
        # Among stamps what is near is kept together, not only what is the same: half of them are the test.
        elif (i, j) in (either if b.source == "stamps" else same) and not (_is_emoji(a) and _is_emoji(b)):
            together.add((i, j))
    groups = [[items[k].id for k in members] for members in components(len(items), together)]
    return NearCopies(
        groups=sorted(sorted(group) for group in groups),
        near_stamps={key: sorted(found[key]) for key in sorted(found)},
        follows={key: sorted(follows[key]) for key in sorted(follows)},
        rule={"thumbnail": _AGREEMENT, "difference": _DIFFERENCE, "near": _NEAR, "together": _TOGETHER, "same": _SAME},
    )


def _features(items: Sequence[Item], folder: Path) -> tuple[Matrix, list[str]]:
    """Return pooled features, zeros where there are none, and the sources without."""
    rows: dict[str, Matrix] = {}
    for path in sorted(folder.glob("*.0.npz")):
        with np.load(path) as stored:
            # The pooled features of the first backbone come first.
            pooled = stored["features"][:, :_FEATURE_DIM].astype(np.float32)
            rows.update(zip(stored["ids"].tolist(), pooled, strict=True))
    zeros = np.zeros(_FEATURE_DIM, dtype=np.float32)
    without = sorted({item.source for item in items if item.id not in rows})
    return np.stack([rows.get(item.id, zeros) for item in items]), without


def main() -> None:
    """Find near-copies and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=Path, default=Path("build/features/image"))
    parser.add_argument("--out", type=Path, default=NEAR_COPIES)
    options = parser.parse_args()
    items = [
        item
        for source in IMAGE_SOURCES
        for item in read_manifest(CORPORA / source / "manifest.jsonl")
        if item.modality == "image"
    ]
    with ProcessPoolExecutor(2) as pool:
        thumbnails = np.stack(list(pool.map(_thumbnail_of, [item.path for item in items], chunksize=64)))
    features, without = _features(items, options.features)
    found = find_near_copies(items, thumbnails, features)
    options.out.write_text(json.dumps(asdict(found), indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
    report = {
        "pictures": len(items),
        "groups": len(found.groups),
        "in_groups": sum(map(len, found.groups)),
        "near_stamps": len(found.near_stamps),
        "follows": len(found.follows),
        "stamps_with_near_copies": len({stamp for stamps in found.near_stamps.values() for stamp in stamps}),
        "by_thumbnails_only": without,
    }
    (CORPORA / "duplicates.json").write_text(json.dumps(report | asdict(found), indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
