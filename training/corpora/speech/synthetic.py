"""Speak the texts of `captions` with many synthetic voices: build/corpora/speech.

    python -m training.corpora.text.captions
    python -m training.corpora.speech.synthetic  # about half an hour on one core
    python -m training.corpora.speech.synthetic --only test  # the held-out voices alone
    python -m training.corpora.speech.synthetic --only fresh  # voices and texts that no choice saw
    python -m training.corpora.speech.synthetic --only val  # the texts kept for validation

The work is cut into shards of a few hundred clips, each written whole or not at all, so that it can be stopped and goes
on where it was. Training hears espeak-ng, flite and Kokoro; the voices of `voices.HELD_OUT` say the captions of the
main suite, for tests only. A fiftieth of the texts is kept for validation in all its recordings. `voices.FRESH` say
captions of held-out stamps, and names of things that nobody says elsewhere: a test that no choice was made in sight of.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embedspace.encoders.towers.imagenet import imagenet_classes
from embedspace.errors import EmbedspaceError
from training.corpora import manifest
from training.corpora.manifest import Item, read_manifest, write_manifest
from training.corpora.sounds.clips import SPEECH_RATE, ShardWriter
from training.corpora.speech.augment import augment
from training.corpora.speech.voices import FRESH, HELD_OUT, foreign_voices, kokoro_voices, speak, training_voices
from training.corpora.text.captions import Text, read_texts, sayable
from training.corpora.text.words import concept_of

__all__ = ["SOURCE", "Job", "build", "fresh_jobs", "seed_of", "split_of_text", "test_jobs", "training_jobs"]

SOURCE = "speech"
SHARD_CLIPS = 500
SLOW_SHARD_CLIPS = 100
"""Clips in a shard of a neural voice's training clips, a minute or two of work."""
TAKES = dict(stamps=10, emoji=3, sounds=3, art4apps=2, gcompris=2, openclipart=1, recipes=1, names=4)
"""How many voices say an English text of an origin; Kokoro's come on top."""
FOREIGN_TAKES = {"stamps": 2}
DICTIONARY_TEXTS = 1_500
"""Words of dictionaries a language, those first that name a concept of the other texts."""
KOKORO = "en-kokoro"
KOKORO_TEXTS = 1_000
FLITE_SHARE = 0.3
VALIDATION = 50
FRESH_TEXTS = 75
"""Of each kind, in each fresh voice."""
MAX_SECONDS = 12.0
MIN_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Job:
    """One clip to be made: what is said, by whom, for which split, in which recording of the text."""

    text: Text
    voice: str
    take: int
    split: str

    @property
    def key(self) -> str:
        """What identifies the clip: equal keys give equal clips."""
        return f"{self.text.language}|{self.text.text}|{self.voice}|{self.take}"


