"""Build rendered talking faces: python -m training.corpora.video.talking (some minutes; needs espeak-ng and flite).

Drawn people say sentences of GRID's grammar (Cooke et al. 2006: "bin blue at f two now") and captions, with phoneme
times of the installed voices. Training and validation are crops of mouths alone (`clips/`, for the training of lips);
test clips are whole films with sound. Faces, sentences and accents of validation and test are heard and seen nowhere
else. Labelled as what they are: drawings. Nothing measured on them says how real lips are read.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedspace.generate.lips.network import CROP, letters_of
from embedspace.train.generators.lips.clips import Clip, write_shard
from training.corpora import manifest
from training.corpora.manifest import Item, read_manifest, write_manifest
from training.corpora.sounds.clips import read_clip
from training.corpora.video.faces import Look, Pose, draw, draw_look, draw_pose, mouth_places
from training.corpora.video.mouths import FPS, mouth_track, shape_labels
from training.corpora.video.people import timed_by_recording
from training.corpora.video.phonemes import RATE, Spoken, Timed, speak_timed
from training.corpora.video.scenes import write_clip

__all__ = [
    "GRAMMAR",
    "SOURCE",
    "VOICES",
    "Talk",
    "caption_texts",
    "crops_of",
    "grid_sentence",
    "picture_of",
    "split_of",
    "talk",
    "test_captions",
    "test_talks",
]

SOURCE = "talking"
VERSION = 1
GRAMMAR = (
    ("bin", "lay", "place", "set"),
    ("blue", "green", "red", "white"),
    ("at", "by", "in", "with"),
    tuple("abcdefghijklmnopqrstuvxyz"),
    ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    ("again", "now", "please", "soon"),
)
"""GRID's: command, colour, preposition, letter without w, digit, adverb."""
_ACCENTS = ("en-us", "en", "en-gb-x-rp", "en-us-nyc", "en-gb-x-gbclan", "en-gb-x-gbcwmd")
VOICES = {
    "train": (*(f"espeak:{name}" for name in _ACCENTS), "flite:slt", "flite:awb", "flite:kal"),
    "val": ("espeak:en-029",),
    "test": ("espeak:en-gb-scotland", "flite:rms"),
}
"""Split -> accents that say its sentences."""
_FLITE_SHARE = 0.15
"""Share of training's clips that flite says: it is slow to start."""
_CLIPS = {"val": 300, "train": 5_000}
_SHARD = 250
_FACES = {"train": (0, 4_000), "val": (10_000, 10_060), "test": (20_000, 20_100)}
"""Split -> seeds of its people."""
MOUTH_SHARE = 0.38
"""Half of a crop's side, in units of the face."""
_LONGEST = 42
_TEST_SENTENCES = 100
_SAID_SHARE = 3
"""One caption of so many of the gallery is said by a voice."""
_SIDE = 160
"""Pixels a side of a film."""


@dataclass(frozen=True, slots=True, eq=False)
class Talk:
    """A person who says something.

    Attributes:
        text: What is said.
        voice: Who says it.
        spoken: The sound, and the mouth shapes with their times in the clip.
        look: The person.
        pose: T rows.
        mouth: (T, 8).
        rng: What is drawn further is drawn from here.
    """

    text: str
    voice: str
    spoken: Spoken
    look: Look
    pose: Pose
    mouth: NDArray[np.float32]
    rng: np.random.Generator

    @property
    def frames(self) -> int:
        """Pictures of the clip."""
        return len(self.mouth)


def _share(text: str) -> float:
    return int(hashlib.sha256(f"lips {text}".encode()).hexdigest()[:8], 16) / 0x1_0000_0000


def split_of(sentence: str) -> str:
    """Return the split of a sentence: by its hash alone, 5% validation, 10% test."""
    share = _share(sentence)
    return "test" if share < 0.10 else "val" if share < 0.15 else "train"


def grid_sentence(rng: np.random.Generator, split: str) -> str:
    """Return a random sentence of GRID's grammar that belongs to a split."""
    while True:
        sentence = " ".join(str(rng.choice(words)) for words in GRAMMAR)
        if split_of(sentence) == split:
            return sentence


