"""Build the scenes of the second composed suite: pictures that each show two held-out stamps.

    python -m eval.composed_scenes        # a minute; build/corpora/composed-scenes and composed-scenes-fresh

A query is the picture of one stamp plus the caption of the other. Every stamp stands in `2 * SHIFTS` scenes, once with
each partner, so that neither part alone can name its scene: with 16 scenes a stamp, the best that the picture or the
words alone can reach is R@10 62.5.

The fresh scenes show couples that the first ones do not, of every second stamp. The first were looked at while it was
decided how words and pictures are composed; these were not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from embedspace.evaluate.items import Row, field_of, read_rows
from embedspace.evaluate.retrieval.run import corpora_folder
from embedspace.media.image import open_image

SOURCE = "composed-scenes"
FRESH = f"{SOURCE}-fresh"
SHIFTS = 8
QUERIED_SHIFTS = 2
SIDE = 320
STAMP_SIDE = 176


def held_out(rows: list[Row]) -> list[Row]:
    """Return the test stamps of the main suite, one of a concept, in an order that a hash of their ids gives."""
    chosen = [row for row in rows if row.get("split") == "test" and field_of(row, "extra.unique")]
    firsts = {str(row["concept"]): row for row in reversed(chosen)}
    return sorted(firsts.values(), key=lambda row: hashlib.sha256(str(row["id"]).encode()).digest())


def couples(stamps: list[Row], first_shift: int = 1) -> Iterator[tuple[int, Row, Row]]:
    """Yield (shift, first, second): no two stamps meet twice, since no two shifts add up to the number of stamps."""
    for shift in range(first_shift, first_shift + SHIFTS):
        for position, first in enumerate(stamps):
            yield shift, first, stamps[(position + shift) % len(stamps)]


def scene(first: Path, second: Path, *, rising: bool) -> Image.Image:
    """Draw two stamps in opposite corners of a white square, the first on the left."""
    canvas = Image.new("RGB", (SIDE, SIDE), "white")
    far = SIDE - STAMP_SIDE
    places = ((0, far), (far, 0)) if rising else ((0, 0), (far, far))
    for path, (left, top) in zip((first, second), places, strict=True):
        with open_image(path) as picture:
            stamp = picture.convert("RGBA")
        stamp = stamp.crop(stamp.getbbox() or (0, 0, *stamp.size))
        scale = STAMP_SIDE / max(stamp.size)
        stamp = stamp.resize((max(1, round(stamp.width * scale)), max(1, round(stamp.height * scale))))
        margins = ((STAMP_SIDE - stamp.width) // 2, (STAMP_SIDE - stamp.height) // 2)
        canvas.paste(stamp, (left + margins[0], top + margins[1]), stamp)
    return canvas


def write_scenes(corpora: Path, source: str, stamps: list[Row], first_shift: int = 1) -> str:
    """Write scenes, manifest and pairs of a source; returns what was written, in words."""
    out = corpora / source
    (out / "files").mkdir(parents=True, exist_ok=True)
    if len(stamps) < 2 * (first_shift + SHIFTS):
        raise SystemExit(f"{len(stamps)} held-out stamps are too few: assign the splits of the corpora first")
    rows, pairs = [], []
    for number, (shift, first, second) in enumerate(couples(stamps, first_shift)):
        path, key = f"{source}/files/{number:05}.png", f"{first['id']} + {second['id']}"
        scene(corpora / first["path"], corpora / second["path"], rising=number % 2 == 0).save(corpora / path)
        rows.append({"id": key, "modality": "image", "path": path, "source": source, "split": "test"})
        if shift < first_shift + QUERIED_SHIFTS:
            # half of the queries show what stands on the left and name what stands on the right, half the reverse
            shown, named = (first, second) if shift % 2 else (second, first)
            pairs.append({"base": shown["id"], "words": field_of(named, "caption"), "target": key})
            pairs[-1]["name"] = f"{field_of(shown, 'caption')} and {field_of(named, 'caption')}".lower()
    for name, entries in (("manifest", rows), ("pairs", pairs)):
        lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
        (out / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return f"{len(stamps)} stamps, {len(rows)} scenes, {len(pairs)} queries -> {out}"


def main() -> None:
    """Write both sources."""
    corpora = corpora_folder()
    stamps = held_out(read_rows(corpora, "stamps"))
    print(write_scenes(corpora, SOURCE, stamps))
    # Of every second stamp, neighbours of shift 9 are 18 apart in the whole list, which goes up to 8.
    print(write_scenes(corpora, FRESH, stamps[::2], SHIFTS + 1))


if __name__ == "__main__":
    main()
