"""Build the labelled sound effects of eleven packages: games, learning programs, desktop and sample sets.

    python -m training.corpora.sounds.effects        # some two minutes; build/corpora/sounds

File names become English captions by a table made by hand, `sound_labels.tsv`. Tux Paint's effects are the test set
and are never trained; a clip of another source that holds the same recording as one of them is set aside ("drop").
"""

from __future__ import annotations

import fnmatch
import functools
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from embedspace.errors import MediaError
from training.corpora import manifest
from training.corpora.fetch import package
from training.corpora.manifest import Item, write_manifest
from training.corpora.sounds.clips import decode, write_clip
from training.corpora.sounds.sound_origins import ORIGINS, PACKAGE, Found
from training.corpora.speech.recordings import same_recording

__all__ = ["PACKAGES", "SOUND_RATE", "VERSION", "Label", "build", "id_of", "label_of", "read_labels"]

PACKAGES = tuple(PACKAGE.values())
VERSION = 4
SOUND_RATE = 44_100
"""Sample rate of the stored sounds, in Hz."""
LABELS = Path(__file__).with_name("sound_labels.tsv")
PEAK_FLOOR = 1e-4


@dataclass(frozen=True, slots=True)
class Label:
    """A row of the label table.

    Attributes:
        source: "tux", "gcompris", ...
        pattern: Shell pattern of the file's stem (GCompris: folder/stem).
        concept: What sounds, normalised over all sources; empty for a file that is left out.
        captions: English captions, best first.
        abstract: True for synthetic loops, spells and the like that sound like no thing.
    """

    source: str
    pattern: str
    concept: str
    captions: tuple[str, ...]
    abstract: bool


def read_labels(path: Path = LABELS) -> list[Label]:
    """Read the table of sound labels."""
    labels = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") or not line.strip():
            continue
        source, pattern, concept, captions = line.split("\t")
        name = concept.lstrip("~").removeprefix("-")
        labels.append(Label(source, pattern, name, tuple(captions.split("|")), concept.startswith("~")))
    return labels


def label_of(labels: list[Label], source: str, name: str) -> Label | None:
    """Return the first label whose pattern fits a file's name; None if none does or the file is left out."""
    for label in labels:
        if label.source == source and fnmatch.fnmatchcase(name, label.pattern):
            return label if label.concept else None
    return None


@functools.cache
def _licence(source: str) -> str:
    return package(PACKAGE[source]).licence


def id_of(origin: str, clip: Found) -> str:
    """Return the corpus's id of a sound as found."""
    return f"sounds-{origin}/{clip.stem.replace('/', '-').lower()}"


def _item(origin: str, clip: Found, label: Label, seconds: float) -> Item:
    extra: dict[str, object] = {"sample_rate": SOUND_RATE, "seconds": round(seconds, 3), "file": clip.stem}
    if label.abstract:
        extra["abstract"] = True
    if origin == "tux":
        extra["stamp"] = clip.stem
    if clip.credit:
        extra["credit"] = clip.credit
    source = f"sounds-{origin}"
    item_id = id_of(origin, clip)
    name = item_id.split("/", 1)[1]
    return Item(
        id=item_id,
        modality="audio",
        path=f"sounds/files/{origin}/{name}.flac",
        captions=clip.captions + label.captions,
        concept=label.concept,
        source=source,
        licence=clip.licence or _licence(origin),
        split="test" if origin == "tux" else "train",
        extra=extra,
    )


def _grouped(items: list[Item], waveforms: list[np.ndarray]) -> list[Item]:
    """Give clips of the same recording one group, and set those of a test clip aside."""
    parent = list(range(len(items)))

    def root(index: int) -> int:
        while parent[index] != index:
            index = parent[index]
        return index

    for left, right in same_recording(waveforms, SOUND_RATE):
        parent[root(max(left, right))] = root(min(left, right))
    sizes = Counter(root(index) for index in range(len(items)))
    tested = {root(index) for index, item in enumerate(items) if item.split == "test"}
    result = []
    for index, item in enumerate(items):
        head = root(index)
        split = "drop" if head in tested and item.split != "test" else item.split
        result.append(replace(item, group=items[head].id if sizes[head] > 1 else "", split=split))
    return result


def build(out: Path) -> list[Item]:
    """Write the sounds below `out/files` and return their items.

    `extra` has: sample_rate, seconds, file (where the source has it), stamp (Tux: the stem of its stamp), abstract.
    """
    labels = read_labels()
    items: list[Item] = []
    waveforms: list[np.ndarray] = []
    for origin, clip in ((origin, clip) for origin, reader in ORIGINS.items() for clip in reader()):
        label = label_of(labels, origin, clip.name)
        if label is None:
            continue
        try:
            waveform = decode(clip.content, SOUND_RATE)
        except MediaError as error:
            print(f"sounds: left out: {origin} {clip.stem}: {error}")
            continue
        item = _item(origin, clip, label, len(waveform) / SOUND_RATE)
        if np.abs(waveform).max() < PEAK_FLOOR:  # Tux Paint's giraffe is silent, as giraffes are: nothing to encode
            item = replace(item, split="drop", extra={**item.extra, "silent": True})
        write_clip(out.parent / item.path, waveform, SOUND_RATE)
        items.append(item)
        waveforms.append(waveform)
    return _grouped(items, waveforms)


def main() -> None:
    """Build the corpus and say what is in it."""
    items = build(manifest.CORPORA / "sounds")
    write_manifest(manifest.CORPORA / "sounds/manifest.jsonl", items)
    for source, count in Counter(item.source for item in items).items():
        concepts = {item.concept for item in items if item.source == source}
        print(f"{source:24} {count:4} clips {len(concepts):4} concepts", flush=True)
    sources: dict[str, set[str]] = {}
    for item in items:
        if item.split != "drop" and "abstract" not in item.extra:
            sources.setdefault(item.concept, set()).add(item.source)
    shared = {concept for concept, names in sources.items() if len(names) > 1}
    clips = sum(item.concept in shared and item.split != "drop" for item in items)
    dropped = sum(item.split == "drop" for item in items)
    print(f"{len(sources)} concrete concepts, {len(shared)} of them in two sources or more ({clips} clips)")
    print(f"{dropped} clips dropped: silent, or copies of a test clip")


if __name__ == "__main__":
    main()