def caption_texts(split: str) -> list[str]:
    """Return captions of pictures that a split's people say: none of a stamp of the test split but in "test"."""
    rows = [
        item
        for path in sorted(manifest.CORPORA.glob("*/manifest.jsonl"))
        for item in read_manifest(path)
        if item.modality == "image" and item.captions and item.split != "drop"
    ]
    held = {_plain(item.captions[0]) for item in rows if item.source == "stamps" and item.split == "test"}
    if split == "test":
        return sorted(held)
    found = {_plain(item.captions[0]) for item in rows if item.split == "train"} - held
    short = [text for text in found if 3 <= len(text) <= _LONGEST and text.replace(" ", "").isalpha()]
    return sorted(text for text in short if (_share(text) < 0.03) == (split == "val"))


def _plain(text: str) -> str:
    return " ".join(text.casefold().replace("-", " ").split()).rstrip(".!?")


def talk(text: str, voice: str, face: int, seed: Sequence[int], spoken: Spoken | None = None) -> Talk:
    """Return a person who says a text.

    Args:
        text: English.
        voice: As `speak_timed` takes it.
        face: Seed of the person.
        seed: Of all else: speed, pauses, motion, light.
        spoken: What was said already, in place of speaking.
    """
    rng = np.random.default_rng([face, *seed])
    look = draw_look(np.random.default_rng([7, face]))
    said = spoken or speak_timed(text, voice, float(rng.uniform(0.62, 0.92)))
    lead, tail = int(rng.integers(3, 9)), int(rng.integers(3, 9))
    shift = lead / FPS - said.shapes[0].start
    shapes = [Timed(one.shape, one.start + shift, one.end + shift) for one in said.shapes]
    frames = int(np.ceil(shapes[-1].end * FPS)) + tail
    wave = np.zeros(round(frames / FPS * RATE), np.float32)
    begin = round(shift * RATE)
    part = said.waveform[max(0, -begin) :][: len(wave) - max(0, begin)]
    wave[max(0, begin) : max(0, begin) + len(part)] = part
    mouth = mouth_track(shapes, frames, look.effort)
    return Talk(text, voice, Spoken(wave, shapes), look, draw_pose(rng, frames), mouth, rng)


def crops_of(one: Talk) -> NDArray[np.uint8]:
    """Return (T, 32, 32) crops of the mouth, about as well aimed as a tracker's: off and unsteady by some per cent."""
    rng, frames = one.rng, one.frames
    at = mouth_places(one.pose)
    size = one.pose.scale * MOUTH_SHARE * rng.uniform(0.85, 1.2)
    t = np.arange(frames) / FPS
    for axis in range(2):
        slow = 0.02 * np.sin(2 * np.pi * (rng.uniform(0.1, 1.0) * t + rng.random()))
        at[:, axis] += one.pose.scale * (rng.normal(0, 0.05) + slow + rng.normal(0, 0.006, frames))
    windows = np.concatenate([at, size[:, None]], axis=1).astype(np.float32)
    return draw(one.look, one.pose, one.mouth, windows, CROP, grey=True, rng=rng)


def _clip(split: str, number: int, captions: list[str]) -> Clip:
    rng = np.random.default_rng([len(split), number])
    text = grid_sentence(rng, split) if number % 2 == 0 else str(rng.choice(captions))
    voices = VOICES[split]
    if split == "train":
        flite = rng.random() < _FLITE_SHARE
        voices = tuple(voice for voice in voices if voice.startswith("flite") == flite)
    voice = str(rng.choice(voices))
    face = int(rng.integers(*_FACES[split]))
    one = talk(text, voice, face, [number])
    about = {"voice": voice, "face": face, "kind": "grid" if number % 2 == 0 else "caption"}
    return Clip(crops_of(one), text, split, shape_labels(one.spoken.shapes, one.frames), about)


