"""Build the rendered clips: python -m training.corpora --only rendered (some minutes; needs stamps, emoji and sounds).

Four seconds each: a stamp or an emoji moves by one of the kinds of `motions`, and its sound, or another one where its
concept has none, is heard at the impacts; other things move beside it unheard, in half of the clips the camera moves.
Held out from each other, training, validation and test have pictures, sounds and kinds of motion of their own: test
clips are stamps of the test split with Tux Paint's own effects. Real film is something else: what is measured on these
clips says whether the networks work, not how well they do on film.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedspace.errors import InputError, MediaError
from training.corpora import manifest
from training.corpora.manifest import Item, read_manifest
from training.corpora.sounds.clips import read_clip
from training.corpora.video.motions import HELD_OUT, KINDS, Motion
from training.corpora.video.scenes import FPS, RATE, SECONDS, Thing, frames_of, sound_of, thing_picture, write_clip

__all__ = ["PACKAGES", "SPLITS", "VERSION", "Material", "build", "clip_of", "effect_of", "material"]

PACKAGES = ("tuxpaint-stamps-default", "emoji-datasource-google", "emojibase-data", "tuxpaint-data")
VERSION = 1
SPLITS = {"train": 640, "val": 128, "test": 256}
"""Split -> clips."""
_EFFECT = 0.5
"""Seconds of a sound that are heard at an impact."""
_OWN = 0.8
"""Share of the clips whose sound is of the thing's own concept, as far as there are such."""


@dataclass(frozen=True)
class Material:
    """What the clips of a split are made of.

    Attributes:
        pictures: Items of stamps and emoji.
        sounds: Items of effects.
        own: Pairs of places in the two: pictures with a sound of their own concept.
    """

    pictures: list[Item]
    sounds: list[Item]
    own: list[tuple[int, int]]


def build(out: Path) -> list[Item]:
    """Write the clips below a folder; those that are there are kept. The same on every machine but for the codecs."""
    made: list[Item] = []
    (out / "files").mkdir(parents=True, exist_ok=True)
    for split, count in SPLITS.items():
        of_split = material(split)
        made += [clip_of(split, number, of_split, out) for number in range(count)]
    return made


def clip_of(split: str, number: int, material: Material, out: Path) -> Item:
    """Render one clip, unless it is there, and return its item.

    Args:
        split: "train", "val" or "test".
        number: Which of the split's; it alone is the seed.
        material: Of the split.
        out: The source's folder.
    """
    rng = np.random.default_rng([int(hashlib.sha256(split.encode()).hexdigest()[:8], 16), number])
    if material.own and rng.random() < _OWN:
        pair = material.own[rng.integers(len(material.own))]
    else:
        pair = int(rng.integers(len(material.pictures))), int(rng.integers(len(material.sounds)))
    picture, sound = material.pictures[pair[0]], material.sounds[pair[1]]
    kind = str(rng.choice(HELD_OUT[split]))
    times = np.arange(round(SECONDS * FPS)) / FPS
    motion = KINDS[kind](rng, times)
    beside = [material.pictures[at] for at in rng.integers(0, len(material.pictures), rng.integers(0, 3))]
    camera = bool(rng.random() < 0.5)
    name = f"{split}-{number:05}"
    path = out / "files" / f"{name}.mp4"
    if not path.exists():
        things = [Thing(_picture(item), _drift(rng, times)) for item in beside] + [Thing(_picture(picture), motion)]
        frames = frames_of(things, rng, camera=camera)
        write_clip(path, frames, sound_of(motion, effect_of(sound), rng, float(rng.choice([0.0, 0.002, 0.01]))))
    extra = {
        "motion": kind, "picture": picture.id, "sound": sound.id, "camera": camera,
        "beside": [one.id for one in beside], "events": [round(at, 3) for at, _ in motion.events], "seconds": SECONDS,
    }  # fmt: skip
    return Item(
        f"rendered/{name}", "video", f"rendered/files/{name}.mp4", captions=picture.captions, concept=picture.concept,
        source="rendered", licence=" AND ".join(sorted({picture.licence, sound.licence})), split=split, extra=extra,
    )  # fmt: skip


def _drift(rng: np.random.Generator, times: NDArray[np.float64]) -> Motion:
    """Return the way of a thing that is not heard: it floats past at its own speed."""
    full = np.ones_like(times)
    x = rng.uniform(0.1, 0.9) + rng.uniform(-0.08, 0.08) * times
    return Motion(x, rng.uniform(0.3, 0.9) * full, rng.uniform(-15, 15) * times, rng.uniform(0.5, 1.0) * full)


def _picture(item: Item) -> Image.Image:
    return thing_picture(manifest.CORPORA / item.path)


def effect_of(item: Item) -> NDArray[np.float32]:
    """Return the beginning of a sound, from where it begins to be heard, faded out."""
    wave = np.asarray(read_clip(item, RATE), np.float32)
    loud = np.abs(wave) > 0.1 * float(np.abs(wave).max(initial=0.0))
    start = int(loud.argmax())
    part = wave[start : start + round(_EFFECT * RATE)].copy()
    fade = min(len(part), RATE // 8)
    part[len(part) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    peak = float(np.abs(part).max(initial=0.0))
    if peak < 1e-4:
        raise MediaError(f"{item.id}: nothing is heard in it")
    levelled: NDArray[np.float32] = part / np.float32(peak) * np.float32(0.8)
    return levelled


def material(split: str) -> Material:
    """Return what the clips of a split are made of; stamps, emoji and sounds must have been built."""
    stamps, emoji, sounds = (_rows(name) for name in ("stamps", "emoji-google", "sounds"))
    if split == "test":
        pictures = [item for item in stamps if item.split == "test"]
        heard = [item for item in sounds if item.split == "test"]
    else:
        mine = _part_of(split)
        pictures = [
            item for item in (*stamps, *emoji) if item.split in ("train", "val") and mine(item.group or item.id)
        ]
        heard = [item for item in sounds if item.split == "train" and mine(item.concept)]
    pictures = [item for item in pictures if not item.extra.get("symbol")]
    by_concept: dict[str, list[int]] = {}
    for at, item in enumerate(heard):
        by_concept.setdefault(item.concept, []).append(at)
    own = [(k, at) for k, item in enumerate(pictures) for at in by_concept.get(item.concept, ()) if item.concept]
    return Material(pictures, heard, own)


def _part_of(split: str) -> Callable[[str], bool]:
    """Return what says whether a name is training's, four fifths of all, or validation's."""

    def mine(name: str) -> bool:
        return (hashlib.sha256(f"rendered {name}".encode()).digest()[0] >= 51) == (split == "train")

    return mine


def _rows(source: str) -> Sequence[Item]:
    path = manifest.CORPORA / source / "manifest.jsonl"
    if not path.exists():
        raise InputError(f"{path}: build it first: python -m training.corpora --only {source}")
    rows: Iterable[Item] = read_manifest(path)
    return [item for item in rows if item.split != "drop"]
