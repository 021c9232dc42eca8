"""Build the labelled sound effects: Tux Paint, GCompris, Wesnoth, Widelands, Sonic Pi and the freedesktop theme.

    python -m training.corpora.sounds        # about a minute; build/corpora/sounds

File names become English captions by a table made by hand, `sound_labels.tsv`. Tux Paint's effects are the test set
and are never trained; a clip of another source that holds the same recording as one of them is set aside ("drop").
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from training.corpora import manifest
from training.corpora.clips import decode, write_clip
from training.corpora.fetch import package, unpacked
from training.corpora.manifest import Item, write_manifest
from training.corpora.rcc import read_rcc
from training.corpora.recordings import same_recording
from training.corpora.words import clean_caption

__all__ = ["PACKAGES", "SOUND_RATE", "VERSION", "Label", "build", "label_of", "read_labels"]

PACKAGE = {
    "tux": "tuxpaint-stamps-default",
    "gcompris": "gcompris-qt-data",
    "wesnoth": "wesnoth-1.16-data",
    "widelands": "widelands-data",
    "sonicpi": "sonic-pi-samples",
    "freedesktop": "sound-theme-freedesktop",
}
"""Short name of a source -> its package."""
PACKAGES = tuple(PACKAGE.values())
VERSION = 1
SOUND_RATE = 44_100
"""Sample rate of the stored sounds, in Hz."""
LABELS = Path(__file__).with_name("sound_labels.tsv")
SUFFIXES = (".ogg", ".oga", ".wav", ".flac")
PEAK_FLOOR = 1e-4
GCOMPRIS_SKIP = ("voices", "music/background")


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


@dataclass(frozen=True, slots=True)
class _Clip:
    """A sound as found: its source, the name that labels match, a unique stem, its bytes, its own captions."""

    source: str
    name: str
    stem: str
    content: bytes
    captions: tuple[str, ...] = ()


def _tux() -> Iterator[_Clip]:
    root = unpacked("tuxpaint-stamps-default") / "usr/share/tuxpaint/stamps"
    for path in sorted(root.rglob("*.ogg")):
        relative = path.relative_to(root).with_suffix("")
        text = path.with_suffix(".txt")
        spoken = "_desc" in path.stem or relative.parts[:2] in {("symbols", "alphabets"), ("symbols", "math")}
        if spoken or not text.exists():
            continue
        caption = clean_caption(text.read_text(encoding="utf-8").splitlines()[0])
        yield _Clip("tux", path.stem, relative.as_posix(), path.read_bytes(), (caption,))


def _gcompris() -> Iterator[_Clip]:
    for path in sorted((unpacked("gcompris-qt-data") / "usr/share/gcompris-qt/rcc").glob("*.rcc")):
        for name, content in sorted(read_rcc(path).items()):
            file = Path(name)
            if file.suffix in SUFFIXES and not any(part in name for part in GCOMPRIS_SKIP):
                folder = file.parent.name if path.stem == "core" else path.stem
                yield _Clip("gcompris", f"{folder}/{file.stem}", f"{path.stem}/{file.stem}", content)


def _folder(source: str, package_name: str, *folders: str) -> Iterator[_Clip]:
    root = unpacked(package_name)
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in SUFFIXES:
                # Wesnoth has mace.ogg beside mace.wav: only the rarer suffix stays in the name.
                stem = re.sub(r"\.(ogg|oga|flac)$", "", path.relative_to(root / folder).as_posix()).replace(".", "-")
                yield _Clip(source, path.stem, stem, path.read_bytes())


def _clips() -> Iterator[_Clip]:
    yield from _tux()
    yield from _gcompris()
    game = "usr/share/games/wesnoth/1.16"
    campaign = f"{game}/data/campaigns/World_Conquest/sounds"
    yield from _folder("wesnoth", "wesnoth-1.16-data", f"{game}/data/core/sounds", f"{game}/sounds", campaign)
    widelands = "usr/share/games/widelands/data"
    yield from _folder("widelands", "widelands-data", f"{widelands}/sound", f"{widelands}/world/critters")
    yield from _folder("sonicpi", "sonic-pi-samples", "usr/share/sonic-pi/samples")
    yield from _folder("freedesktop", "sound-theme-freedesktop", "usr/share/sounds/freedesktop/stereo")


@functools.cache
def _licence(source: str) -> str:
    return package(PACKAGE[source]).licence


def _item(clip: _Clip, label: Label, seconds: float) -> Item:
    extra: dict[str, object] = {"sample_rate": SOUND_RATE, "seconds": round(seconds, 3), "file": clip.stem}
    if label.abstract:
        extra["abstract"] = True
    if clip.source == "tux":
        extra["stamp"] = clip.stem
    source = f"sounds-{clip.source}"
    name = clip.stem.replace("/", "-").lower()
    return Item(
        id=f"{source}/{name}",
        modality="audio",
        path=f"sounds/files/{clip.source}/{name}.flac",
        captions=clip.captions + label.captions,
        concept=label.concept,
        source=source,
        licence=_licence(clip.source),
        split="test" if clip.source == "tux" else "train",
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
    for clip in _clips():
        label = label_of(labels, clip.source, clip.name)
        if label is None:
            continue
        waveform = decode(clip.content, SOUND_RATE)
        item = _item(clip, label, len(waveform) / SOUND_RATE)
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