def build_clips(folder: Path) -> None:
    """Write the crops of training and validation; shards that are there are kept."""
    for split, count in _CLIPS.items():
        captions = caption_texts(split)
        for first in range(0, count, _SHARD):
            name = f"{split}-{first // _SHARD:03}"
            if (folder / f"{name}.jsonl").exists():
                continue
            clips = [_clip(split, number, captions) for number in range(first, min(count, first + _SHARD))]
            write_shard(folder, name, [clip for clip in clips if len(letters_of(clip.text)) > 1])
            print(f"{SOURCE}: {name}, {sum(len(clip.seen) for clip in clips)} pictures", flush=True)


def test_talks() -> Iterator[tuple[str, Talk]]:
    """Yield (kind, talk) of the test: "grid", "caption" by a voice, "person" by a person's recording.

    The gallery is the captions of the stamps' test half that one stamp alone has. A third of them are said by held-out
    voices; those that a person recorded in English, as the person did.
    """
    first, last = _FACES["test"]
    faces = np.random.default_rng(99).integers(first, last, 10_000)
    gallery = test_captions()
    said = read_manifest(manifest.CORPORA / "human/manifest.jsonl")
    people = {_plain(item.captions[0]): item for item in said if item.language == "en" and item.captions}
    for number, text in enumerate(text for text in gallery if text in people):
        spoken = timed_by_recording(text, read_clip(people[text], RATE), VOICES["test"][0])
        yield "person", talk(text, people[text].speaker, int(faces[number]), [number, 3], spoken)
    for number in range(_TEST_SENTENCES):
        sentence = grid_sentence(np.random.default_rng([99, number]), "test")
        yield "grid", talk(sentence, VOICES["test"][number % 2], int(faces[1_000 + number]), [number, 1])
    for number, text in enumerate(gallery[::_SAID_SHARE]):
        yield "caption", talk(text, VOICES["test"][number % 2], int(faces[2_000 + number]), [number, 2])


def test_captions() -> list[str]:
    """Return the captions of the gallery: those of the test half that one stamp alone has."""
    rows = read_manifest(manifest.CORPORA / "stamps/manifest.jsonl")
    return [_plain(item.captions[0]) for item in rows if item.split == "test" and item.extra.get("unique")]


def picture_of(one: Talk) -> NDArray[np.uint8]:
    """Return the whole pictures of a talk, (T, 160, 160, 3)."""
    windows = np.tile(np.array([[0.5, 0.5, 0.5]], np.float32), (one.frames, 1))
    return draw(one.look, one.pose, one.mouth, windows, _SIDE, grey=False, rng=one.rng)


def build_films(folder: Path) -> list[Item]:
    """Write the films of the test below a folder; those that are there are kept."""
    (folder / "files").mkdir(parents=True, exist_ok=True)
    items = []
    for number, (kind, one) in enumerate(test_talks()):
        name = f"test-{number:04}-{kind}"
        path = folder / "files" / f"{name}.mp4"
        if not path.exists():
            frames = [Image.fromarray(frame) for frame in picture_of(one)]
            write_clip(path, frames, one.spoken.waveform, FPS)
        extra = {"kind": kind, "said": one.text, "seconds": round(one.frames / FPS, 2), "version": VERSION}
        items.append(
            Item(f"{SOURCE}/{name}", "video", f"{SOURCE}/files/{name}.mp4", captions=("a person speaks",),
                 concept="speaking", source=SOURCE, licence="CC0-1.0", speaker=one.voice, split="test", extra=extra)
        )  # fmt: skip
        if number % 20 == 19:
            write_manifest(folder / "manifest.jsonl", items)  # so that what is there can be measured
    return items


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Render talking faces into build/corpora/talking.")
    parser.add_argument("--only", choices=("clips", "films", "all"), default="all")
    only = parser.parse_args().only
    os.nice(5)
    folder = manifest.CORPORA / SOURCE
    if only != "films":
        build_clips(folder / "clips")
    if only != "clips":
        print(f"{SOURCE}: {write_manifest(folder / 'manifest.jsonl', build_films(folder))} films", flush=True)


if __name__ == "__main__":
    main()