def seed_of(key: str) -> int:
    """Return a seed that depends on nothing but the key."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big")


def split_of_text(text: Text) -> str:
    """Return "val" for one text in fifty, else "train"; stamps are all train, their test is by voice and by half."""
    if text.origin == "stamps":
        return "train"
    return "val" if seed_of(concept_of(text.english)) % VALIDATION == 0 else "train"


def _voice(text: Text, take: int) -> str:
    generator = np.random.default_rng(seed_of(f"{text.language}|{text.text}|{take}"))
    voices = foreign_voices(text.language) if text.language != "en" else training_voices()
    flite = [voice for voice in voices if voice.startswith("flite")]
    if flite and generator.random() < FLITE_SHARE:
        return flite[int(generator.integers(len(flite)))]
    rest = [voice for voice in voices if not voice.startswith("flite")]
    return rest[int(generator.integers(len(rest)))]


def _chosen_words(texts: Sequence[Text]) -> set[Text]:
    """Return the words of dictionaries that are said."""
    named = {concept_of(text.english) for text in texts if text.language == "en"}
    words: dict[str, list[Text]] = {}
    for text in texts:
        if text.origin == "dictionary":
            words.setdefault(text.language, []).append(text)
    for found in words.values():
        found.sort(key=lambda text: (concept_of(text.english) not in named, seed_of(text.text)))
    return {text for found in words.values() for text in found[:DICTIONARY_TEXTS]}


def training_jobs(texts: Iterable[Text]) -> dict[str, list[Job]]:
    """Return the clips of training and validation by shard name, the most important shards first."""
    groups: dict[str, list[Job]] = {}
    every = list(texts)
    chosen = _chosen_words(every)
    for text in every:
        if text.origin == "dictionary" and text not in chosen:
            continue
        takes = (TAKES if text.language == "en" else FOREIGN_TAKES).get(text.origin, 1)
        for take in range(takes):
            job = Job(text, _voice(text, take), take, split_of_text(text))
            groups.setdefault(f"{text.language}-{text.origin}-{take}", []).append(job)
    # By seed, so that the thousand are spread over all origins alike.
    english = sorted((text for text in every if text.language == "en"), key=lambda text: seed_of(text.text))
    styles = kokoro_voices()
    groups[KOKORO] = [
        Job(text, styles[seed_of(f"kokoro|{text.text}") % len(styles)], 9, split_of_text(text))
        for text in english[:KOKORO_TEXTS]
        if len(text.text) <= 60
    ]
    order = sorted(groups, key=lambda name: (name == KOKORO, name.split("-")[-1], not name.startswith("en")))
    return {name: groups[name] for name in order}


def test_jobs() -> dict[str, list[Job]]:
    """Return the main suite's captions in every held-out voice, by shard name."""
    stamps = [item for item in read_manifest(manifest.CORPORA / "stamps/manifest.jsonl") if item.extra["unique"]]
    texts = [Text(item.captions[0], "en", item.captions[0], "stamps") for item in stamps]
    return {
        f"test-{voice.replace(':', '-').replace('+', '-')}": [Job(text, voice, 0, "test") for text in texts]
        for voice in HELD_OUT
    }


def fresh_jobs(texts: Iterable[Text]) -> dict[str, list[Job]]:
    """Return the clips of voices and texts that no choice was made in sight of, by shard name.

    Half of the texts are captions of held-out stamps, which voices said to the heads that ship; the other half names of
    ImageNet's classes (which the text head knows, as words) that neither a stamp nor any text that is said to training
    has: no training voice, of those heads either, ever said them.

    Args:
        texts: All that is said to training.
    """
    every = list(read_manifest(manifest.CORPORA / "stamps/manifest.jsonl"))
    stamps = [item for item in every if item.extra["unique"]]
    said = {concept_of(text.english) for text in texts} | {concept_of(name) for item in every for name in item.captions}
    names = [kind.name for kind in imagenet_classes() if sayable(kind.name, 3) and concept_of(kind.name) not in said]
    held = [item.captions[0] for item in stamps if item.split == "test"]
    chosen = {"stamps": held, "imagenet": list(dict.fromkeys(names))}
    picked = [
        Text(text, "en", text, origin)
        for origin, found in chosen.items()
        for text in sorted(found, key=lambda text: seed_of(f"fresh|{text}"))[:FRESH_TEXTS]
    ]
    return {
        f"fresh-{voice.replace(':', '-').replace('+', '-')}": [Job(text, voice, 0, "fresh") for text in picked]
        for voice in FRESH
    }


def _item(job: Job, path: str, seconds: float, changed: bool) -> Item:
    digest = hashlib.sha256(job.key.encode()).hexdigest()[:16]
    extra = {"origin": job.text.origin, "take": job.take, "augmented": changed, "sample_rate": SPEECH_RATE}
    if job.split == "fresh":
        extra["unique"] = True  # as a stamp whose caption no other has: the suite's gallery
    return Item(
        id=f"{SOURCE}/{job.text.language}/{digest}",
        modality="speech",
        path=path,
        text=job.text.text,
        captions=(job.text.english,),
        concept=concept_of(job.text.english),
        source=SOURCE,
        speaker=job.voice,
        language=job.text.language,
        split=job.split,
        extra={**extra, "seconds": round(seconds, 3)},
    )


