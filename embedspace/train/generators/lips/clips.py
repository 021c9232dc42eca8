"""Clips that lip reading learns from, prepared once: crops of mouths as bytes, what is said, who says it.

A folder of shards: `<name>.npy` (frames, 32, 32) uint8 of all clips of the shard one after the other, or (frames, 2 P)
float16 points; `<name>.jsonl` one clip a line; `<name>.shapes.npy` (frames,) uint8, the mouth shape of each picture,
where a builder knows it. A shard is there when its `.jsonl` is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedspace.errors import ConfigError
from embedspace.files import replacing, write_text
from embedspace.generate.lips.network import letters_of

__all__ = ["Clip", "ClipBatch", "LipClips", "read_clips", "write_shard"]


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """One clip to be written.

    Attributes:
        seen: (T, 32, 32) uint8 crops, or (T, 2 P) float16 points.
        text: What is said.
        split: "train", "val" or "test".
        shapes: (T,) uint8, the mouth shape of every picture; None where nobody knows.
        about: Further facts, such as who speaks.
    """

    seen: NDArray[Any]
    text: str
    split: str = "train"
    shapes: NDArray[np.uint8] | None = None
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class ClipBatch:
    """Clips as a network takes them.

    Attributes:
        seen: (B, T, 32, 32) float32 in [0, 1], or (B, T, 2 P).
        lengths: (B,) pictures of each.
        letters: (sum of their numbers,) classes of all texts one after the other.
        counts: (B,) letters of each.
        shapes: (B, T) int64, -1 where nobody knows.
        texts: What is said.
    """

    seen: Tensor
    lengths: Tensor
    letters: Tensor
    counts: Tensor
    shapes: Tensor
    texts: list[str]


def write_shard(folder: Path, name: str, clips: Sequence[Clip]) -> None:
    """Write clips into a folder, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / f"{name}.npy") as partial, partial.open("wb") as file:
        np.save(file, np.concatenate([clip.seen for clip in clips]))
    if all(clip.shapes is not None for clip in clips):
        with replacing(folder / f"{name}.shapes.npy") as partial, partial.open("wb") as file:
            np.save(file, np.concatenate([clip.shapes for clip in clips if clip.shapes is not None]))
    lines, start = [], 0
    for clip in clips:
        row = {**clip.about, "text": clip.text, "split": clip.split, "start": start, "frames": len(clip.seen)}
        lines.append(json.dumps(row, ensure_ascii=False))
        start += len(clip.seen)
    write_text(folder / f"{name}.jsonl", "\n".join(lines) + "\n")


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """A clip of a shard: where its pictures lie, and what is said."""

    seen: NDArray[Any]
    shapes: NDArray[np.uint8] | None
    start: int
    frames: int
    text: str
    split: str


class LipClips:
    """Clips of one split, shortest first; their pictures stay on disk until they are asked for."""

    def __init__(self, rows: Iterable[_Row]) -> None:
        self.rows = sorted(rows, key=lambda row: row.frames)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.rows)

    @property
    def texts(self) -> list[str]:
        """What is said in each."""
        return [row.text for row in self.rows]

    @property
    def shape_kinds(self) -> int:
        """How many kinds of mouth shapes the clips tell, 0 where none does."""
        return max((int(row.shapes.max()) + 1 for row in self.rows if row.shapes is not None), default=0)

    def draw(self, size: int, generator: torch.Generator) -> list[int]:
        """Return the places of `size` clips of about one length."""
        span = min(len(self), 4 * size)
        first = int(torch.randint(len(self) - span + 1, (1,), generator=generator))
        return [first + int(k) for k in torch.randperm(span, generator=generator)[:size]]

    def batch(self, places: Sequence[int], generator: torch.Generator | None = None) -> ClipBatch:
        """Return clips by their places; with a generator changed at random: mirrored, moved, lit, parts left out."""
        rows = [self.rows[k] for k in places]
        longest = max(row.frames for row in rows)
        shape = rows[0].seen.shape[1:]
        seen = torch.zeros(len(rows), longest, *shape)
        shapes = torch.full((len(rows), longest), -1)
        for k, row in enumerate(rows):
            part = torch.from_numpy(np.array(row.seen[row.start : row.start + row.frames], np.float32))
            if len(shape) == 2:
                part /= 255
            seen[k, : row.frames] = part if generator is None else _changed(part, generator)
            if row.shapes is not None:
                shapes[k, : row.frames] = torch.from_numpy(
                    row.shapes[row.start : row.start + row.frames].astype(np.int64)
                )
        letters = [letters_of(row.text) for row in rows]
        return ClipBatch(
            seen,
            torch.tensor([row.frames for row in rows]),
            torch.tensor([one for each in letters for one in each], dtype=torch.long),
            torch.tensor([len(each) for each in letters]),
            shapes,
            [row.text for row in rows],
        )


def _changed(part: Tensor, generator: torch.Generator) -> Tensor:
    """Return a clip (T, ...) a little otherwise."""
    draw = torch.rand(7, generator=generator)
    if part.ndim == 3:
        if draw[0] < 0.5:
            part = part.flip(2)
        right, down = int(draw[1] * 5) - 2, int(draw[2] * 5) - 2
        padded = torch.nn.functional.pad(part[:, None], (2, 2, 2, 2), mode="replicate")[:, 0]
        part = padded[:, 2 + down : 34 + down, 2 + right : 34 + right]
        part = (part * (0.7 + 0.6 * draw[3]) + 0.2 * (draw[4] - 0.5)).clamp(0, 1)
    if draw[5] < 0.5:  # some pictures are hidden, so that what stands around them is read, too
        length = 1 + int(draw[6] * 4)
        first = int(torch.randint(max(1, len(part) - length), (1,), generator=generator))
        part = part.clone()
        part[first : first + length] = part.mean(dim=0)
    return part


def read_clips(*folders: Path) -> dict[str, LipClips]:
    """Return split -> clips of all shards of some folders.

    Raises:
        ConfigError: If there are none, or a shard is damaged.
    """
    found: dict[str, list[_Row]] = {}
    for listing in (path for folder in folders for path in sorted(folder.glob("*.jsonl"))):
        pictures, labels = listing.with_suffix(".npy"), listing.with_suffix(".shapes.npy")
        try:
            seen = np.load(pictures, mmap_mode="r")
            shapes = np.load(labels) if labels.exists() else None
            for line in listing.read_text("utf-8").splitlines():
                row = json.loads(line)
                one = _Row(seen, shapes, row["start"], row["frames"], row["text"], row["split"])
                if one.start + one.frames > len(seen):
                    raise ValueError("shorter than its listing")
                if letters_of(one.text):
                    found.setdefault(one.split, []).append(one)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{listing}: damaged shard of clips ({error}); remove it and prepare again") from error
    if not found.get("train"):
        names = ", ".join(map(str, folders))
        raise ConfigError(f"{names}: no clips to learn from; build talking faces, or name videos that show one face")
    return {split: LipClips(rows) for split, rows in found.items()}
