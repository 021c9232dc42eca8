"""Build the human speech: people reading the captions of Tux Paint's stamps aloud, most of them not in English.

    python -m training.corpora.speech.human        # about a minute; build/corpora/human

A recording lies beside its stamp: `dog_desc_fr.ogg`; the one without a language is English. An item's caption is the
stamp's *English* one, since that is what the recording is to be found by. The English recordings are all test: no
human English speaker is ever trained.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from embedspace.errors import MediaError
from training.corpora import manifest
from training.corpora.fetch import package
from training.corpora.manifest import Item, read_manifest, write_manifest
from training.corpora.pictures.stamps import read_text, stamps_folder
from training.corpora.sounds.clips import SPEECH_RATE, ShardWriter, decode, trim_silence
from training.corpora.text.words import concept_of

__all__ = ["PACKAGES", "SOURCE", "VERSION", "build", "language_of", "split_of", "stamp_splits"]

SOURCE = "human"
PACKAGES = ("tuxpaint-stamps-default",)
VERSION = 1
RECORDING = re.compile(r"^(?P<stem>.+)_desc(?:_(?P<language>[a-z]{2}(?:_[A-Z]{2})?))?\.(?:ogg|wav)$")
MAX_SECONDS = 20.0
MIN_SECONDS = 0.2
PEAK_FLOOR = 1e-3


def language_of(name: str) -> tuple[str, str] | None:
    """Return (stamp's file stem, BCP 47 language) of a recording's file name; None if it is no recording."""
    match = RECORDING.match(name)
    return (match["stem"], (match["language"] or "en").replace("_", "-")) if match else None


def stamp_splits(path: Path | None = None) -> dict[str, str]:
    """Return the split of each stamp by its stem, as the stamps' manifest says; empty if that is not built yet."""
    path = path or manifest.CORPORA / "stamps/manifest.jsonl"
    return {item.extra["stem"]: item.split for item in read_manifest(path)} if path.exists() else {}


def split_of(language: str, stamp_split: str) -> str:
    """Return the split of a recording: English is test always, others follow their stamp."""
    return "test" if language == "en" else stamp_split


def _recordings(folder: Path) -> Iterator[tuple[Path, Path, str]]:
    """Yield (recording, text file of its stamp, language)."""
    for path in sorted(folder.rglob("*_desc*")):
        named = language_of(path.name)
        if named and (text := path.with_name(f"{named[0]}.txt")).exists():
            yield path, text, named[1]


def _item(stem: str, text: Path, language: str, path: str, seconds: float, split: str) -> Item:
    caption, translations = read_text(text)
    extra = {"stamp": stem, "sample_rate": SPEECH_RATE, "seconds": round(seconds, 3)}
    if local := translations.get(language.split("-")[0], ""):
        extra["local_caption"] = local
    return Item(
        id=f"{SOURCE}/{language}/{stem}",
        modality="speech",
        path=path,
        captions=(caption,),
        concept=concept_of(caption),
        source=SOURCE,
        licence=package(PACKAGES[0]).licence,
        speaker=f"human:tux:{language}",
        language=language,
        group=f"stamps/{stem}",
        split=split,
        extra=extra,
    )


def build(out: Path) -> list[Item]:
    """Write one shard of recordings a language below `out` and return the items.

    `extra` has: stamp (stem of the stamp), local_caption (what is said, where the stamp has that translation),
    sample_rate, seconds.
    """
    folder = stamps_folder()
    splits = stamp_splits()
    found: dict[str, list[tuple[Path, Path]]] = {}
    for recording, text, language in _recordings(folder):
        found.setdefault(language, []).append((recording, text))
    items: list[Item] = []
    for language, recordings in sorted(found.items()):
        with ShardWriter(out / f"{language}.npy") as shard:
            for recording, text in recordings:
                try:
                    waveform = trim_silence(decode(recording, SPEECH_RATE, MAX_SECONDS), SPEECH_RATE)
                except MediaError as error:
                    print(f"{SOURCE}: left out: {error}")
                    continue
                if np.abs(waveform).max() < PEAK_FLOOR or len(waveform) < MIN_SECONDS * SPEECH_RATE:
                    print(f"{SOURCE}: left out: {recording.name}: silent or shorter than {MIN_SECONDS} s")
                    continue
                stem = text.relative_to(folder).with_suffix("").as_posix()
                split = split_of(language, splits.get(stem, "train"))
                seconds = len(waveform) / SPEECH_RATE
                items.append(_item(stem, text, language, shard.append(waveform), seconds, split))
    return items


def main() -> None:
    """Build the corpus and say what is in it."""
    items = build(manifest.CORPORA / SOURCE)
    write_manifest(manifest.CORPORA / SOURCE / "manifest.jsonl", items)
    for (language, split), count in sorted(Counter((item.language, item.split) for item in items).items()):
        print(f"{language:6} {split:5} {count:4}")


if __name__ == "__main__":
    main()
