"""Measure whether a moving picture means what the still one does: captions and held-out stamps, still and in motion.

    python -m eval.moving_stamps                    # eval/results/moving_stamps.*; minutes of one core

Each of the 281 held-out stamps with a caption of its own moves for four seconds, by a kind of motion of the test split,
before soft colours (`training/corpora/video`); in half of the clips the camera moves. The caption is to be found by the
clip and the clip by the caption, beside the same by the stamp itself, which is ten times as large in the picture, by
the clip without views of what moves in it, and by its first frame.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.evaluate.intervals import bootstrap, interval_of
from embedspace.space import EmbeddingSpace
from eval.writing import made_by, publish, run
from training.corpora.manifest import CORPORA, Item, read_manifest
from training.corpora.video.motions import HELD_OUT, KINDS
from training.corpora.video.scenes import FPS, RATE, SECONDS, Thing, frames_of, thing_picture, write_clip

HERE = Path(__file__).parent
CLIPS = Path("build/timing/moving")
SEED = 281


def stamps() -> list[Item]:
    """Return the held-out stamps whose captions are their own."""
    rows = read_manifest(CORPORA / "stamps/manifest.jsonl")
    return [item for item in rows if item.split == "test" and item.extra.get("unique")]


def clip_of(item: Item, number: int) -> Path:
    """Render the clip of a stamp, unless it is there."""
    path = CLIPS / f"{number:03}.mp4"
    if not path.is_file():
        rng = np.random.default_rng([SEED, number])
        kind = str(rng.choice(HELD_OUT["test"]))
        motion = KINDS[kind](rng, np.arange(round(SECONDS * FPS)) / FPS)
        thing = Thing(thing_picture(CORPORA / item.path), motion)
        frames = frames_of([thing], rng, camera=bool(rng.random() < 0.5))
        write_clip(path, frames, np.zeros(round(SECONDS * RATE), np.float32))
    return path


def hits(rows: NDArray[np.float32], others: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (N,) whether each row's own is first and among the ten first of the others; ties count against it."""
    scores = rows.astype(np.float64) @ others.T
    ranks = (scores >= np.diagonal(scores)[:, None]).sum(axis=1)
    return (ranks <= 1).astype(np.float64), (ranks <= 10).astype(np.float64)


def measured(space: EmbeddingSpace, items: list[Item]) -> dict[str, Any]:
    """Return R@1 and R@10 of every direction, with intervals, and how much better the clip is than the stamp."""
    CLIPS.mkdir(parents=True, exist_ok=True)
    texts = space.encode_text([item.captions[0] for item in items])
    clips = [clip_of(item, number) for number, item in enumerate(items)]
    rows = {
        "stamp": space.encode_image([CORPORA / item.path for item in items]),
        "clip": space.encode(clips, modality="video"),
        "whole frames": _without_views(space, clips),
        "first frame": space.encode(clips, modality="image"),
    }
    found = {f"{name} → caption": hits(own, texts) for name, own in rows.items()}
    found |= {f"caption → {name}": hits(texts, own) for name, own in rows.items()}
    found |= {
        f"{name} → another caption": hits(own, np.roll(texts, len(texts) // 2, axis=0)) for name, own in rows.items()
    }
    entry: dict[str, Any] = {name: {"r1": _range(r1), "r10": _range(r10)} for name, (r1, r10) in found.items()}
    for way in ("{} → caption", "caption → {}"):
        entry[way.format("clip")]["gain_r10"] = _range(found[way.format("clip")][1] - found[way.format("stamp")][1])
    return entry


def _without_views(space: EmbeddingSpace, clips: list[Path]) -> NDArray[np.float32]:
    """Return the rows of clips without views of what moves in them."""
    video = space.encoder("video")
    views, video.views = video.views, 0
    try:
        return space.encode(clips, modality="video")
    finally:
        video.views = views


def _range(values: NDArray[np.float64]) -> list[float]:
    low, high = interval_of(bootstrap(values[:, None])[:, 0])
    return [round(100 * float(value), 1) for value in (values.mean(), low, high)]


def lines(entry: dict[str, Any]) -> Iterator[str]:
    """Yield the page."""
    yield f"# {entry['name']}\n\n{entry['description']}\n"
    yield (
        f"`{entry['command']}`; commit {entry['commit'][:12]}, {entry['date']}, seed {SEED}, split hash "
        f"{entry['split_hash'][:12]}, encoder of videos {entry['video'][:12]}. {entry['stamps']} stamps; by chance "
        f"{1000 / entry['stamps']:.1f}% are among the first ten. 95% intervals over stamps.\n"
    )
    yield "| direction | R@1 | R@10 | R@10 above the stamp's |\n|---|---|---|---|"
    for name, row in entry["directions"].items():
        cells = ["{} [{}, {}]".format(*row[key]) if key in row else "" for key in ("r1", "r10", "gain_r10")]
        yield f"| {name} | {' | '.join(cells)} |"


def main() -> int:
    """Measure, and write moving_stamps.json and .md."""
    parser = argparse.ArgumentParser(description="Measure captions and held-out stamps in motion.")
    parser.add_argument("--stamps", type=int, help="so many of them; all by default")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    given = parser.parse_args()
    space, items = EmbeddingSpace.from_pretrained(), stamps()[: given.stamps]
    entry = {
        **made_by("moving_stamps"),
        "description": "Held-out stamps and their captions: the picture itself, and a clip in which it moves. "
        "These stamps were looked at once before, without views of what moves; views were tried on training stamps.",
        "split_hash": hashlib.sha256(json.dumps([item.id for item in items]).encode()).hexdigest(),
        "video": space.fingerprints()["video"],
        "stamps": len(items),
        "directions": measured(space, items),
    }
    publish(given.out, entry, lines(entry))
    return 0


if __name__ == "__main__":
    run(main)