def _clip(job: Job) -> tuple[np.ndarray, bool] | None:
    """Return a job's waveform and whether it was augmented; None if the engine makes nothing usable of the text."""
    seed = seed_of(job.key)
    try:
        waveform = speak(job.text.text, job.voice, seed)
    except EmbedspaceError as error:
        print(f"{SOURCE}: left out: {error}", flush=True)
        return None
    if not MIN_SECONDS * SPEECH_RATE <= len(waveform) <= MAX_SECONDS * SPEECH_RATE or not np.abs(waveform).max():
        return None
    return augment(waveform, SPEECH_RATE, seed + 1, mild=job.split in ("test", "fresh"))


def _shards(groups: dict[str, list[Job]]) -> Iterator[tuple[str, list[Job]]]:
    for name, jobs in groups.items():
        size = SLOW_SHARD_CLIPS if name == KOKORO else SHARD_CLIPS
        for start in range(0, len(jobs), size):
            yield f"{name}-{start // size:03}", jobs[start : start + size]


def _speak_shard(folder: Path, name: str, jobs: list[Job]) -> list[Item]:
    """Write one shard, or read its items if it is there and was made of the same jobs."""
    listing, stamp = folder / f"{name}.jsonl", folder / f"{name}.key"
    key = hashlib.sha256("\n".join(f"{job.key}|{job.split}" for job in jobs).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == key:
        return list(read_manifest(listing))
    items = []
    with ShardWriter(folder / f"{name}.npy") as shard:
        for job in jobs:
            if made := _clip(job):
                waveform, changed = made
                items.append(_item(job, shard.append(waveform), len(waveform) / SPEECH_RATE, changed))
    write_manifest(listing, items)
    stamp.write_text(key)
    return items


def _collect(folder: Path, names: Iterable[str]) -> list[Item]:
    """Return the items of all finished shards."""
    finished = [name for name in names if (folder / f"{name}.key").exists()]
    # A caption that two origins share is one text; its first recording stands.
    items = {item.id: item for name in reversed(finished) for item in read_manifest(folder / f"{name}.jsonl")}
    return list(reversed(items.values()))


def build(only: str = "all") -> list[Item]:
    """Speak what is missing and write the manifest of all that is finished; returns its items.

    Args:
        only: "test", "fresh", "val", "train" or "all".
    """
    folder = manifest.CORPORA / SOURCE
    texts = read_texts()
    heard = training_jobs(texts)
    plans = {
        "test": list(_shards(test_jobs())),
        "fresh": list(_shards(fresh_jobs(texts))),
        "val": list(_shards({"val": [job for jobs in heard.values() for job in jobs if job.split == "val"]})),
        "train": list(_shards({k: [job for job in jobs if job.split == "train"] for k, jobs in heard.items()})),
    }
    names = [name for plan in plans.values() for name, _ in plan]
    for kind, plan in plans.items():
        for name, jobs in plan if only in (kind, "all") else ():
            made = _speak_shard(folder, name, jobs)
            print(f"{name:36} {len(made):4} clips", flush=True)
            # Written after every shard, so that what is there can be used while the rest is spoken.
            write_manifest(folder / "manifest.jsonl", _collect(folder, names))
    return _collect(folder, names)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Speak the texts of build/corpora/speech/texts.jsonl.")
    parser.add_argument("--only", choices=("test", "fresh", "val", "train", "all"), default="all")
    only = parser.parse_args().only
    os.nice(5)
    items = build(only)
    seconds = sum(item.extra["seconds"] for item in items)
    counts = {split: sum(item.split == split for item in items) for split in ("train", "val", "test", "fresh")}
    voices = len({item.speaker for item in items})
    print(f"{len(items)} clips, {seconds / 3600:.1f} h, {voices} voices; {json.dumps(counts)}")


if __name__ == "__main__":
    main()
