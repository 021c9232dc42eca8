"""The one manifest format: a JSONL file a source, one `Item` a line."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["CORPORA", "Item", "read_manifest", "write_manifest"]

CORPORA = Path(os.environ.get("EMBEDSPACE_CORPORA", "build/corpora"))
"""Where built corpora live; `EMBEDSPACE_CORPORA` moves it."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a corpus.

    Attributes:
        id: Unique over all corpora: "<source>/<stem>".
        modality: "image", "audio", "text", "speech" or "video".
        path: File, relative to the corpora folder; empty for text.
        text: The text itself (modality text).
        captions: English captions, best first; every one is true of the item.
        keywords: Weaker words about the item.
        concept: Normalised name of what it shows; the same string in every source.
        source: Name of the corpus ("stamps", "openclipart", ...).
        licence: SPDX expression where there is one.
        speaker: Who speaks ("piper:joe", "human:stamps:fr"), empty elsewhere.
        language: BCP 47 code of what is spoken or written.
        group: Items with the same non-empty group are near-duplicates or the same thing: one side of every split.
        split: "train", "val" or "test".
        extra: Further JSON-able facts.
    """

    id: str
    modality: str
    path: str = ""
    text: str = ""
    captions: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    concept: str = ""
    source: str = ""
    licence: str = ""
    speaker: str = ""
    language: str = "en"
    group: str = ""
    split: str = "train"
    extra: dict[str, Any] = field(default_factory=dict)


def write_manifest(path: Path, items: Iterable[Item]) -> int:
    """Write items atomically, leaving out empty fields; returns how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    count = 0
    with partial.open("w", encoding="utf-8") as file:
        for item in items:
            row = {key: value for key, value in dataclasses.asdict(item).items() if value not in ("", (), {})}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    partial.replace(path)
    return count


def read_manifest(path: Path) -> Iterator[Item]:
    """Yield the items of a manifest; an unknown field is an error."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            for key in ("captions", "keywords"):
                row[key] = tuple(row.get(key, ()))
            yield Item(**row)
